// Package registrytest is a registry for tests: a real one, in process, on a loopback
// address, that can be made as hostile as upstreams are. It keeps what it is given in memory,
// writes down every request, and breaks in the ways that [Registry.Fail] is told.
//
// What a test asserts is the exact list of requests ([Registry.Requests]) and how many body
// bytes they cost ([Registry.Sent]).
package registrytest

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"roadstead/registry"
)

// Registry is a running fake. All methods may be called while it serves.
type Registry struct {
	t       testing.TB
	options Options
	ctx     context.Context // ends hanging answers when the test does

	mu     sync.Mutex
	server *httptest.Server
	repos  map[string]*repository
	log    []*entry
	faults []*armed
	auth   *Auth
	knobs  Knobs
	tokens map[string]*grant
	issued int
	conns  int
}

// Options say where and how a registry listens.
type Options struct {
	Address string      // zero: "127.0.0.1:0"
	TLS     *tls.Config // nil: plain HTTP; a config without certificates gets httptest's own
	HTTP2   bool        // offer HTTP/2 where TLS is on
}

// Knobs are ways of a registry that are no faults. The zero value is an ordinary one.
type Knobs struct {
	Page          int    // the most entries on a page of tags or referrers; zero: as many as the client asks for
	NoReferrers   bool   // the referrers API is absent (404), only the fallback tag works
	NoFilter      bool   // artifactType is ignored, as the specification allows
	NoVersion     bool   // no Docker-Distribution-Api-Version header
	RateLimit     string // ratelimit-limit of manifest answers, as Docker Hub sends it: "100;w=21600"
	RateRemaining string // ratelimit-remaining, the same
}

// New starts a registry on 127.0.0.1 that ends with the test.
func New(t testing.TB) *Registry {
	t.Helper()
	return Listen(t, Options{})
}

// Listen starts a registry that ends with the test.
func Listen(t testing.TB, options Options) *Registry {
	t.Helper()
	if options.Address == "" {
		options.Address = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Registry{
		t: t, options: options, ctx: ctx,
		repos: map[string]*repository{}, tokens: map[string]*grant{},
	}
	r.Start()
	t.Cleanup(func() {
		cancel()
		r.Stop()
	})
	return r
}

// Start listens again after Stop, on the same address.
func (r *Registry) Start() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.options.Address)
	// The port was ours a moment ago; a connection in its last state may hold it a little.
	for i := 0; err != nil && i < 100; i++ {
		time.Sleep(10 * time.Millisecond)
		listener, err = net.Listen("tcp", r.options.Address)
	}
	if err != nil {
		r.t.Fatalf("registrytest: listen: %v", err)
	}
	r.options.Address = listener.Addr().String()
	server := &httptest.Server{Listener: listener, TLS: r.options.TLS.Clone(), EnableHTTP2: r.options.HTTP2}
	server.Config = &http.Server{
		Handler:     r,
		ErrorLog:    log.New(io.Discard, "", 0), // broken connections are what tests are about
		BaseContext: func(net.Listener) context.Context { return r.ctx },
		ConnState:   r.connected,
	}
	if r.options.TLS != nil {
		server.StartTLS()
	} else {
		server.Start()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = server
}

// Stop closes all connections and refuses new ones. What hangs is let go.
func (r *Registry) Stop() {
	r.mu.Lock()
	server := r.server
	r.server = nil
	r.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

func (r *Registry) connected(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.conns++
	}
}

// URL is "http://127.0.0.1:port", or https.
func (r *Registry) URL() string {
	if r.options.TLS != nil {
		return "https://" + r.options.Address
	}
	return "http://" + r.options.Address
}

// Host is "127.0.0.1:port".
func (r *Registry) Host() string { return r.options.Address }

// Connections is how many connections were made to it so far.
func (r *Registry) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns
}

// Set turns the knobs.
func (r *Registry) Set(k Knobs) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.knobs = k
}

// ServeHTTP notes the request and answers it, through the fault that is set for it if any.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	e := r.note(req)
	answer := http.Handler(http.HandlerFunc(r.answer))
	if f := r.fault(e.line); f != nil {
		answer = f(answer)
	}
	answer.ServeHTTP(&counted{ResponseWriter: w, entry: e}, req)
	e.status.CompareAndSwap(0, http.StatusOK)
}

// repository is what one repository holds.
type repository struct {
	blobs     map[registry.Digest][]byte
	manifests map[registry.Digest]content
	tags      map[string]registry.Digest
}

type content struct {
	mediaType string
	bytes     []byte
}
