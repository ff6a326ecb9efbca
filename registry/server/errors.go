package server

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"roadstead/registry"
)

// Codes that only a server says, beside those of the vocabulary.
const (
	preconditionFailed registry.Code = "PRECONDITION_FAILED"
	uriTooLong         registry.Code = "URI_TOO_LONG"
	unknown            registry.Code = "UNKNOWN"
)

// retryAfter is the advice that goes with an error that may pass when nothing better is
// known. An upstream that recovers is found within a second; five seconds keep a cluster of
// waiting nodes from asking more often than that helps, and are short beside any pull.
const retryAfter = 5 * time.Second

// verdicts say for each code which status it is and what to tell when nobody said more.
// 502 is not among them: containerd never retries it (RKE2 §2).
var verdicts = []struct {
	code    registry.Code
	status  int
	message string
}{
	{registry.BlobUnknown, http.StatusNotFound, "the repository has no such blob"},
	{registry.BlobUploadUnknown, http.StatusNotFound, "there is no such upload"},
	{registry.ManifestBlobUnknown, http.StatusNotFound, "the manifest refers to something that the repository does not have"},
	{registry.ManifestUnknown, http.StatusNotFound, "the repository has no such manifest"},
	{registry.NameUnknown, http.StatusNotFound, "there is no such repository"},
	{registry.BlobUploadInvalid, http.StatusBadRequest, "the upload is not valid"},
	{registry.DigestInvalid, http.StatusBadRequest, "the digest is not valid"},
	{registry.ManifestInvalid, http.StatusBadRequest, "the manifest is not valid"},
	{registry.NameInvalid, http.StatusBadRequest, "the repository name is not valid"},
	{registry.SizeInvalid, http.StatusBadRequest, "the size is not valid"},
	{registry.TagInvalid, http.StatusBadRequest, "the tag is not valid"},
	{registry.PaginationInvalid, http.StatusBadRequest, "the number of entries is not valid"},
	{registry.Unauthorized, http.StatusUnauthorized, "credentials are needed"},
	{registry.Denied, http.StatusForbidden, "this is not allowed"},
	{registry.Unsupported, http.StatusMethodNotAllowed, "this is not supported"},
	{registry.TooManyRequests, http.StatusTooManyRequests, "there are too many requests"},
	{registry.Throttled, http.StatusTooManyRequests, "upstream limits the rate of requests"},
	{registry.Unavailable, http.StatusServiceUnavailable, "it cannot be had now: try again later"},
	{registry.RangeInvalid, http.StatusRequestedRangeNotSatisfiable, "the range is not valid"},
	{registry.Conflict, http.StatusConflict, "another request is at the same upload"},
	{registry.TooLarge, http.StatusRequestEntityTooLarge, "it is too large"},
	{registry.Full, http.StatusInsufficientStorage, "the storage has no room for it"},
	{preconditionFailed, http.StatusPreconditionFailed, "the condition is not met"},
	{uriTooLong, http.StatusRequestURITooLong, "the request is too long"},
}

// verdict is what a client is told of an error.
type verdict struct {
	status  int
	code    registry.Code
	message string
	retry   time.Duration // zero: no Retry-After
}

// judge turns an error into a status, a code and a message. Nothing else does. What it does
// not know is an internal error, of which the client learns nothing.
func judge(err error) verdict {
	fault, ok := errors.AsType[*registry.Fault](err)
	if !ok {
		fault = &registry.Fault{Code: codeOf(err)}
		fault.Timeout = errors.Is(err, context.DeadlineExceeded)
	}
	v := verdict{status: http.StatusInternalServerError, code: unknown, message: "internal error"}
	for _, row := range verdicts {
		if row.code == fault.Code {
			v = verdict{status: row.status, code: row.code, message: row.message}
			if fault.Message != "" {
				v.message = fault.Message
			}
		}
	}
	if v.code == registry.Unavailable && fault.Timeout {
		v.status = http.StatusGatewayTimeout
	}
	if v.code == registry.Throttled {
		v.code = registry.TooManyRequests // the specification's word for the same
	}
	switch v.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		v.retry = retryAfter
		if fault.RetryAfter > 0 {
			v.retry = fault.RetryAfter
		}
	}
	return v
}

// codeOf finds the code of an error that is no Fault.
func codeOf(err error) registry.Code {
	for _, row := range verdicts {
		if errors.Is(err, row.code) {
			return row.code
		}
	}
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return registry.Unavailable // it passes: files get closed, and a server that ends is followed by one that starts
	}
	return unknown
}

// refuse answers with err in the form of the OCI distribution specification 1.1, "Error
// Codes".
func (res *response) refuse(err error) {
	v := judge(err)
	header := res.Header()
	clear(header) // of what was prepared for an answer without an error
	header["Docker-Distribution-Api-Version"] = apiVersion
	header["X-Content-Type-Options"] = nosniff
	if res.close {
		header["Connection"] = closing
	}
	if v.retry > 0 {
		seconds := (v.retry + time.Second - 1) / time.Second
		header["Retry-After"] = []string{strconv.FormatInt(int64(seconds), 10)}
	}
	switch v.status {
	case http.StatusMethodNotAllowed:
		header["Allow"] = []string{res.server.allow(&res.target)}
	case http.StatusUnauthorized:
		if c, ok := errors.AsType[*challenge](err); ok {
			header["Www-Authenticate"] = []string{c.header}
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if res.push != nil && res.push.upload != nil {
			res.progress() // a client goes on from there
			break
		}
		header["Content-Range"] = []string{"bytes */" + strconv.FormatInt(res.size, 10)}
	}
	res.serving = false
	res.status = v.status
	header["Content-Type"] = []string{"application/json"}
	if res.head {
		res.commit()
		return
	}
	type entry struct {
		Code    registry.Code `json:"code"`
		Message string        `json:"message"`
	}
	body, err := json.Marshal(struct {
		Errors []entry `json:"errors"`
	}{[]entry{{v.code, v.message}}})
	if err != nil {
		panic(err) // two strings marshal
	}
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	// The client may be gone, and then there is nobody to tell.
	_, _ = res.Write(body)
}

// clientFault reports whether err is about the connection to the client, as opposed to the
// content that is sent over it.
func clientFault(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) ||
		errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.ENOTCONN) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed)
}
