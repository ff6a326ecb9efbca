package postgrestest

import (
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is a network before a server, on a loopback address.
type Proxy struct {
	target   string // a Unix socket
	listener net.Listener

	statements atomic.Int64

	mu      sync.Mutex
	changed chan struct{} // closed when the next two change
	stalled bool
	slow    time.Duration
	closed  bool
	refuse  bool
	conns   map[net.Conn]bool
	served  sync.WaitGroup
}

// Before returns a proxy before a server. It ends with the test.
func Before(t testing.TB, server *Server) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: server.Socket(), listener: listener, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.served.Go(p.serve)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		listener.Close()
		p.Heal()
		p.Cut()
		p.served.Wait()
	})
	return p
}

// URL names a database of the server behind the proxy.
func (p *Proxy) URL(database string) string { return p.url(database, url.UserPassword(User, Password)) }

// Place is URL without the password.
func (p *Proxy) Place(database string) string { return p.url(database, url.User(User)) }

func (p *Proxy) url(database string, who *url.Userinfo) string {
	u := url.URL{Scheme: "postgres", User: who, Host: p.listener.Addr().String(), Path: "/" + database}
	return u.String()
}

// Stall lets nothing through any more and closes nothing: a cable that is pulled.
func (p *Proxy) Stall() { p.set(func() { p.stalled = true }) }

// Slow holds up everything that goes through for so long.
func (p *Proxy) Slow(by time.Duration) { p.set(func() { p.slow = by }) }

// Refuse closes new connections at once.
func (p *Proxy) Refuse() { p.set(func() { p.refuse = true }) }

// Heal lets everything through.
func (p *Proxy) Heal() { p.set(func() { p.stalled, p.slow, p.refuse = false, 0, false }) }

// Cut closes all connections that there are.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.served.Go(func() { p.join(client) })
	}
}

func (p *Proxy) join(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	if p.closed || p.refuse {
		p.mu.Unlock()
		return
	}
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, client)
		delete(p.conns, server)
		p.mu.Unlock()
	}()
	var both sync.WaitGroup
	var asks stream
	both.Go(func() { p.copy(server, client, func(b []byte) { p.statements.Add(int64(asks.read(b))) }) })
	both.Go(func() { p.copy(client, server, func([]byte) {}) })
	both.Wait()
}

// copy passes on what comes, when the network allows it, and the end of it. It shows it to see.
func (p *Proxy) copy(to, from net.Conn, see func([]byte)) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		see(buffer[:n])
		p.wait()
		if _, e := to.Write(buffer[:n]); e != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) wait() {
	p.mu.Lock()
	slow := p.slow
	for p.stalled {
		changed := p.changed
		p.mu.Unlock()
		<-changed
		p.mu.Lock()
	}
	p.mu.Unlock()
	time.Sleep(slow)
}
