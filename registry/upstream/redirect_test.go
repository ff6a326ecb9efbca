package upstream

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

// TestRedirects is A1, A3, A4, U14, U15 and U16. The upstream is on 127.0.0.1 and wants a
// token, the sentinel is somewhere else and must see none.
func TestRedirects(t *testing.T) {
	content := []byte("0123456789")
	const signature = "?X-Amz-Signature=canary"
	for _, row := range []struct {
		name     string
		location func(up, sentinel *registrytest.Registry, path string) string
		address  string // of the sentinel; 127.0.0.2 is private
		want     registry.Code
		seen     int // requests that reach the sentinel
		asked    int // requests that reach the upstream after its token
	}{
		{"U15 to another host", func(_, s *registrytest.Registry, path string) string { return s.URL() + path }, "127.0.0.1", "", 1, 1},
		{"A3 to a signed URL", func(_, s *registrytest.Registry, path string) string { return s.URL() + path + signature }, "127.0.0.1", "", 1, 1},
		{"A1 with a user in the URL", func(_, s *registrytest.Registry, path string) string {
			return strings.Replace(s.URL(), "://", "://user:canary@", 1) + path
		}, "127.0.0.1", "", 1, 1},
		{"without a scheme", func(_, s *registrytest.Registry, path string) string { return "//" + s.Host() + path }, "127.0.0.1", "", 1, 1},
		{"U16 to a private address", func(_, s *registrytest.Registry, path string) string { return s.URL() + path + signature }, "127.0.0.2", registry.Unavailable, 0, 1},
		{"A8 to a private address in IPv6 clothes", func(_, s *registrytest.Registry, path string) string {
			return strings.Replace(s.URL(), "127.0.0.2", "[::ffff:127.0.0.2]", 1) + path + signature
		}, "127.0.0.2", registry.Unavailable, 0, 1},
		{"A4 out of HTTP", func(_, _ *registrytest.Registry, path string) string { return "file:///etc/passwd" + signature }, "127.0.0.1", registry.Unavailable, 0, 1},
		{"to no host", func(_, _ *registrytest.Registry, path string) string { return "http:" + path + signature }, "127.0.0.1", registry.Unavailable, 0, 1},
		{"to no URL", func(_, _ *registrytest.Registry, path string) string { return "http://a b/" + signature }, "127.0.0.1", registry.Unavailable, 0, 1},
		{"to nothing", func(_, _ *registrytest.Registry, path string) string { return "" }, "127.0.0.1", registry.Unavailable, 0, 1},
		{"U14 in circles", func(up, _ *registrytest.Registry, path string) string { return up.URL() + path + signature }, "127.0.0.1", registry.Unavailable, 0, 6},
	} {
		t.Run(row.name, func(t *testing.T) {
			up, sentinel := registrytest.New(t), registrytest.Listen(t, registrytest.Options{Address: row.address + ":0"})
			up.Require(registrytest.Auth{Username: "u", Password: "hunter2"})
			blob := up.PutBlob("a", content)
			sentinel.PutBlob("a", content)
			path := "/v2/a/blobs/" + blob.String()
			r := behind(open(t, Config{Credentials: Credentials{Username: "u", Password: "hunter2"}}, up))
			if _, err := all(r, "a", blob); err != nil { // so that the token is there
				t.Fatal(err)
			}
			up.Reset()
			up.Fail("/blobs/", 0, registrytest.RedirectTo(row.location(up, sentinel, path)))
			got, err := all(r, "a", blob)
			if row.want == "" && (err != nil || string(got) != string(content)) {
				t.Errorf("got %q, %v", got, err)
			}
			if row.want != "" {
				f := fault(t, err, row.want)
				for _, secret := range []string{"canary", "hunter2", "token-", "/blobs/"} {
					if strings.Contains(f.Error(), secret) {
						t.Errorf("error %q shows %q", f, secret)
					}
				}
			}
			if got := len(sentinel.Requests()); got != row.seen {
				t.Errorf("the sentinel got %d requests, want %d", got, row.seen)
			}
			if got := sentinel.Secrets(); len(got) > 0 {
				t.Errorf("secrets left in %q", got)
			}
			if got := len(up.Requests()); got != row.asked {
				t.Errorf("the upstream got %q, want %d requests", up.Requests(), row.asked)
			}
		})
	}
}

// TestRedirectAndBack is A3: what was elsewhere comes back without credentials, however often
// (CVE-2024-45336).
func TestRedirectAndBack(t *testing.T) {
	up, other := registrytest.New(t), registrytest.New(t)
	up.Require(registrytest.Auth{Basic: true, Username: "u", Password: "p"})
	blob := up.PutBlob("a", []byte("x"))
	path := "/v2/a/blobs/" + blob.String()
	r := open(t, Config{Credentials: Credentials{Username: "u", Password: "p"}}, up)
	if _, err := all(r, "a", blob); err != nil {
		t.Fatal(err)
	}
	up.Reset()
	up.Fail("/blobs/", 1, registrytest.RedirectTo(other.URL()+path))
	other.Fail("/blobs/", 0, registrytest.RedirectTo(up.URL()+path+"?again"))
	up.Fail("/blobs/", 1, registrytest.RedirectTo("/v2/a/blobs/"+blob.String()+"?third"))
	_, err := all(r, "a", blob)
	fault(t, err, registry.Denied) // the last request was a stranger's
	wants(t, up, "GET "+path, "GET "+path+"?again", "GET "+path+"?third")
	wants(t, other, "GET "+path)
	if got := up.Secrets(); len(got) != 1 {
		t.Errorf("credentials came with %q, want the first only", got)
	}
	if got := other.Secrets(); len(got) > 0 {
		t.Errorf("secrets left in %q", got)
	}
}

// TestRedirectAtHome keeps the credentials: the host is the one that they are for.
func TestRedirectAtHome(t *testing.T) {
	up := registrytest.New(t)
	up.Require(registrytest.Auth{Basic: true, Username: "u", Password: "p"})
	blob := up.PutBlob("a", []byte("x"))
	up.PutBlob("b", []byte("x"))
	up.Fail("/v2/a/", 0, registrytest.RedirectTo("../../b/blobs/"+blob.String()))
	r := open(t, Config{Credentials: Credentials{Username: "u", Password: "p"}}, up)
	if _, err := all(r, "a", blob); err != nil {
		t.Error(err)
	}
	if n := up.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestDowngrade is A4: https never becomes http, by redirect or by retry.
func TestDowngrade(t *testing.T) {
	authority := registrytest.NewAuthority(t)
	up := registrytest.Listen(t, registrytest.Options{TLS: authority.Server(registrytest.Leaf{})})
	sentinel := registrytest.New(t)
	blob := up.PutBlob("a", []byte("x"))
	sentinel.PutBlob("a", []byte("x"))
	up.Fail("/blobs/", 0, registrytest.Redirect(sentinel.URL()))
	r := open(t, Config{CAFile: file(t, "ca.pem", authority.PEM())}, up)
	_, err := all(r, "a", blob)
	f := fault(t, err, registry.Unavailable)
	if !strings.Contains(f.Message, "from https to http") {
		t.Errorf("message %q", f.Message)
	}
	wants(t, sentinel)
	wants(t, up, "GET /v2/a/blobs/"+blob.String())
}

// TestRedirectTarget is how a storage behind an upstream fails.
func TestRedirectTarget(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault registrytest.Fault
		times int
		want  registry.Code
		asked int
	}{
		{"U7 is broken once", registrytest.Status(http.StatusServiceUnavailable), 1, "", 2},
		{"U7 is broken", registrytest.Status(http.StatusServiceUnavailable), 0, registry.Unavailable, 3},
		{"has nothing", registrytest.Status(http.StatusNotFound), 0, registry.BlobUnknown, 1},
		{"denies", registrytest.Status(http.StatusForbidden), 0, registry.Denied, 1},
		{"wants credentials", registrytest.Status(http.StatusUnauthorized, "WWW-Authenticate", "Basic"), 0, registry.Denied, 1},
		{"U6 throttles", registrytest.Status(http.StatusTooManyRequests, "Retry-After", "5"), 0, registry.Throttled, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			up, storage := registrytest.New(t), registrytest.New(t)
			up.Require(registrytest.Auth{Basic: true, Username: "u", Password: "p"})
			blob := up.PutBlob("a", []byte("x"))
			storage.PutBlob("a", []byte("x"))
			r := open(t, Config{Credentials: Credentials{Username: "u", Password: "p"}}, up)
			if _, err := all(r, "a", blob); err != nil {
				t.Fatal(err)
			}
			up.Fail("/blobs/", 0, registrytest.Redirect(storage.URL()))
			storage.Fail("/blobs/", row.times, row.fault)
			_, err := all(r, "a", blob)
			if row.want == "" && err != nil {
				t.Error(err)
			}
			if row.want != "" {
				fault(t, err, row.want)
			}
			if got := len(storage.Requests()); got != row.asked {
				t.Errorf("the storage was asked %d times, want %d", got, row.asked)
			}
			if got := storage.Secrets(); len(got) > 0 {
				t.Errorf("secrets left in %q", got)
			}
			up.Heal()
			if _, err := all(r, "a", blob); err != nil {
				t.Errorf("the upstream itself is fine, and yet: %v", err)
			}
		})
	}
}

// file writes a file that ends with the test.
func file(t testing.TB, name string, b []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
