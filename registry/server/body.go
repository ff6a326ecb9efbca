package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"roadstead/registry"
)

// body is the body of a request that pushes something. It may take as long as it likes but must
// not stand still (FAULTS D2).
type body struct {
	src   io.Reader
	res   *response
	late  time.Duration // how long it may stand still where no conn sees to that, else zero
	due   time.Time     // then
	n     int64         // how much has been read
	exact int64         // how much there must be; -1: any amount
	err   error         // how it ended
}

// take begins to read the body of r. Whoever takes it calls leave.
func (res *response) take(r *http.Request) *body {
	b := &body{src: r.Body, res: res, exact: -1}
	if r.Body == nil {
		b.src = http.NoBody
	}
	if c := connOf(r.Context()); c != nil && res.http1 {
		c.persist()
		return b
	}
	b.late = res.server.config.Stall
	return b
}

// Read reads some of it.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.late > 0 {
		b.wait()
	}
	n, err := b.src.Read(p)
	if b.exact >= 0 {
		switch left := b.exact - b.n; {
		case int64(n) > left:
			n, err = int(left), invalid(registry.SizeInvalid, "the body is longer than its Content-Range")
		case err == io.EOF && int64(n) < left:
			err = invalid(registry.SizeInvalid, "the body is shorter than its Content-Range")
		}
	}
	b.n += int64(n)
	b.res.push.received += int64(n)
	b.err = err
	return n, err
}

// wait sets the deadline of one read, for HTTP/2 that of the stream. A frame, which has at most
// 16 KiB, arrives in this time or the stream ends.
func (b *body) wait() {
	if now := time.Now(); b.due.Sub(now) < b.late {
		b.due = now.Add(b.late + b.late/4)
		b.deadline(b.due)
	}
}

func (b *body) deadline(t time.Time) {
	// Only a test's recorder knows no deadlines, and it has all of a body at once.
	_ = http.NewResponseController(b.res.w).SetReadDeadline(t)
}

// leave ends the reading, wherever it is.
func (b *body) leave(r *http.Request) {
	switch {
	case !b.res.http1:
		b.deadline(time.Time{})
	case b.err != io.EOF:
		b.res.server.spare(b.res, r)
	}
}

// fault is why the body could not be read to its end, or nil. It comes before any error of
// whoever was given the body.
func (b *body) fault() error {
	switch _, told := errors.AsType[*registry.Fault](b.err); {
	case b.err == nil || b.err == io.EOF:
		return nil
	case told:
		return b.err
	case clientFault(b.err) || errors.Is(b.err, os.ErrDeadlineExceeded) || errors.Is(b.err, context.Canceled):
		b.res.push.lost = b.err
		return fmt.Errorf("read the body after %d bytes: %w", b.n, b.err)
	}
	return &registry.Fault{Code: registry.SizeInvalid, Message: "the body broke off before its end: send it again, or what is missing of it", Err: b.err}
}
