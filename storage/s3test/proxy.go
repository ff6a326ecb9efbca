package s3test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy is between a client and a server. It writes down what is asked, and breaks it as it is told.
type Proxy struct {
	Endpoint string

	mu    sync.Mutex
	log   []string
	fault func(Request) Fault
	n     map[string]int // requests of a kind since the fault was set
	sent  int64          // bytes of bodies that the server has sent

	ended chan struct{}
}

// Request is one that has come.
type Request struct {
	Kind   string // as in Requests
	N      int    // which of its kind, from 1, since Fail
	Key    string
	Create bool // unless there is such a key
}

// Fault is what goes wrong with a request. The zero value is nothing.
type Fault struct {
	Status  int           // this is answered instead, with Code in S3's XML
	Code    string        // "SlowDown"
	Plain   string        // or with this instead of XML
	Stall   bool          // no answer comes
	Delay   time.Duration // it is passed on so much later
	Cut     int64         // the connection breaks after so many bytes of the answer's body
	Hang    int64         // no more comes after so many bytes of it
	CutSent int64         // the connection breaks after so many bytes of the request's body
	Lose    bool          // the server does it, and the answer is lost
	Short   int64         // the answer says that its body is only so many bytes long, and it is
}

// Proxy starts a proxy before the server.
func (s *Server) Proxy(t testing.TB) *Proxy {
	t.Helper()
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{n: map[string]int{}, ended: make(chan struct{})}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which is signed
		},
		Transport:      &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		ModifyResponse: p.answer,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler)
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, forward) }))
	server.Config.ErrorLog = quiet()
	forward.ErrorLog = quiet()
	p.Endpoint = server.URL
	t.Cleanup(func() {
		close(p.ended)
		server.CloseClientConnections()
		server.Close()
	})
	return p
}

// Fail says what goes wrong from now on: fault is asked about each request. nil: nothing.
func (p *Proxy) Fail(fault func(Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
	clear(p.n)
}

// Requests are those since the last call, by kind: "GET", "HEAD", "PUT", "DELETE" and "COPY" of an
// object, "LIST" of keys; "BEGIN", "PART", "COMPLETE", "ABORT", "UPLOADS" and "PARTS" of uploads in
// parts; "REMOVE" of many keys; "LOCATION" of the bucket.
func (p *Proxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	p.log = nil
	return log
}

// Sorted is Requests in the order of their names.
func (p *Proxy) Sorted() []string {
	log := p.Requests()
	slices.Sort(log)
	return log
}

// Sent is how many bytes of bodies have come from the server since the last call.
func (p *Proxy) Sent() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.sent
	p.sent = 0
	return n
}

func kind(r *http.Request) string {
	q := r.URL.Query()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	has := q.Has
	switch {
	case r.Method == http.MethodPost && has("uploads"):
		return "BEGIN"
	case r.Method == http.MethodPost && has("uploadId"):
		return "COMPLETE"
	case r.Method == http.MethodPost && has("delete"):
		return "REMOVE"
	case r.Method == http.MethodPut && has("uploadId"):
		return "PART"
	case r.Method == http.MethodDelete && has("uploadId"):
		return "ABORT"
	case r.Method == http.MethodGet && has("uploadId"):
		return "PARTS"
	case r.Method == http.MethodGet && has("uploads"):
		return "UPLOADS"
	case r.Method == http.MethodGet && has("location"):
		return "LOCATION"
	case r.Method == http.MethodGet && key == "":
		return "LIST"
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "COPY"
	}
	return r.Method
}

type faultKey struct{}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	req := Request{Kind: kind(r), Key: key, Create: r.Header.Get("If-None-Match") != ""}
	p.mu.Lock()
	p.log = append(p.log, req.Kind)
	p.n[req.Kind]++
	req.N = p.n[req.Kind]
	fault := p.fault
	p.mu.Unlock()
	var f Fault
	if fault != nil {
		f = fault(req)
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		case <-p.ended:
		}
	}
	switch {
	case f.Stall:
		p.wait(r)
		panic(http.ErrAbortHandler)
	case f.Plain != "":
		w.WriteHeader(f.Status)
		io.WriteString(w, f.Plain)
		return
	case f.Status != 0:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(f.Status)
		fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>the proxy was told to say so</Message></Error>", f.Code)
		return
	case f.CutSent > 0:
		r.Body = &cut{body: r.Body, left: f.CutSent, end: func() error { return errCut }}
	}
	forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), faultKey{}, f)))
}

func (p *Proxy) wait(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-p.ended:
	}
}

var errCut = errors.New("the proxy was told to break this")

// answer breaks the answer of the server.
func (p *Proxy) answer(res *http.Response) error {
	f, _ := res.Request.Context().Value(faultKey{}).(Fault)
	res.Body = &counted{p, res.Body}
	switch {
	case f.Lose:
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return errCut
	case f.Cut > 0:
		res.Body = &cut{body: res.Body, left: f.Cut, end: func() error { return errCut }}
	case f.Hang > 0:
		res.Body = &cut{body: res.Body, left: f.Hang, end: func() error {
			p.wait(res.Request)
			return errCut
		}}
	case f.Short > 0:
		res.Body = &cut{body: res.Body, left: f.Short, end: func() error { return io.EOF }}
		res.ContentLength = f.Short
		res.Header.Set("Content-Length", fmt.Sprint(f.Short))
	}
	return nil
}

type counted struct {
	p    *Proxy
	body io.ReadCloser
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.body.Read(b)
	c.p.mu.Lock()
	c.p.sent += int64(n)
	c.p.mu.Unlock()
	return n, err
}

func (c *counted) Close() error { return c.body.Close() }

// cut is a body that ends early.
type cut struct {
	body io.ReadCloser
	left int64
	end  func() error
}

func (c *cut) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, c.end()
	}
	n, err := c.body.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

func (c *cut) Close() error { return c.body.Close() }

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
