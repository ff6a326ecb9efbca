package api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
)

var (
	nothing    error = &registry.Fault{Code: registry.NameUnknown, Message: "there is nothing at this path"}
	notAllowed error = &registry.Fault{Code: registry.Unsupported, Message: "the method is not allowed here"}
)

// verdicts say for each code which status it is, how Harbor calls it, and what to tell when nobody
// said more.
var verdicts = []struct {
	code    registry.Code
	status  int
	name    string
	message string
}{
	{access.Invalid, http.StatusBadRequest, "BAD_REQUEST", "the request is not valid"},
	{estate.Unhealthy, http.StatusBadRequest, "BAD_REQUEST", "the registry does not answer as one"},
	{registry.DigestInvalid, http.StatusBadRequest, "BAD_REQUEST", "the digest is not valid"},
	{registry.NameInvalid, http.StatusBadRequest, "BAD_REQUEST", "the name is not valid"},
	{registry.TagInvalid, http.StatusBadRequest, "BAD_REQUEST", "the tag is not valid"},
	{registry.Unauthorized, http.StatusUnauthorized, "UNAUTHORIZED", "log in first"},
	{registry.Denied, http.StatusForbidden, "FORBIDDEN", "this is not allowed"},
	{registry.NameUnknown, http.StatusNotFound, "NOT_FOUND", "there is no such thing"},
	{registry.ManifestUnknown, http.StatusNotFound, "NOT_FOUND", "there is no such artifact"},
	{registry.BlobUnknown, http.StatusNotFound, "NOT_FOUND", "there is no such content"},
	{registry.Unsupported, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "this is not supported"},
	{registry.Conflict, http.StatusConflict, "CONFLICT", "there is one already"},
	{estate.InUse, http.StatusPreconditionFailed, "PRECONDITION", "it is in use"},
	{registry.TooLarge, http.StatusRequestEntityTooLarge, "REQUEST_ENTITY_TOO_LARGE", "it is too large"},
	{registry.TooManyRequests, http.StatusTooManyRequests, "TOO_MANY_REQUESTS", "there are too many requests"},
	{registry.Throttled, http.StatusTooManyRequests, "TOO_MANY_REQUESTS", "upstream limits the rate of requests"},
	{registry.Unavailable, http.StatusServiceUnavailable, "SERVICE_UNAVAILABLE", "it cannot be answered now: try again later"},
	{registry.Full, http.StatusInsufficientStorage, "INSUFFICIENT_STORAGE", "the storage has no room for it"},
}

// retryAfter is the advice where nothing better is known, as the registry API gives it.
const retryAfter = 5 * time.Second

// refuse answers with an error, as Harbor has them. Nothing else does. Of what it does not know the
// client learns nothing, and the log all.
func (c *call) refuse(err error) {
	status, name, message := http.StatusInternalServerError, "UNKNOWN", "internal error"
	fault, ok := errors.AsType[*registry.Fault](err)
	if !ok {
		fault = &registry.Fault{}
		var code registry.Code
		if errors.As(err, &code) {
			fault.Code = code
		}
	}
	for _, row := range verdicts {
		if row.code == fault.Code {
			status, name, message = row.status, row.name, row.message
			if fault.Message != "" {
				message = fault.Message
			}
		}
	}
	h := c.w.Header()
	switch status {
	case http.StatusInternalServerError:
		c.log.Error("API call failed", "method", c.r.Method, "path", c.r.URL.Path, "err", err)
	case http.StatusUnauthorized:
		if c.asksForLogin() {
			h.Set("WWW-Authenticate", `Basic realm="harbor"`)
		}
	case http.StatusMethodNotAllowed:
		h.Set("Allow", c.allowed())
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		wait := fault.RetryAfter
		if wait <= 0 {
			wait = retryAfter
		}
		h.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	c.write(status, struct {
		Errors []entry `json:"errors"`
	}{[]entry{{name, message}}})
}

// asksForLogin reports whether a 401 has a challenge. In a page of ours it would make the browser ask
// for a password in a window of its own.
func (c *call) asksForLogin() bool {
	mode := c.r.Header.Get("Sec-Fetch-Mode")
	return c.r.Header.Get("Cookie") == "" && (mode == "" || mode == "navigate") && c.r.Header.Get("X-Requested-With") == ""
}
