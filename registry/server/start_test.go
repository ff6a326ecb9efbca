package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"roadstead/registry"
)

// running is a server on a real listener with a client for it. The client follows no
// redirect and asks for no compression.
type running struct {
	*http.Client
	url  string
	addr string
	end  func() error // ends it and says what Serve returned
}

func start(t testing.TB, s *Server) *running {
	t.Helper()
	return startOn(t, s, listen(t), nil)
}

// startTLS starts a server with TLS. The client speaks HTTP/2, or HTTP/1.1 if that is wanted.
func startTLS(t testing.TB, s *Server, http1 bool) *running {
	t.Helper()
	lender := httptest.NewTLSServer(nil) // only its certificate is of interest
	lender.Close()
	run := startOn(t, s, listen(t), &tls.Config{Certificates: lender.TLS.Certificates})
	pool := x509.NewCertPool()
	pool.AddCert(lender.Certificate())
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: pool, ServerName: "example.com"},
		ForceAttemptHTTP2:  !http1,
		DisableCompression: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	run.Client.Transport = transport
	run.url = "https://" + run.addr
	return run
}

func startOn(t testing.TB, s *Server, l net.Listener, config *tls.Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, config) }()
	transport := &http.Transport{DisableCompression: true}
	run := &running{
		Client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		url:  "http://" + l.Addr().String(),
		addr: l.Addr().String(),
		end: sync.OnceValue(func() error {
			cancel()
			return <-ended
		}),
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		run.end()
	})
	return run
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ask sends a request and returns the answer with its body read.
func (run *running) ask(t testing.TB, method, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, run.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := run.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, body
}

// eventually waits for what another goroutine or the kernel is about to do.
func eventually(t testing.TB, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

// panicking opens content that panics when it is read.
func panicking(_ registry.Digest, b []byte) (registry.Blob, error) {
	return registry.Blob{ReadSeekCloser: struct {
		io.Reader
		io.Seeker
		io.Closer
	}{panicReader{}, bytes.NewReader(b), io.NopCloser(nil)}, Size: int64(len(b))}, nil
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("the reader broke") }
