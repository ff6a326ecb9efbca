package server

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"time"

	"roadstead/registry"
)

// bufferSize is how much of a body is moved at a time that the kernel cannot send from a file:
// one with TLS, or from a reader that has no file. A stalled stream holds it beside the 32 KiB
// that any costs, 10 in net/http's buffers and most of the rest in the stack that writing a
// header takes. Twice as much would save a quarter of the processor time per byte.
const bufferSize = 16 << 10

// response is the http.ResponseWriter of one request. It knows what was asked and what has
// been sent, and it hides no power of net/http's: a file given to ReadFrom arrives at the
// connection as a file.
//
// The header leaves with the first byte of the body, so that an answer which fails before
// that can still say so.
type response struct {
	w      http.ResponseWriter
	server *Server
	head   bool // the request's method is HEAD
	http1  bool
	plain  bool // HTTP/1 without TLS: files go out by sendfile
	close  bool // the connection is to be closed afterwards

	start   time.Time // of the request
	serving bool      // http.ServeContent is at work
	began   bool      // the header has left

	target    target
	repo      registry.Repo      // once it is known
	named     bool               // its registry is, by ns
	elsewhere bool               // and no project stands for that
	principal registry.Principal // as repo; nil without Config.Access
	push      *push              // for a request that only a hosted project has; else nil
	trace     registry.Trace
	values    [3]string // of headers; here they cost no allocation each

	status   int   // as decided last; 0: not yet
	bytes    int64 // of the body that were sent
	size     int64 // of the whole content, when a range of it was asked for
	readErr  error // why the content could not be read
	writeErr error // why it could not be sent
	err      error // how it ended
}

// Header returns the header that will be sent.
func (res *response) Header() http.Header { return res.w.Header() }

// Unwrap is for http.ResponseController.
func (res *response) Unwrap() http.ResponseWriter { return res.w }

// WriteHeader decides the status.
func (res *response) WriteHeader(status int) {
	if res.status == 0 {
		res.status = status
	}
}

// commit sends the header.
func (res *response) commit() {
	if res.began {
		return
	}
	res.began = true
	if res.status == 0 {
		res.status = http.StatusOK
	}
	res.server.first(res)
	res.w.WriteHeader(res.status)
}

// Write sends part of a body.
func (res *response) Write(p []byte) (int, error) {
	if res.serving && res.status >= 400 {
		return len(p), nil // ServeContent's own words for an error; refuse has better ones
	}
	res.commit()
	var n int
	var err error
	if res.http1 {
		n, err = res.w.Write(p)
	} else {
		n, err = res.inTime(func() (int, error) { return res.w.Write(p) })
	}
	res.bytes += int64(n)
	if err != nil {
		res.writeErr = err
	}
	return n, err
}

// ReadFrom sends what src has. What http.ServeContent hands over is the content in an
// io.LimitedReader.
func (res *response) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: src, N: math.MaxInt64}
	}
	if to, ok := res.w.(io.ReaderFrom); ok && res.plain {
		if isFile(limited.R) {
			return res.sendFile(to, limited)
		}
		if content, ok := limited.R.(sectioned); ok {
			return res.sendSections(to, limited, content)
		}
	}
	return res.copy(limited)
}

// copy sends what src has by way of a buffer.
func (res *response) copy(src *io.LimitedReader) (sent int64, err error) {
	buf := res.server.buffers.Get().(*[bufferSize]byte)
	defer res.server.buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n == len(buf) && !res.began {
			// A long body fills packets without the header. Sending that from here takes 4 KiB
			// less stack than from below Write, and a stalled stream keeps all it ever took.
			res.commit()
			res.flush()
		}
		if n > 0 {
			m, err := res.Write(buf[:n])
			sent += int64(m)
			if err != nil {
				return sent, err
			}
			if n < len(buf) && src.N > 0 {
				// There is no more just now. What net/http holds back to make larger writes
				// of is what a client could have already: of a download the first bytes.
				res.flush()
			}
		}
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			res.readErr = err
			return sent, err
		}
	}
}

// sendFile lets the kernel move a file to the connection.
func (res *response) sendFile(to io.ReaderFrom, src *io.LimitedReader) (int64, error) {
	if !res.began {
		res.commit()
		// With the header gone, net/http does not look into the file for a content type.
		res.flush()
	}
	n, err := to.ReadFrom(src)
	res.bytes += n
	switch {
	case err == nil:
	case clientFault(err):
		res.writeErr = err
	default:
		res.readErr = err
	}
	return n, err
}

// sectioned is content that becomes readable bit by bit in a file, as a download does. It can
// be sent by the kernel too.
type sectioned interface {
	// Section waits until something can be read, and returns a file that stands at it with the
	// number of bytes, at most most of them and at least one, that are there. They count as
	// read when they are read from the file, which nobody else moves. Errors are those of Read;
	// errors.ErrUnsupported means that the rest comes by Read only.
	Section(most int64) (*os.File, int64, error)
}

// sendSections lets the kernel move sections of content to the connection as they come.
func (res *response) sendSections(to io.ReaderFrom, src *io.LimitedReader, content sectioned) (sent int64, err error) {
	for src.N > 0 {
		f, n, err := content.Section(src.N)
		if err == io.EOF {
			return sent, nil
		}
		if errors.Is(err, errors.ErrUnsupported) {
			m, err := res.copy(src)
			return sent + m, err
		}
		if err != nil {
			res.readErr = err
			return sent, err
		}
		m, err := res.sendFile(to, &io.LimitedReader{R: f, N: n})
		src.N -= m
		sent += m
		if err != nil || m < n {
			return sent, err
		}
	}
	return sent, nil
}

// flush sends what net/http has gathered. An error comes again with the next write.
func (res *response) flush() {
	f, ok := res.w.(http.Flusher)
	switch {
	case !ok:
	case res.http1:
		f.Flush()
	default:
		_, _ = res.inTime(func() (int, error) { f.Flush(); return 0, nil })
	}
}

// inTime runs a write to an HTTP/2 stream and resets the stream if it takes too long. A client
// that opens no window for a stream makes no write of the connection late, so that nothing is
// seen of it there (see conn).
func (res *response) inTime(write func() (int, error)) (int, error) {
	late := make(chan struct{})
	timer := time.AfterFunc(res.server.config.Stall, func() {
		defer close(late)
		res.deadline(time.Unix(1, 0)) // past, which net/http takes for now
	})
	n, err := write()
	if !timer.Stop() {
		<-late // the stream must not be touched after its handler has returned
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// deadline bounds what is left to be written to an HTTP/2 stream.
func (res *response) deadline(t time.Time) {
	// Only a test's recorder knows no deadlines, and it takes everything at once.
	_ = http.NewResponseController(res.w).SetWriteDeadline(t)
}

// json sends a small document.
func (res *response) json(mediaType string, body []byte) error {
	res.values = [...]string{mediaType, strconv.Itoa(len(body)), ""}
	header := res.Header()
	header["Content-Type"] = res.values[0:1:1]
	header["Content-Length"] = res.values[1:2:2]
	header["X-Content-Type-Options"] = nosniff
	if res.trace.Stale {
		header["Warning"] = stale
	}
	if res.head {
		return nil
	}
	_, err := res.Write(body)
	return err
}

// sent says how ServeContent went: it returns nothing, and ends a body that could not be
// read as if that were its end.
func (res *response) sent() error {
	switch {
	case res.status == http.StatusRequestedRangeNotSatisfiable:
		return invalid(registry.RangeInvalid, "the range is not in the content")
	case res.status == http.StatusPreconditionFailed:
		return invalid(preconditionFailed, "the content is not the one that was asked for")
	case res.status >= 400:
		return fmt.Errorf("serve content: status %d", res.status)
	case res.head || res.status == http.StatusNotModified:
		return nil
	}
	length, err := strconv.ParseInt(res.Header().Get("Content-Length"), 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf("serve content: %w", err)
	case res.bytes == length:
		return nil
	case res.readErr != nil:
		return fmt.Errorf("read content after %d of %d bytes: %w", res.bytes, length, res.readErr)
	case res.writeErr != nil:
		return fmt.Errorf("send content after %d of %d bytes: %w", res.bytes, length, res.writeErr)
	}
	return fmt.Errorf("%d of %d bytes: %w", res.bytes, length, errDamaged)
}
