package main_test

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"testing"
	"time"
)

// A balancer sends each request to the next node. It leaves out those that are not ready, and tries
// another one when a node refuses a connection, or closes one on a GET or HEAD that it has not begun
// to answer: what nginx does unless it is told otherwise.
type balancer struct {
	t     testing.TB
	nodes []*node
	addr  string
	url   string
	next  atomic.Uint32
	out   []atomic.Bool // not ready
	pool  *http.Transport
}

func startBalancer(t testing.TB, nodes ...*node) *balancer {
	t.Helper()
	b := &balancer{
		t: t, nodes: nodes, addr: freeAddress(t), out: make([]atomic.Bool, len(nodes)),
		pool: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, ExpectContinueTimeout: 10 * time.Second},
	}
	b.url = "http://" + b.addr
	l, err := net.Listen("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.Host = "http", r.In.Host },
		Transport:     b,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // clients leave, and nodes are killed
	}}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	for i := range nodes {
		go b.watch(i, stop)
	}
	return b
}

// watch asks a node whether it is ready, more often than a balancer would: its tests are not long.
func (b *balancer) watch(i int, stop <-chan struct{}) {
	client := &http.Client{Timeout: time.Second}
	for {
		res, err := client.Get(b.nodes[i].admin + "/readyz")
		if err == nil {
			res.Body.Close()
		}
		b.out[i].Store(err != nil || res.StatusCode != http.StatusOK)
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// RoundTrip sends a request to the node whose turn it is.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	turn := int(b.next.Add(1))
	err := error(&net.OpError{Op: "dial", Err: errors.New("no node is ready")})
	for i := range 2 * len(b.nodes) {
		at := (turn + i) % len(b.nodes)
		if b.out[at].Load() && i < len(b.nodes) {
			continue
		}
		to := r.Clone(r.Context())
		to.URL.Host = b.nodes[at].addr
		if to.Body != nil && to.Body != http.NoBody {
			to.Body = io.NopCloser(r.Body) // it is for the next one when nobody has read it
		}
		var res *http.Response
		if res, err = b.pool.RoundTrip(to); err == nil {
			return res, nil
		}
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		if refused, ok := errors.AsType[*net.OpError](err); !read && (!ok || refused.Op != "dial") || r.Context().Err() != nil {
			return nil, err
		}
	}
	return nil, err
}

// node is what its clients take it for.
func (b *balancer) node() *node {
	return &node{t: b.t, addr: b.addr, url: b.url, http: newHTTPClient(nil)}
}
