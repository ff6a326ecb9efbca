package upstream

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

// proxy is a real outbound proxy that knows where each name is.
type proxy struct {
	t     *testing.T
	hosts map[string]string // "registry.example:80" → "127.0.0.1:port"

	mu    sync.Mutex
	asked []string // "CONNECT registry.example:443", "GET registry.example:80", "SOCKS registry.example:443"
	login []string // what was shown as credentials
}

func (p *proxy) note(line, login string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, line)
	if login != "" {
		p.login = append(p.login, login)
	}
}

func (p *proxy) said() (asked, login []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked), slices.Clone(p.login)
}

// http starts it as an HTTP proxy.
func (p *proxy) http(config *tls.Config) string {
	server := httptest.NewUnstartedServer(p)
	server.TLS = config
	if config != nil {
		server.StartTLS()
	} else {
		server.Start()
	}
	p.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodConnect {
		host := req.URL.Host
		if !strings.Contains(host, ":") {
			host += ":80"
		}
		p.note(req.Method+" "+host, req.Header.Get("Proxy-Authorization"))
		to, ok := p.hosts[host]
		if !ok {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Host = to
			r.Out.Host = req.Host
		}}).ServeHTTP(w, req)
		return
	}
	p.note("CONNECT "+req.Host, req.Header.Get("Proxy-Authorization"))
	to, err := net.Dial("tcp", p.hosts[req.Host])
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	from, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.t.Error(err)
		to.Close()
		return
	}
	// A client says nothing before it has this answer, so nothing is buffered.
	io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
	join(from, to)
}

// socks starts it as a SOCKS5 proxy (RFC 1928, RFC 1929).
func (p *proxy) socks() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serveSocks(conn) })
		}
	})
	p.t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func (p *proxy) serveSocks(conn net.Conn) {
	defer conn.Close()
	b := make([]byte, 512)
	read := func(n int) []byte {
		if _, err := io.ReadFull(conn, b[:n]); err != nil {
			return make([]byte, n)
		}
		return b[:n]
	}
	methods := slices.Clone(read(int(read(2)[1])))
	login := ""
	if slices.Contains(methods, 2) {
		conn.Write([]byte{5, 2})
		user := string(read(int(read(2)[1])))
		password := string(read(int(read(1)[0])))
		login = user + ":" + password
		conn.Write([]byte{1, 0})
	} else {
		conn.Write([]byte{5, 0})
	}
	host := ""
	switch read(4)[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	}
	host += ":" + strconv.Itoa(int(binary.BigEndian.Uint16(read(2))))
	p.note("SOCKS "+host, login)
	to, err := net.Dial("tcp", p.hosts[host])
	if err != nil {
		conn.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	join(conn, to)
}

// join copies both ways until both have ended.
func join(a, b net.Conn) {
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			io.Copy(pair[0], pair[1])
			pair[0].Close()
		})
	}
	wg.Wait()
	a.Close()
	b.Close()
}

// TestProxy goes through each kind of proxy to a registry whose name only the proxy knows. No
// address is public here, and yet the proxy may be on one: the operator has named it (A8).
func TestProxy(t *testing.T) {
	authority := registrytest.NewAuthority(t)
	plain := registrytest.New(t)
	secure := registrytest.Listen(t, registrytest.Options{TLS: authority.Server(registrytest.Leaf{Names: []string{"registry.example"}}), HTTP2: true})
	for _, r := range []*registrytest.Registry{plain, secure} {
		r.PutImage("a", "1", []byte("x"))
	}
	hosts := map[string]string{"registry.example:80": plain.Host(), "registry.example:443": secure.Host()}
	ca := file(t, "ca.pem", authority.PEM())
	for _, row := range []struct {
		name     string
		endpoint string
		setting  func(p *proxy) (setting string, environment map[string]string)
		asked    []string // empty: the proxy is not used, and nothing else knows the name
		login    []string
	}{
		{"http", "http://registry.example", func(p *proxy) (string, map[string]string) {
			return p.http(nil), nil
		}, []string{"HEAD registry.example:80"}, nil},
		{"http to https", "https://registry.example", func(p *proxy) (string, map[string]string) {
			return p.http(nil), nil
		}, []string{"CONNECT registry.example:443"}, nil},
		{"http with a password", "https://registry.example", func(p *proxy) (string, map[string]string) {
			return strings.Replace(p.http(nil), "://", "://u:p@", 1), nil
		}, []string{"CONNECT registry.example:443"}, []string{"Basic dTpw"}},
		{"https", "https://registry.example", func(p *proxy) (string, map[string]string) {
			return p.http(authority.Server(registrytest.Leaf{})), nil
		}, []string{"CONNECT registry.example:443"}, nil},
		{"socks5", "https://registry.example", func(p *proxy) (string, map[string]string) {
			return "socks5://" + p.socks(), nil
		}, []string{"SOCKS registry.example:443"}, nil},
		{"socks5 with a password", "http://registry.example", func(p *proxy) (string, map[string]string) {
			return "socks5://u:p@" + p.socks(), nil
		}, []string{"SOCKS registry.example:80"}, []string{"u:p"}},
		{"from the environment", "https://registry.example", func(p *proxy) (string, map[string]string) {
			return "", map[string]string{"HTTPS_PROXY": p.http(nil)}
		}, []string{"CONNECT registry.example:443"}, nil},
		{"socks5 from the environment", "http://registry.example", func(p *proxy) (string, map[string]string) {
			return "", map[string]string{"HTTP_PROXY": "socks5://" + p.socks()}
		}, []string{"SOCKS registry.example:80"}, nil},
		{"direct in spite of the environment", "https://registry.example", func(p *proxy) (string, map[string]string) {
			return "direct", map[string]string{"HTTPS_PROXY": p.http(nil)}
		}, nil, nil},
		{"not for what the environment leaves out", "https://registry.example", func(p *proxy) (string, map[string]string) {
			return "", map[string]string{"HTTPS_PROXY": p.http(nil), "NO_PROXY": ".example"}
		}, nil, nil},
		{"one's own before the environment's", "http://registry.example", func(p *proxy) (string, map[string]string) {
			return p.http(nil), map[string]string{"HTTP_PROXY": "http://127.0.0.1:1"}
		}, []string{"HEAD registry.example:80"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, resolver := registrytest.NewNames(t) // which knows nothing
			for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "REQUEST_METHOD"} {
				t.Setenv(name, "")
			}
			p := &proxy{t: t, hosts: hosts}
			setting, environment := row.setting(p)
			for name, value := range environment {
				t.Setenv(name, value)
			}
			r, err := New(Config{Endpoints: []string{row.endpoint}, Proxy: setting, CAFile: ca, Resolver: resolver})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = r.Resolve(t.Context(), repo("a"), "1")
			if len(row.asked) > 0 && err != nil {
				t.Error(err)
			}
			if len(row.asked) == 0 {
				fault(t, err, registry.Unavailable)
			}
			asked, login := p.said()
			if !slices.Equal(asked, row.asked) || !slices.Equal(login, row.login) {
				t.Errorf("the proxy was asked %q by %q, want %q by %q", asked, login, row.asked, row.login)
			}
		})
	}
}

// TestProxyAndRedirects is A8 behind a proxy: a literal private address is refused, and so is
// one that NO_PROXY makes a direct connection.
func TestProxyAndRedirects(t *testing.T) {
	up, sentinel := registrytest.New(t), registrytest.New(t)
	blob := up.PutBlob("a", []byte("x"))
	for _, row := range []struct{ name, location string }{
		{"an address", sentinel.URL()},
		{"in IPv6 clothes", strings.Replace(sentinel.URL(), "127.0.0.1", "[::ffff:127.0.0.1]", 1)},
		{"localhost", strings.Replace(sentinel.URL(), "127.0.0.1", "localhost", 1)},
		{"in decimal", strings.Replace(sentinel.URL(), "127.0.0.1", "2130706433", 1)},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := &proxy{t: t, hosts: map[string]string{"registry.example:80": up.Host()}}
			for _, name := range []string{"127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "2130706433"} {
				_, port, _ := strings.Cut(sentinel.Host(), ":")
				p.hosts[name+":"+port] = sentinel.Host()
			}
			for _, setting := range []string{p.http(nil), ""} {
				t.Setenv("HTTP_PROXY", p.http(nil))
				t.Setenv("NO_PROXY", "")
				r, err := New(Config{Endpoints: []string{"http://registry.example"}, Proxy: setting})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				up.Heal()
				up.Fail("/blobs/", 0, registrytest.Redirect(row.location))
				_, err = r.Blob(t.Context(), repo("a"), blob)
				fault(t, err, registry.Unavailable)
				wants(t, sentinel)
				if asked, _ := p.said(); len(asked) == 0 {
					t.Error("the proxy was not asked")
				}
			}
		})
	}
}

func TestProxyDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	for _, setting := range []string{"http://u:hunter2@" + address, "socks5://u:hunter2@" + address} {
		r, err := New(Config{Endpoints: []string{"https://registry.example"}, Proxy: setting})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Resolve(t.Context(), repo("a"), "1")
		fault(t, err, registry.Unavailable)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %q shows the proxy's password", err)
		}
	}
	t.Setenv("HTTPS_PROXY", "http://u:hunter2@a b")
	r, err := New(Config{Endpoints: []string{"https://registry.example"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Resolve(t.Context(), repo("a"), "1")
	fault(t, err, registry.Unavailable)
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %q shows the proxy's password", err)
	}
}
