package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
)

// trouble is a Fault, and what follows from it for the next step.
type trouble struct {
	*registry.Fault
	again  bool // the same endpoint may answer otherwise in a moment
	status int  // of the answer that it was made of, or zero
	api    bool // that answer came from something that calls itself a registry
}

// Unwrap makes errors.As find the Fault.
func (t *trouble) Unwrap() error { return t.Fault }

// Reasons that go into faults, for the log.
var (
	errSilent = errors.New("nothing came in time")
	errDown   = errors.New("the host did not answer a moment ago")
	errLeft   = errors.New("upstream asked to be left alone until later")
)

// unavailable is upstream, or something on the way to it, giving no answer.
func (r *Registry) unavailable(err error) *trouble {
	return &trouble{Fault: &registry.Fault{Code: registry.Unavailable, Message: "upstream " + r.name + " does not answer", Err: err}}
}

// unexpected is an answer that makes no sense; what says what it is not ("a manifest").
func (r *Registry) unexpected(what string, err error) *trouble {
	return &trouble{Fault: &registry.Fault{Code: registry.Unavailable, Message: "upstream " + r.name + " sent something that is not " + what, Answered: true, Err: err}}
}

// forbidden is a request that we do not make, wherever upstream sends us.
func (r *Registry) forbidden(message string, err error) *trouble {
	return &trouble{Fault: &registry.Fault{Code: registry.Unavailable, Message: "upstream " + r.name + " " + message, Err: err}}
}

// denied is upstream saying no. The message names it, because the client did nothing wrong.
func (r *Registry) denied(message string, err error) *trouble {
	return &trouble{Fault: &registry.Fault{Code: registry.Denied, Message: "upstream " + r.name + " " + message, Err: err}}
}

func (r *Registry) throttled(after time.Duration, err error) *trouble {
	return &trouble{Fault: &registry.Fault{Code: registry.Throttled, Message: "upstream " + r.name + " allows no more requests for now", RetryAfter: after, Err: err}}
}

// calledOff is the caller's own end: its deadline, or that it does not want an answer any
// more.
func (r *Registry) calledOff(err error) *trouble {
	t := r.unavailable(err)
	t.Timeout = errors.Is(err, context.DeadlineExceeded)
	return t
}

// verdict turns an answer that is not what was asked for into an error, and lets its
// connection be used again.
func (r *Registry) verdict(res *http.Response, unknown registry.Code) *trouble {
	code := errorCode(res)
	err := statusError{status: res.StatusCode, code: code, host: res.Request.URL.Host}
	var t *trouble
	switch status := res.StatusCode; {
	case status == http.StatusNotFound && code == registry.NameUnknown:
		t = &trouble{Fault: &registry.Fault{Code: registry.NameUnknown, Err: err}}
	case status == http.StatusNotFound || status == http.StatusGone:
		t = &trouble{Fault: &registry.Fault{Code: unknown, Err: err}}
	case status == http.StatusUnauthorized:
		t = r.denied("wants other credentials than it was given", err)
	case status == http.StatusForbidden, status == http.StatusUnavailableForLegalReasons:
		t = r.denied("denies access", err)
	case status == http.StatusTooManyRequests:
		t = r.throttled(retryAfter(res.Header, time.Now()), err)
	case status >= 500 || status == http.StatusRequestTimeout:
		t = r.unavailable(err)
		t.again = true
		t.RetryAfter = retryAfter(res.Header, time.Now())
	default:
		t = r.unexpected("an answer", err)
	}
	t.status = res.StatusCode
	t.api = res.Header.Get("Docker-Distribution-Api-Version") != ""
	return t
}

// statusError is an answer's status, for the log. The host is there and never the rest of the
// URL: it may be signed.
type statusError struct {
	status int
	code   registry.Code
	host   string
}

func (e statusError) Error() string {
	text := e.host + " answered " + strconv.Itoa(e.status)
	if e.code != "" {
		text += " " + string(e.code)
	}
	return text
}

// errorCode reads the code of an OCI error answer and closes it. Its message is left alone:
// it may repeat what was sent.
func errorCode(res *http.Response) registry.Code {
	body := drain(res)
	var answer struct{ Errors []struct{ Code string } }
	if json.Unmarshal(body, &answer) != nil || len(answer.Errors) == 0 {
		return ""
	}
	code := answer.Errors[0].Code
	if len(code) > 40 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
		return ""
	}
	return registry.Code(code)
}

// drain reads a small body to its end, so that the connection can be used again, and closes
// it. A large or slow one costs the connection instead.
func drain(res *http.Response) []byte {
	defer res.Body.Close()
	const most = 16 << 10 // error answers are some hundred bytes
	if res.ContentLength > most {
		return nil
	}
	if s, ok := res.Body.(*stream); ok {
		s.hurry(time.Second)
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, most))
	return b
}

// retryAfter reads when to ask again: seconds or a date (RFC 9110 §10.2.3), or a time in
// seconds since 1970, as Docker Hub sends it. Zero: it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	// Who says more than this is mistaken, and an hour costs nobody much.
	const longest = time.Hour
	text := strings.TrimSpace(h.Get("Retry-After"))
	var after time.Duration
	if n, ok := number(text); ok {
		const longAgo = 1e9 // as seconds 31 years, as a date 2001
		switch {
		case n >= longAgo:
			after = time.Unix(n, 0).Sub(now)
		default:
			after = time.Duration(n) * time.Second
		}
	} else if date, err := http.ParseTime(text); err == nil {
		after = date.Sub(now)
	}
	return min(max(after, 0), longest)
}
