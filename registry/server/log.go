package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"roadstead/registry"
)

// clientGone is the status in the log of a request whose client did not wait for the end. No
// client ever sees it; the number is nginx's.
const clientGone = 499

// errStopping ends the requests that a drain does not wait for any longer.
var errStopping = errors.New("the server is stopping")

// panicError is what a panic becomes.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v: %s", e.value, e.stack) }

// finish ends a request, however it went: the client is told, or cut off where telling comes
// too late, and then the request is counted and logged. Being deferred, it sees panics too.
func (s *Server) finish(res *response, r *http.Request, start time.Time) {
	if p := recover(); p == http.ErrAbortHandler {
		res.err = http.ErrAbortHandler
	} else if p != nil {
		res.err = &panicError{value: p, stack: debug.Stack()}
	}
	err, level, how := res.err, slog.LevelInfo, ""
	_, panicked := errors.AsType[*panicError](err)
	lost := res.writeErr
	if lost == nil && res.push != nil {
		lost = res.push.lost
	}
	stopping := context.Cause(r.Context()) == errStopping
	switch {
	case err == nil:
		res.commit()
		if res.target.kind == ping {
			level = slog.LevelDebug
		}
	case panicked:
		s.counters.panics.Add(1)
		level, how, res.status = slog.LevelError, cut, http.StatusInternalServerError
	case !stopping && (lost != nil || r.Context().Err() != nil):
		if errors.Is(lost, os.ErrDeadlineExceeded) {
			s.counters.stalled.Add(1)
		} else {
			err = nil // a client that leaves is nothing to explain
		}
		how, res.status = gone, clientGone
	case !res.began:
		if res.refuse(err); res.status == http.StatusInternalServerError {
			level = slog.LevelError
		}
	default:
		level, how = slog.LevelWarn, cut
	}
	if !res.http1 {
		// net/http sends what it has gathered when we have returned, and waits for a window.
		res.deadline(time.Now().Add(s.config.Stall))
	}
	s.count(res, how)
	s.log(res, r, level, err, time.Since(start))
	s.tell(res, r, start, err)
	if res.trace.Span != nil {
		s.trace(res, r, how, err)
	}
	if how != "" {
		// After the first byte, breaking the connection (the stream on HTTP/2) is the only way
		// to say that the rest will not come: a body that ends early must not look whole.
		panic(http.ErrAbortHandler)
	}
}

// tell tells of a request of the registry API.
func (s *Server) tell(res *response, r *http.Request, start time.Time, err error) {
	t := &res.target
	if s.config.Asked == nil || t.kind == other {
		return
	}
	ns, _ := param(r.URL.RawQuery, "ns")
	s.config.Asked(registry.Asked{
		At: start, Remote: r.RemoteAddr, Agent: r.UserAgent(), User: res.owner(), Kind: names[t.kind],
		Repo: res.repo, Ref: cmp.Or(t.tag, string(t.digest)), NS: ns, Status: res.status, Outcome: res.trace.Outcome,
		Known: r.Header.Get("Authorization") != "", Err: err,
	})
}

// log writes the line of a request.
func (s *Server) log(res *response, r *http.Request, level slog.Level, err error, took time.Duration) {
	ctx := r.Context()
	if !s.config.Log.Enabled(ctx, level) {
		return
	}
	t := &res.target
	attrs := make([]slog.Attr, 0, 14)
	attrs = append(attrs, slog.String("method", printable(r.Method, 20)), slog.String("kind", names[t.kind]))
	if res.repo.Name != "" {
		attrs = append(attrs, slog.String("repo", res.repo.String()))
	} else {
		attrs = append(attrs, slog.String("path", printable(r.URL.Path, 300)))
	}
	switch {
	case t.tag != "":
		attrs = append(attrs, slog.String("ref", t.tag))
	case t.digest != "":
		attrs = append(attrs, slog.String("ref", string(t.digest)))
	case t.id != "":
		attrs = append(attrs, slog.String("ref", printable(t.id, 80)))
	}
	if name := res.owner(); name != "" {
		attrs = append(attrs, slog.String("user", printable(name, 120)))
	}
	attrs = append(attrs, slog.Int("status", res.status), slog.Int64("bytes", res.bytes), slog.Duration("took", took))
	if res.trace.Outcome != "" {
		attrs = append(attrs, slog.String("outcome", string(res.trace.Outcome)))
	}
	if res.trace.Held != "" {
		attrs = append(attrs, slog.String("held", printable(res.trace.Held, 1000)))
	}
	if res.trace.Why != nil {
		attrs = append(attrs, slog.String("why", printable(res.trace.Why.Error(), 1000)))
	}
	attrs = append(attrs, slog.String("remote", r.RemoteAddr), slog.String("agent", printable(r.UserAgent(), 120)))
	if err != nil {
		attrs = append(attrs, slog.String("err", printable(err.Error(), 4000)))
	}
	s.config.Log.LogAttrs(ctx, level, "request", attrs...)
}

// printable makes text from outside fit for a line of a log, whatever handler writes it: it
// is cut to at most n bytes, and what is no printable ASCII becomes a question mark, so that
// it can neither begin a new record nor steer a terminal (FAULTS C12).
func printable(s string, n int) string {
	ok := len(s) <= n
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] >= ' ' && s[i] <= '~'
	}
	if ok {
		return s
	}
	s = s[:min(len(s), n)]
	return strings.Map(func(c rune) rune {
		if c >= ' ' && c <= '~' {
			return c
		}
		return '?'
	}, s)
}
