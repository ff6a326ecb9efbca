package upstream

import (
	"crypto/tls"
	"os"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

// TestTLS is U3: what cannot be proved is not believed, and never asked without TLS.
func TestTLS(t *testing.T) {
	authority, stranger := registrytest.NewAuthority(t), registrytest.NewAuthority(t)
	old := authority.Server(registrytest.Leaf{})
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	for _, row := range []struct {
		name     string
		server   *tls.Config
		insecure bool
		fine     bool
	}{
		{"a good certificate", authority.Server(registrytest.Leaf{}), false, true},
		{"expired", authority.Server(registrytest.Leaf{Until: time.Now().Add(-time.Hour)}), false, false},
		{"another name", authority.Server(registrytest.Leaf{Only: true, Names: []string{"other.example"}}), false, false},
		{"an unknown authority", stranger.Server(registrytest.Leaf{}), false, false},
		{"TLS 1.1", old, false, false},
		{"an unknown authority and insecure", stranger.Server(registrytest.Leaf{}), true, true},
		{"expired and insecure", authority.Server(registrytest.Leaf{Until: time.Now().Add(-time.Hour)}), true, true},
		{"no TLS at all", nil, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.Listen(t, registrytest.Options{TLS: row.server})
			up.PutImage("a", "1", []byte("x"))
			r := open(t, Config{
				Endpoints: []string{"https://" + up.Host()}, CAFile: file(t, "ca.pem", authority.PEM()), Insecure: row.insecure,
				Credentials: Credentials{Username: "u", Password: "p"},
			})
			_, err := r.Resolve(t.Context(), repo("a"), "1")
			if row.fine {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f := fault(t, err, registry.Unavailable)
			if !strings.Contains(f.Message, "TLS") {
				t.Errorf("message %q does not say that it is about TLS", f.Message)
			}
			if len(up.Requests()) > 0 || len(up.Secrets()) > 0 {
				t.Errorf("asked %q all the same", up.Requests())
			}
			if n := up.Connections(); n != 1 {
				t.Errorf("%d connections, want 1: it will not get better", n)
			}
		})
	}
}

func TestHTTP2(t *testing.T) {
	authority := registrytest.NewAuthority(t)
	up := registrytest.Listen(t, registrytest.Options{TLS: authority.Server(registrytest.Leaf{}), HTTP2: true})
	content := pattern(3 << 20)
	blob := up.PutBlob("a", content)
	up.Fail("/blobs/", 1, registrytest.Truncate(1<<20))
	r := open(t, Config{CAFile: file(t, "ca.pem", authority.PEM())}, up)
	got, err := all(r, "a", blob)
	if err != nil || string(got) != string(content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if got := up.Count("/blobs/"); got != 2 {
		t.Errorf("%d requests, want one and one to resume", got)
	}
	if n := up.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestClientCertificate shows it to the endpoint, and not to a host that a redirect names.
func TestClientCertificate(t *testing.T) {
	authority := registrytest.NewAuthority(t)
	wants := func(must tls.ClientAuthType) *tls.Config {
		config := authority.Server(registrytest.Leaf{})
		config.ClientCAs = authority.Pool()
		config.ClientAuth = must
		return config
	}
	up := registrytest.Listen(t, registrytest.Options{TLS: wants(tls.RequireAndVerifyClientCert)})
	seen := make(chan int, 8)
	elsewhere := wants(tls.RequestClientCert)
	elsewhere.VerifyConnection = func(state tls.ConnectionState) error {
		seen <- len(state.PeerCertificates)
		return nil
	}
	storage := registrytest.Listen(t, registrytest.Options{TLS: elsewhere})
	up.PutImage("a", "1", []byte("x"))
	blob := storage.PutBlob("a", []byte("x"))
	up.Fail("/blobs/", 0, registrytest.Redirect(storage.URL()))

	certificate, key := authority.Issue(registrytest.Leaf{Client: true})
	c := Config{CAFile: file(t, "ca.pem", authority.PEM()), CertificateFile: file(t, "c.pem", certificate), KeyFile: file(t, "k.pem", key)}
	r := open(t, c, up)
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := all(r, "a", blob); err != nil {
		t.Fatal(err)
	}
	if n := <-seen; n != 0 {
		t.Errorf("the redirect's host saw %d client certificates", n)
	}

	bare := open(t, Config{CAFile: c.CAFile}, up)
	_, err := bare.Resolve(t.Context(), repo("a"), "1")
	fault(t, err, registry.Unavailable)

	// A renewed certificate is read for the next connection, and a lost one is noticed there.
	r.Close()
	if err := os.Remove(c.KeyFile); err != nil {
		t.Fatal(err)
	}
	_, err = r.Resolve(t.Context(), repo("a"), "1")
	fault(t, err, registry.Unavailable)
}
