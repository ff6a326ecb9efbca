package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
)

// call is a request that is being answered.
type call struct {
	*API
	w   http.ResponseWriter
	r   *http.Request
	who registry.Principal
}

// enter finds out who calls. Whatever changes something must not come from another site's page, which
// a browser sends with the cookie or the password that it has for us.
func (c *call) enter() error {
	who, _, err := c.access.Caller(c.r)
	if err != nil {
		return err
	}
	c.who = who
	if err := c.origin.Check(c.r); err != nil {
		return &registry.Fault{Code: registry.Denied, Message: "this came from the page of another site", Err: err}
	}
	return nil
}

func (c *call) ctx() context.Context { return c.r.Context() }

// known wants somebody, whoever it is.
func (c *call) known() error {
	if name, _, _, _ := c.access.Describe(c.who); name == "" {
		return &registry.Fault{Code: registry.Unauthorized, Message: "log in first: this is not for everybody"}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &registry.Fault{Code: access.Invalid, Message: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) error {
	return &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf(format, args...)}
}

// maxBody is the largest body, in bytes. A service account and a chain of certificates have some
// dozen KiB.
const maxBody = 1 << 20

// body reads the JSON of a request into a struct that has what the call takes and nothing else.
// Fields that it does not have are ignored: clients send those of their own structs.
func (c *call) body(into any) error {
	text, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &registry.Fault{Code: registry.TooLarge, Message: fmt.Sprintf("the body is longer than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return invalid("the body could not be read")
	}
	if err := json.Unmarshal(text, into); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return invalid("%s in the body is a %s and should be another type", registry.Clip(wrong.Field), wrong.Value)
		}
		return invalid("the body is not JSON")
	}
	return nil
}

// item is a part of the path, as it was before clients escaped it: some do so twice, so that a proxy
// on the way leaves a slash in it alone.
func (c *call) item(name string) string {
	text := chi.URLParam(c.r, name)
	for range 2 {
		if !strings.Contains(text, "%") {
			break
		}
		plain, err := url.PathUnescape(text)
		if err != nil {
			break // it is the name of nothing
		}
		text = plain
	}
	return text
}

// number is a part of the path that is the number of something of a kind.
func (c *call) number(name, kind string) (int64, error) {
	n, err := strconv.ParseInt(c.item(name), 10, 64)
	if err != nil || n <= 0 {
		return 0, invalid("%q is no number of a %s", registry.Clip(c.item(name)), kind)
	}
	return n, nil
}

// project is the project of the path: by its number, if it is one, unless the client says that it is
// a name.
func (c *call) project() estate.Ref {
	text := c.item("project")
	byName, _ := strconv.ParseBool(c.r.Header.Get("X-Is-Resource-Name"))
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 && !byName {
		return estate.Ref{ID: n}
	}
	return estate.Ref{Name: text}
}

// write answers with JSON.
func (c *call) write(status int, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(text) // the client may be gone
	}
	return nil
}

// encode is JSON with a line end. What means something in HTML is not escaped: no browser takes an
// answer of ours for a page (see ServeHTTP), and escaped it is six times as long.
func encode(v any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return text.Bytes(), err
}

func (c *call) ok(v any) error { return c.write(http.StatusOK, v) }

// done answers 200 without a body.
func (c *call) done() error {
	c.w.Header().Del("Content-Type")
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// root is where the API of Harbor is.
const root = "/api/v2.0"

// created answers 201 and says where the new thing is, as "/registries/7". v is its body; nil: none.
func (c *call) created(v any, format string, args ...any) error {
	c.w.Header().Set("Location", root+fmt.Sprintf(format, args...))
	if v != nil {
		return c.write(http.StatusCreated, v)
	}
	c.w.Header().Del("Content-Type")
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// text answers with text for people.
func (c *call) text(s string) error {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(s)))
	_, _ = io.WriteString(c.w, s) // the client may be gone
	return nil
}

// allowed are the methods that there are at the path of the request.
func (c *call) allowed() string {
	path := c.r.URL.RawPath
	if path == "" {
		path = c.r.URL.Path
	}
	var all []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		if c.mux.Match(chi.NewRouteContext(), method, path) {
			all = append(all, method)
		}
	}
	return strings.Join(all, ", ")
}

// stamp is a time as Harbor writes it: in UTC, to the millisecond.
type stamp time.Time

// MarshalJSON writes it.
func (s stamp) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}
