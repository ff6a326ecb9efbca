package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
)

// harbor is the REST API of a Harbor, of which nothing is asked but GET.
type harbor struct {
	base               string // "https://harbor.example.com"
	username, password string
	client             *http.Client
	pause              time.Duration // before a request is sent again; twice as long each time
}

const (
	harborTries   = 5        // a restart of Harbor's core behind its nginx takes some seconds
	harborPage    = 100      // the most that Harbor has on a page
	harborPages   = 10_000   // a million of anything is a server that does not count
	harborMost    = 32 << 20 // bytes of an answer: a page of a hundred projects is a hundredth of that
	harborTimeout = time.Minute
)

// harborError is an answer of Harbor that is none of what was asked for.
type harborError struct {
	path   string
	status int
	said   string // by Harbor; may be empty
}

// Error says what was asked and how it was answered.
func (e *harborError) Error() string {
	text := fmt.Sprintf("GET %s: %d %s", e.path, e.status, http.StatusText(e.status))
	if e.said != "" {
		text += ": " + e.said
	}
	return text
}

// unreadable reports whether an error means that this part of Harbor is not for whoever asks, or not in
// this version of it, while the rest may well be.
func unreadable(err error) (*harborError, bool) {
	e, ok := errors.AsType[*harborError](err)
	return e, ok && slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusPreconditionFailed, http.StatusNotImplemented}, e.status)
}

// openHarbor makes a client of the Harbor at a URL. ca is the text of the authorities that are trusted
// beside the system's, nil for none.
func openHarbor(at string, insecure bool, ca []byte) (*harbor, error) {
	u, err := url.Parse(at)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || !host.MatchString(strings.ToLower(u.Host)):
		// It is not quoted: it may hold a password.
		return nil, errors.New("--url is not the URL of a server; write scheme and host, such as https://harbor.example.com")
	case u.User != nil:
		return nil, errors.New("--url holds credentials; give them as --user and --password-file")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("--url has more than scheme and host; write %s://%s", u.Scheme, u.Host)
	case u.Scheme == "http" && !insecure && !private(at, nil):
		return nil, fmt.Errorf("the password would go to %s in clear text; write https://, or give --insecure if that is meant", u.Host)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if ca != nil {
		if trust.RootCAs, err = x509.SystemCertPool(); err != nil {
			trust.RootCAs = x509.NewCertPool()
		}
		if !trust.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New(`--ca: there is no certificate in the file; name a PEM file with "BEGIN CERTIFICATE" in it`)
		}
	}
	return &harbor{
		base:  u.Scheme + "://" + strings.ToLower(u.Host),
		pause: 250 * time.Millisecond,
		client: &http.Client{
			Timeout:   harborTimeout,
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true},
			// Where Harbor sends a browser to, the password has not been given for.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// get reads the answer to a path below /api/v2.0 into into, which an empty body leaves as it is. What
// breaks is asked for again, and so is what Harbor was too busy for.
func (h *harbor) get(ctx context.Context, path string, into any) (http.Header, error) {
	wait := h.pause
	for try := 1; ; try++ {
		header, err := h.once(ctx, path, into)
		if err == nil || try == harborTries || !transient(err) {
			return header, err
		}
		if after, err := strconv.Atoi(header.Get("Retry-After")); err == nil {
			wait = max(wait, min(time.Duration(after)*time.Second, time.Minute))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		wait *= 2
	}
}

// permanentError is one that the next request would meet as well.
type permanentError struct{ error }

// transient reports whether an error may be gone when the same is asked again.
func transient(err error) bool {
	if _, ok := errors.AsType[permanentError](err); ok || errors.Is(err, context.Canceled) {
		return false
	}
	if e, ok := errors.AsType[*harborError](err); ok {
		return e.status == http.StatusTooManyRequests || e.status >= 500 && e.status != http.StatusNotImplemented
	}
	return true
}

func (h *harbor) once(ctx context.Context, path string, into any) (http.Header, error) {
	path = "/api/v2.0" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+path, nil)
	if err != nil {
		return nil, permanentError{err}
	}
	req.SetBasicAuth(h.username, h.password)
	req.Header.Set("Accept", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, h.explained(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, harborMost+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("GET %s: the answer breaks off: %w", path, err)
	case len(body) > harborMost:
		return nil, permanentError{fmt.Errorf("GET %s: the answer is longer than %s", path, bytesText(harborMost))}
	case resp.StatusCode/100 == 3:
		to, _ := resp.Location() // nil: it does not say
		return nil, permanentError{fmt.Errorf("%s sends %s on to %s; give its real address to --url", h.base, path, oneLine(fmt.Sprint(to)))}
	case resp.StatusCode != http.StatusOK:
		return resp.Header, &harborError{path, resp.StatusCode, saidBy(resp, body)}
	case len(body) == 0:
		return resp.Header, nil // a schedule that nobody has set
	}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media == "text/html" {
		return nil, permanentError{fmt.Errorf("%s answers %s with a web page; --url is not that of a Harbor, or a sign-in is in front of it that the API cannot pass", h.base, path)}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return nil, permanentError{fmt.Errorf("%s answers %s with something that is not Harbor's: %w", h.base, path, err)}
	}
	return resp.Header, nil
}

// saidBy is what Harbor says is wrong.
func saidBy(resp *http.Response, body []byte) string {
	var said struct {
		Errors []struct{ Message string }
	}
	if json.Unmarshal(body, &said) != nil || len(said.Errors) == 0 {
		return ""
	}
	return registry.Clip(oneLine(said.Errors[0].Message))
}

// explained is why a server could not be asked, and what to do.
func (h *harbor) explained(err error) error {
	if lookup, ok := errors.AsType[*net.DNSError](err); ok && lookup.IsNotFound {
		return permanentError{fmt.Errorf("%w; is the host in --url spelt right?", err)}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return permanentError{fmt.Errorf("%w; give the PEM file of the authority with --ca, or take any certificate with --insecure", err)}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return permanentError{fmt.Errorf("%w; give the name that is in its certificate to --url, or take any with --insecure", err)}
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return permanentError{fmt.Errorf("%w; it speaks no TLS at this port: write http:// if that is meant", err)}
	}
	return err
}

// pages reads all of a list.
func pages[T any](ctx context.Context, h *harbor, path string) ([]T, error) {
	var all []T
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for page := range harborPages {
		var some []T
		header, err := h.get(ctx, fmt.Sprintf("%s%spage=%d&page_size=%d", path, separator, page+1, harborPage), &some)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		total, err := strconv.Atoi(header.Get("X-Total-Count"))
		counted := err == nil
		if len(some) == 0 || counted && len(all) >= total || !counted && len(some) < harborPage {
			return all, nil
		}
	}
	return nil, fmt.Errorf("GET /api/v2.0%s: %d pages are not all; is there something in front of Harbor that drops \"page\"?", path, harborPages)
}

// oneLine is text of somebody else as it may stand in a comment, a list or a message.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' || c == '\ufeff' {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}
