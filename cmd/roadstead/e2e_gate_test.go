package main_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A gate stands before an upstream: it notes every request and can hold, slow down, spoil or
// cut what comes back, or be gone. All else passes as the registry sent it.
type gate struct {
	t      testing.TB
	addr   string
	url    string
	proxy  *httputil.ReverseProxy
	bytes  atomic.Int64 // of blob bodies that went through
	active atomic.Int64 // requests that are being answered

	mu       sync.Mutex // guards the rest
	server   *http.Server
	requests []string
	shape    func(*http.Request) shape
}

// A shape is what happens to one response. The zero value leaves it alone.
type shape struct {
	status int           // answered instead of asking upstream
	header string        // sent with status: "Name: value"
	at     int64         // the byte of the body where what follows happens
	hold   chan struct{} // nothing from there on until it is closed
	cut    bool          // the connection is cut there
	flip   bool          // the byte there is another one
	rate   int           // bytes per second of the whole body
}

func startGate(t testing.TB, upstreamURL string) *gate {
	t.Helper()
	target, err := url.Parse(upstreamURL)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, addr: freeAddress(t)}
	g.url = "http://" + g.addr
	g.proxy = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ModifyResponse: g.modify,
		FlushInterval:  -1,
		Transport:      &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		ErrorLog:       log.New(io.Discard, "", 0), // that bodies break off is what it is for
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	g.up()
	t.Cleanup(g.down)
	return g
}

// up makes the gate listen, on the same port as ever.
func (g *gate) up() {
	g.t.Helper()
	l, err := net.Listen("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.server = &http.Server{Handler: g}
	go func(s *http.Server) { _ = s.Serve(l) }(g.server)
}

// down cuts all connections and refuses new ones.
func (g *gate) down() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.server.Close()
}

// set decides what happens to responses from now on; nil: nothing.
func (g *gate) set(shape func(*http.Request) shape) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shape = shape
}

// blobs is a rule for the bodies of blobs only.
func blobs(s shape) func(*http.Request) shape {
	return func(r *http.Request) shape {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			return s
		}
		return shape{}
	}
}

// once is a rule that holds for the first response that it would change.
func once(rule func(*http.Request) shape) func(*http.Request) shape {
	var used atomic.Bool
	return func(r *http.Request) shape {
		s := rule(r)
		if s == (shape{}) || used.Swap(true) {
			return shape{}
		}
		return s
	}
}

// count returns how many requests begin like this: "GET /v2/library/x/blobs/".
func (g *gate) count(prefix string) int {
	n := 0
	for _, r := range g.seen() {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// seen returns all requests in their order, as "GET /v2/… [bytes=5-]".
func (g *gate) seen() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.requests...)
}

// forget begins the requests anew.
func (g *gate) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = nil
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.active.Add(1)
	defer g.active.Add(-1)
	line := r.Method + " " + r.URL.Path
	if ranged := r.Header.Get("Range"); ranged != "" {
		line += " " + ranged
	}
	var s shape
	g.mu.Lock()
	g.requests = append(g.requests, line)
	if g.shape != nil {
		s = g.shape(r)
	}
	g.mu.Unlock()
	if s.status != 0 {
		if name, value, ok := strings.Cut(s.header, ": "); ok {
			w.Header().Set(name, value)
		}
		w.WriteHeader(s.status)
		return
	}
	g.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), shapeKey{}, s)))
}

type shapeKey struct{}

func (g *gate) modify(res *http.Response) error {
	s, _ := res.Request.Context().Value(shapeKey{}).(shape)
	b := &shapedBody{ReadCloser: res.Body, shape: s, gone: res.Request.Context().Done(), start: time.Now()}
	if strings.Contains(res.Request.URL.Path, "/blobs/") {
		b.count = &g.bytes
	}
	res.Body = b
	return nil
}

// A shapedBody is a response body on its way through the gate.
type shapedBody struct {
	io.ReadCloser
	shape
	gone  <-chan struct{} // closed when nobody waits for the body any more
	start time.Time
	n     int64
	count *atomic.Int64
}

var errCut = errors.New("cut off by the gate")

func (b *shapedBody) Read(p []byte) (int, error) {
	if b.rate > 0 {
		p = p[:min(len(p), max(1, b.rate/20))]
	}
	if left := b.at - b.n; left > 0 {
		p = p[:min(int64(len(p)), left)]
	} else if left == 0 && b.cut {
		return 0, errCut
	} else if left == 0 && b.hold != nil {
		select {
		case <-b.hold:
		case <-b.gone:
			return 0, errCut
		}
	}
	n, err := b.ReadCloser.Read(p)
	if b.flip && n > 0 && b.n == b.at {
		p[0] ^= 0xff
	}
	b.n += int64(n)
	if b.count != nil {
		b.count.Add(int64(n))
	}
	if b.rate > 0 {
		time.Sleep(time.Until(b.start.Add(time.Duration(b.n) * time.Second / time.Duration(b.rate))))
	}
	return n, err
}
