package registrytest

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
)

// Request is one request as it arrived, and what its answer cost.
type Request struct {
	Line   string // "GET /v2/library/busybox/tags/list?n=2", the query unescaped
	Host   string // the Host header
	Header http.Header
	Body   string // of a POST
	Status int    // zero while there is no answer
	Sent   int64  // body bytes written so far
}

// Requests lists the lines of all requests since the last Reset, in order of arrival. Those
// to the token service are among them.
func (r *Registry) Requests() []string {
	lines := []string{}
	for _, req := range r.Log() {
		lines = append(lines, req.Line)
	}
	return lines
}

// Log lists all requests since the last Reset in full.
func (r *Registry) Log() []Request {
	r.mu.Lock()
	entries := slices.Clone(r.log)
	r.mu.Unlock()
	var all []Request
	for _, e := range entries {
		all = append(all, Request{
			Line: e.line, Host: e.host, Header: e.header, Body: e.body,
			Status: int(e.status.Load()), Sent: e.sent.Load(),
		})
	}
	return all
}

// Reset forgets the requests; content, faults and knobs stay.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// Count is how many request lines contain match.
func (r *Registry) Count(match string) int {
	n := 0
	for _, line := range r.Requests() {
		if strings.Contains(line, match) {
			n++
		}
	}
	return n
}

// Sent is how many body bytes went out for the requests whose line contains match.
func (r *Registry) Sent(match string) int64 {
	n := int64(0)
	for _, req := range r.Log() {
		if strings.Contains(req.Line, match) {
			n += req.Sent
		}
	}
	return n
}

// Secrets lists the requests that carried anything a stranger must not see: an Authorization
// or Cookie header, a user in the URL or a body. A sentinel's list must be empty.
func (r *Registry) Secrets() []string {
	var lines []string
	for _, req := range r.Log() {
		h := req.Header
		if h.Get("Authorization") != "" || h.Get("Proxy-Authorization") != "" || h.Get("Cookie") != "" || req.Body != "" {
			lines = append(lines, req.Line)
		}
	}
	return lines
}

type entry struct {
	line   string
	host   string
	header http.Header
	body   string
	status atomic.Int64
	sent   atomic.Int64
}

func (r *Registry) note(req *http.Request) *entry {
	e := &entry{line: req.Method + " " + req.URL.Path, host: req.Host, header: req.Header.Clone()}
	if req.URL.RawQuery != "" {
		query, err := url.QueryUnescape(req.URL.RawQuery)
		if err != nil {
			query = req.URL.RawQuery
		}
		e.line += "?" + query
	}
	if req.Method == http.MethodPost {
		const most = 1 << 20 // no form is longer
		b, _ := io.ReadAll(io.LimitReader(req.Body, most))
		req.Body = io.NopCloser(bytes.NewReader(b))
		e.body = string(b)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, e)
	return e
}

// counted notes status and body bytes of an answer as they go out.
type counted struct {
	http.ResponseWriter
	entry *entry
}

func (w *counted) WriteHeader(status int) {
	w.entry.status.Store(int64(status))
	w.ResponseWriter.WriteHeader(status)
}

func (w *counted) Write(p []byte) (int, error) {
	w.entry.status.CompareAndSwap(0, http.StatusOK)
	n, err := w.ResponseWriter.Write(p)
	w.entry.sent.Add(int64(n))
	return n, err
}

// Unwrap lets http.ResponseController flush.
func (w *counted) Unwrap() http.ResponseWriter { return w.ResponseWriter }
