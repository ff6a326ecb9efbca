package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxHeader is the most that a request's header may be, in bytes (FAULTS D4). Tokens with
// many scopes are the largest honest thing in it and stay below 16 KiB.
const maxHeader = 64 << 10

// maxStreams is how many requests an HTTP/2 connection may have running (FAULTS D3). A client
// pulls a few layers at once; a proxy in front pools for many clients.
const maxStreams = 250

// patience is how long a connection that has asked nothing yet may go on without, once a drain has begun.
// net/http takes five seconds for it, which probes, and browsers that connect in advance, would have
// each restart take; a request that is on its way is here in less.
const patience = time.Second

// farewell is how long requests that were cut off by the end of a drain have to return.
const farewell = 5 * time.Second

// Serve answers what arrives at l until ctx ends, with TLS if t is not nil, and closes l. It
// may be called for several listeners at once.
//
// Then it drains: nothing new is accepted, idle connections are closed, and running requests
// have Config.Drain to finish. It returns nil if they all did, else how many were cut off; or
// what ended it before its time.
func (s *Server) Serve(ctx context.Context, l net.Listener, t *tls.Config) error {
	// The requests outlive ctx, by the time of the drain.
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errStopping)
	var fresh newcomers
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fresh.ask(r.Context().Value(connKey{}).(net.Conn))
			s.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: s.config.HeaderTimeout,
		IdleTimeout:       s.config.IdleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		BaseContext:       func(net.Listener) context.Context { return running },
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, nc)
		},
		ConnState: fresh.note,
		ErrorLog:  log.New(complaints{s.config.Log}, "", 0),
		// There is no WriteTimeout: see conn, and response.inTime for HTTP/2.

		DisableGeneralOptionsHandler: true,
	}
	l = &listener{Listener: l, server: s, closed: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		if t == nil {
			ended <- srv.Serve(l)
			return
		}
		srv.TLSConfig = t.Clone() // net/http adds to it
		ended <- srv.ServeTLS(l, "", "")
	}()

	select {
	case err := <-ended:
		srv.Close()
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	// ctx has ended, and draining is what comes after it, for Config.Drain at most.
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Drain)
	defer cancel()
	// Once Shutdown has begun net/http answers no request that is the first of its connection, and those
	// that have been let in were promised an answer. Nobody else is let in meanwhile.
	l.Close()
	<-ended
	fresh.hear(draining)
	err := srv.Shutdown(draining)
	if err == nil {
		return nil
	}
	n := s.counters.inFlight.Load()
	stop(errStopping)
	srv.Close()
	s.settle()
	return fmt.Errorf("drain %s: %d requests cut off after %s", l.Addr(), n, s.config.Drain)
}

// newcomers are the connections over which no request has come yet.
type newcomers struct {
	mu  sync.Mutex
	all map[net.Conn]struct{}
}

// note is told by net/http what becomes of a connection. A request comes with two calls, of
// which one takes the lock.
func (n *newcomers) note(c net.Conn, state http.ConnState) {
	if state == http.StateActive {
		return // a request has begun to come, and net/http may still turn it away
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if state != http.StateNew {
		delete(n.all, c)
		return
	}
	if n.all == nil {
		n.all = map[net.Conn]struct{}{}
	}
	n.all[c] = struct{}{}
}

// close closes those that there are, one by one: a request may come over the next one meanwhile.
func (n *newcomers) close() {
	for {
		n.mu.Lock()
		var silent net.Conn
		for silent = range n.all {
			break
		}
		delete(n.all, silent)
		n.mu.Unlock()
		if silent == nil {
			return
		}
		silent.Close()
	}
}

// ask is told of each request that is to be answered.
func (n *newcomers) ask(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.all, c)
}

// hear waits until a request has come over each of them, and closes those over which none comes.
func (n *newcomers) hear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ctx.Err() == nil && n.some() {
		time.Sleep(time.Millisecond)
	}
	n.close()
}

// some reports whether there are any.
func (n *newcomers) some() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all) > 0
}

// settle waits for the requests that were cut off. Their contexts have ended and their
// connections are closed, so it does not take long, unless a registry ignores both.
func (s *Server) settle() {
	for end := time.Now().Add(farewell); s.counters.inFlight.Load() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

// listener accepts as many connections as there are slots for and watches each.
type listener struct {
	net.Listener
	server *Server
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a slot and a connection.
func (l *listener) Accept() (net.Conn, error) {
	s := l.server
	select {
	case s.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	nc, err := l.Listener.Accept()
	if err != nil {
		<-s.slots
		return nil, err
	}
	s.counters.connections.Add(1)
	return watch(nc, s.config.Stall, func() {
		s.counters.connections.Add(-1)
		<-s.slots
	}), nil
}

// Close closes the listener and ends a waiting Accept.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// complaints is where net/http says what no request can be blamed for. Scanners make it
// complain of handshakes all day; that it cannot accept is for the operator.
type complaints struct{ log *slog.Logger }

// Write logs one complaint.
func (c complaints) Write(p []byte) (int, error) {
	level, line := slog.LevelWarn, strings.TrimSpace(string(p))
	if strings.HasPrefix(line, "http: TLS handshake error") {
		level = slog.LevelDebug
	}
	c.log.Log(context.Background(), level, "connection", "err", printable(line, 4000))
	return len(p), nil
}
