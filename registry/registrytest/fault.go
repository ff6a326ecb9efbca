package registrytest

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Fault changes how requests are answered: it is wrapped round the answer that the registry
// would give.
type Fault func(answer http.Handler) http.Handler

type armed struct {
	match string
	left  int // negative: without end
	fault Fault
}

// Fail answers requests through a fault: the next "times" of those whose line, "GET
// /v2/library/busybox/blobs/sha256:…", contains match; all of them when times is zero. The
// faults set first are used up first, so that a sequence is a few calls of Fail.
func (r *Registry) Fail(match string, times int, f Fault) {
	if times == 0 {
		times = -1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &armed{match: match, left: times, fault: f})
}

// Heal removes all faults.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

func (r *Registry) fault(line string) Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.faults {
		if a.left != 0 && strings.Contains(line, a.match) {
			a.left--
			return a.fault
		}
	}
	return nil
}

// Both applies a outside and b inside.
func Both(a, b Fault) Fault {
	return func(answer http.Handler) http.Handler { return a(b(answer)) }
}

// Status answers with a bare status, and with headers given as pairs of name and value
// (U4, U5, U6, U7).
func Status(status int, header ...string) Fault {
	return instead(func(w http.ResponseWriter, req *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	})
}

// Hang gives no answer until the client leaves or the test ends (U19).
func Hang() Fault {
	return instead(func(w http.ResponseWriter, req *http.Request) {
		<-req.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// Hangup cuts the connection instead of answering.
func Hangup() Fault {
	return instead(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Wait answers after a while.
func Wait(d time.Duration) Fault {
	return func(answer http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			select {
			case <-time.After(d):
				answer.ServeHTTP(w, req)
			case <-req.Context().Done():
				panic(http.ErrAbortHandler)
			}
		})
	}
}

// Hold answers when the channel is closed.
func Hold(until <-chan struct{}) Fault {
	return func(answer http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			select {
			case <-until:
				answer.ServeHTTP(w, req)
			case <-req.Context().Done():
				panic(http.ErrAbortHandler)
			}
		})
	}
}

// Answer gives a 200 of one's own.
func Answer(mediaType, body string) Fault {
	return instead(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if req.Method != http.MethodHead {
			w.Write([]byte(body))
		}
	})
}

// HTML is the page of a portal, with status 200 (U13).
func HTML() Fault {
	return Answer("text/html; charset=utf-8", "<!DOCTYPE html>\n<html><body>Please log in to the guest network.</body></html>\n")
}

// Header sends an answer with other headers, given as pairs of name and value; an empty value
// takes the header away.
func Header(pairs ...string) Fault {
	return changed(func(w *changing) {
		w.header = func(h http.Header) {
			for i := 0; i+1 < len(pairs); i += 2 {
				if pairs[i+1] == "" {
					h.Del(pairs[i])
				} else {
					h.Set(pairs[i], pairs[i+1])
				}
			}
		}
	})
}

// Redirect sends 307 to the same path and query at another base URL, "" for the same host
// (U14 when nothing ends it, U15, U16).
func Redirect(base string) Fault {
	return instead(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Location", base+req.URL.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
}

// RedirectTo sends 307 to exactly this location.
func RedirectTo(location string) Fault {
	return Status(http.StatusTemporaryRedirect, "Location", location)
}

// NoRange answers a Range request with the whole content.
func NoRange() Fault {
	return func(answer http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			req.Header.Del("Range")
			answer.ServeHTTP(w, req)
		})
	}
}

// Drip sends the body at a number of bytes per second (U8).
func Drip(perSecond int) Fault {
	return changed(func(w *changing) { w.rate = perSecond })
}

// Stall sends so many body bytes and then nothing more, with the connection open (U9).
func Stall(after int64) Fault {
	return changed(func(w *changing) {
		w.limit, w.end = after, func(req *http.Request) {
			<-req.Context().Done()
			panic(http.ErrAbortHandler)
		}
	})
}

// Truncate sends so many body bytes and cuts the connection (U10).
func Truncate(after int64) Fault {
	return changed(func(w *changing) {
		w.limit, w.end = after, func(*http.Request) { panic(http.ErrAbortHandler) }
	})
}

// Corrupt flips a bit in the first byte of each piece of the body, the length unchanged (U11).
func Corrupt() Fault {
	return changed(func(w *changing) {
		w.body = func(p []byte) []byte {
			p = bytes.Clone(p)
			p[0] ^= 1
			return p
		}
	})
}

// Length lies about the body's length by so many bytes: the body ends early when the lie is
// too long, and is cut when it is too short (U12).
func Length(by int64) Fault {
	return changed(func(w *changing) {
		w.header = func(h http.Header) {
			if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil {
				n = max(0, n+by)
				h.Set("Content-Length", strconv.FormatInt(n, 10))
				if by < 0 {
					// net/http refuses a Write that is too long instead of clipping it.
					w.limit, w.end = n, func(*http.Request) { panic(http.ErrAbortHandler) }
				}
			}
		}
	})
}

// Chunked sends the body without its length (U12).
func Chunked() Fault {
	return changed(func(w *changing) {
		w.header = func(h http.Header) { h.Del("Content-Length") }
		w.flush = true
	})
}

// Gzip compresses the body although nobody asked for it (U12).
func Gzip() Fault {
	return changed(func(w *changing) {
		w.header = func(h http.Header) {
			h.Set("Content-Encoding", "gzip")
			h.Del("Content-Length")
		}
		w.body = func(p []byte) []byte {
			// Members of a gzip file may follow each other (RFC 1952 §2.2), so every piece is one.
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Write(p)
			z.Close()
			return b.Bytes()
		}
	})
}

func instead(f http.HandlerFunc) Fault {
	return func(http.Handler) http.Handler { return f }
}

func changed(set func(*changing)) Fault {
	return func(answer http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			c := &changing{ResponseWriter: w, req: req, limit: -1}
			set(c)
			answer.ServeHTTP(c, req)
			if !c.wrote {
				c.WriteHeader(http.StatusOK) // an answer without a body
			}
		})
	}
}

// changing is an answer that is changed on its way out.
type changing struct {
	http.ResponseWriter
	req *http.Request

	header func(http.Header)
	body   func([]byte) []byte
	rate   int   // bytes per second; zero: at once
	limit  int64 // body bytes before end is called; negative: none
	end    func(*http.Request)
	flush  bool

	wrote bool
	sent  int64
}

func (w *changing) WriteHeader(status int) {
	if w.header != nil && !w.wrote {
		w.header(w.ResponseWriter.Header())
	}
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
	if w.flush {
		http.NewResponseController(w.ResponseWriter).Flush()
	}
}

func (w *changing) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	whole := len(p)
	ends := w.limit >= 0 && w.sent+int64(len(p)) >= w.limit
	if ends {
		p = p[:w.limit-w.sent]
	}
	w.sent += int64(len(p))
	if w.body != nil && len(p) > 0 {
		p = w.body(p)
	}
	if err := w.write(p); err != nil {
		return 0, err
	}
	if ends {
		http.NewResponseController(w.ResponseWriter).Flush()
		w.end(w.req)
	}
	return whole, nil
}

// write sends at the rate, in tenths of a second.
func (w *changing) write(p []byte) error {
	for w.rate > 0 && len(p) > 0 {
		n := min(len(p), max(1, w.rate/10))
		if _, err := w.ResponseWriter.Write(p[:n]); err != nil {
			return err
		}
		http.NewResponseController(w.ResponseWriter).Flush()
		p = p[n:]
		select {
		case <-time.After(100 * time.Millisecond):
		case <-w.req.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	_, err := w.ResponseWriter.Write(p)
	return err
}

// Unwrap lets http.ResponseController flush.
func (w *changing) Unwrap() http.ResponseWriter { return w.ResponseWriter }
