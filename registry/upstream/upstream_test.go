package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

// open makes an upstream of registries on loopback, which counts as public here, and makes
// sure that nothing else is ever dialled.
func open(t testing.TB, c Config, from ...*registrytest.Registry) *Registry {
	t.Helper()
	for _, r := range from {
		c.Endpoints = append(c.Endpoints, r.URL())
	}
	if c.Name == "" {
		c.Name = "example.com"
	}
	if c.Proxy == "" {
		c.Proxy = "direct"
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.dialer.refuses = func(a netip.Addr) bool {
		if !a.Unmap().IsLoopback() {
			t.Errorf("dialled %s", a)
			return true
		}
		return false
	}
	t.Cleanup(r.Close)
	return r
}

// behind makes only 127.0.0.1 count as public, so that 127.0.0.2 is a private address.
func behind(r *Registry) *Registry {
	r.dialer.refuses = func(a netip.Addr) bool { return a.Unmap() != netip.MustParseAddr("127.0.0.1") }
	return r
}

func repo(name string) registry.Repo { return registry.Repo{Name: name} }

// all reads a blob to its end.
func all(r *Registry, name string, d registry.Digest) ([]byte, error) {
	b, err := r.Blob(context.Background(), repo(name), d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

// wants compares the requests that a registry got.
func wants(t *testing.T, r *registrytest.Registry, want ...string) {
	t.Helper()
	if got := r.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// fault checks an error's code and returns what it tells the client.
func fault(t *testing.T, err error, want registry.Code) *registry.Fault {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %s", err, want)
	}
	f, ok := errors.AsType[*registry.Fault](err)
	if !ok {
		t.Fatalf("error %v is no Fault", err)
	}
	return f
}

// pattern is bytes that show where they come from.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i)
	}
	return b
}

func TestEveryQuestion(t *testing.T) {
	up := registrytest.New(t)
	image := up.PutImage("library/busybox", "1.35", []byte("layer"))
	up.PutImage("library/busybox", "1.36", []byte("layer 2"))
	blob := up.PutBlob("library/busybox", []byte("0123456789"))
	sum := up.PutReferrer("library/busybox", image, "application/vnd.example.sum", []byte("sum"))
	up.PutReferrer("library/busybox", image, "application/vnd.example.other", []byte("other"))
	r := open(t, Config{}, up)
	ctx, busybox := t.Context(), registry.Repo{Project: "docker.io", Name: "library/busybox"}
	base := "/v2/library/busybox/"

	for _, row := range []struct {
		name     string
		ask      func() (string, error)
		want     string
		requests []string
	}{
		{
			"a tag", func() (string, error) {
				d, err := r.Resolve(ctx, busybox, "1.35")
				return fmt.Sprint(d.MediaType, " ", d.Digest, " ", d.Size), err
			},
			fmt.Sprint(registry.MediaTypeOCIManifest, " ", image, " ", len(up.Manifest("library/busybox", image))),
			[]string{"HEAD " + base + "manifests/1.35"},
		}, {
			"a manifest", func() (string, error) {
				m, err := r.Manifest(ctx, busybox, image)
				return m.MediaType + " " + m.Digest.String() + " " + string(m.Bytes), err
			},
			registry.MediaTypeOCIManifest + " " + image.String() + " " + string(up.Manifest("library/busybox", image)),
			[]string{"GET " + base + "manifests/" + image.String()},
		}, {
			"a blob", func() (string, error) {
				b, err := r.Blob(ctx, busybox, blob)
				if err != nil {
					return "", err
				}
				defer b.Close()
				bytes, err := io.ReadAll(b)
				return fmt.Sprint(b.Size, " ", string(bytes)), err
			},
			"10 0123456789",
			[]string{"GET " + base + "blobs/" + blob.String()},
		}, {
			"a blob's size", func() (string, error) {
				d, err := r.StatBlob(ctx, busybox, blob)
				return fmt.Sprint(d.Digest, " ", d.Size), err
			},
			fmt.Sprint(blob, " 10"),
			[]string{"HEAD " + base + "blobs/" + blob.String()},
		}, {
			"tags", func() (string, error) {
				tags, err := r.Tags(ctx, busybox, "", -1)
				return fmt.Sprint(tags), err
			},
			"[1.35 1.36]",
			[]string{"GET " + base + "tags/list?n=1000"},
		}, {
			"no tags at all", func() (string, error) {
				tags, err := r.Tags(ctx, busybox, "", 0)
				return fmt.Sprint(tags), err
			},
			"[]",
			nil,
		}, {
			"referrers of a type", func() (string, error) {
				list, err := r.Referrers(ctx, busybox, image, "application/vnd.example.sum")
				return fmt.Sprint(len(list), " ", list[0].Digest, " ", list[0].ArtifactType), err
			},
			fmt.Sprint("1 ", sum, " application/vnd.example.sum"),
			[]string{"GET " + base + "referrers/" + image.String() + "?artifactType=application/vnd.example.sum"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			up.Reset()
			got, err := row.ask()
			if err != nil {
				t.Fatal(err)
			}
			if got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			wants(t, up, row.requests...)
		})
	}
	for _, req := range up.Log() {
		if got := req.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("%s: Accept-Encoding %q, want identity", req.Line, got)
		}
		if got := req.Header.Get("User-Agent"); got != "roadstead" {
			t.Errorf("%s: User-Agent %q", req.Line, got)
		}
	}
	if n := up.Connections(); n != 1 {
		t.Errorf("%d connections were made one after the other, want 1", n)
	}
}

func TestUnknown(t *testing.T) {
	up := registrytest.New(t)
	known := up.PutImage("a", "1", []byte("x"))
	r := open(t, Config{}, up)
	other := registry.Digest("sha256:" + strings.Repeat("0", 64))
	for _, row := range []struct {
		name     string
		ask      func(ctx context.Context) error
		want     registry.Code // none: no error
		requests []string
	}{
		{"U5 tag", func(ctx context.Context) error { _, err := r.Resolve(ctx, repo("a"), "2"); return err },
			registry.ManifestUnknown, []string{"HEAD /v2/a/manifests/2"}},
		{"U5 manifest", func(ctx context.Context) error { _, err := r.Manifest(ctx, repo("a"), other); return err },
			registry.ManifestUnknown, []string{"GET /v2/a/manifests/" + other.String()}},
		{"U5 blob", func(ctx context.Context) error { _, err := r.Blob(ctx, repo("a"), other); return err },
			registry.BlobUnknown, []string{"GET /v2/a/blobs/" + other.String()}},
		{"U5 size of a blob", func(ctx context.Context) error { _, err := r.StatBlob(ctx, repo("a"), other); return err },
			registry.BlobUnknown, []string{"HEAD /v2/a/blobs/" + other.String()}},
		{"U5 repository of a manifest", func(ctx context.Context) error { _, err := r.Manifest(ctx, repo("b"), known); return err },
			registry.NameUnknown, []string{"GET /v2/b/manifests/" + known.String()}},
		{"U5 repository of tags", func(ctx context.Context) error { _, err := r.Tags(ctx, repo("b"), "", -1); return err },
			registry.NameUnknown, []string{"GET /v2/b/tags/list?n=1000"}},
		{"nothing refers to it", func(ctx context.Context) error { _, err := r.Referrers(ctx, repo("a"), other, ""); return err },
			"", []string{"GET /v2/a/referrers/" + other.String()}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up.Reset()
			err := row.ask(t.Context())
			if row.want == "" && err != nil || row.want != "" && !errors.Is(err, row.want) {
				t.Errorf("error %v, want %s", err, row.want)
			}
			wants(t, up, row.requests...)
		})
	}
}

func TestPrefix(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("mirror/hub/library/busybox", "1", []byte("x"))
	r := open(t, Config{Prefix: "/mirror/hub/", Endpoints: []string{up.URL() + "/v2/"}})
	if _, err := r.Resolve(t.Context(), repo("library/busybox"), "1"); err != nil {
		t.Fatal(err)
	}
	wants(t, up, "HEAD /v2/mirror/hub/library/busybox/manifests/1")
}

func TestEndpointWithPath(t *testing.T) {
	up := registrytest.New(t)
	r := open(t, Config{Endpoints: []string{up.URL() + "/artifactory/api/docker/hub/"}})
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); !registry.Unknown(err) {
		t.Errorf("error %v", err)
	}
	if got, want := up.Requests()[0], "HEAD /artifactory/api/docker/hub/v2/a/manifests/1"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestConfigRefused(t *testing.T) {
	good := []string{"https://registry.example"}
	for _, row := range []struct {
		name   string
		config Config
		want   string
	}{
		{"no endpoint", Config{}, "no endpoint"},
		{"no host", Config{Endpoints: []string{"https://"}}, "is not http://host"},
		{"no scheme", Config{Endpoints: []string{"registry.example"}}, "is not http://host"},
		{"a scheme of another kind", Config{Endpoints: []string{"ftp://registry.example"}}, "is not http://host"},
		{"credentials in the URL", Config{Endpoints: []string{"https://u:hunter2@registry.example"}}, "do not belong into its URL"},
		{"a bad URL with credentials", Config{Endpoints: []string{"https://u:hunter2@registry .example"}}, "is not a URL"},
		{"a query", Config{Endpoints: []string{"https://registry.example/?a=b"}}, "query"},
		{"a password without a user", Config{Endpoints: good, Credentials: Credentials{Password: "hunter2"}}, "without a username"},
		{"a user without a password", Config{Endpoints: good, Credentials: Credentials{Username: "u"}}, "without a password"},
		{"two passwords", Config{Endpoints: good, Credentials: Credentials{Username: "u", Password: "hunter2", PasswordFile: "x"}}, "both given"},
		{"a password and a helper", Config{Endpoints: good, Credentials: Credentials{Username: "u", Password: "hunter2", Helper: "x"}}, "both given"},
		{"no such password file", Config{Endpoints: good, Credentials: Credentials{Username: "u", PasswordFile: "/nonexistent"}}, "/nonexistent"},
		{"a helper with a path", Config{Endpoints: good, Credentials: Credentials{Helper: "../../bin/sh"}}, "is not the part"},
		{"no such helper", Config{Endpoints: good, Credentials: Credentials{Helper: "roadstead-nonexistent"}}, "executable file not found"},
		{"no such CA file", Config{Endpoints: good, CAFile: "/nonexistent"}, "/nonexistent"},
		{"no certificate in the CA file", Config{Endpoints: good, CAFile: "upstream.go"}, "no PEM certificate"},
		{"no such client certificate", Config{Endpoints: good, CertificateFile: "/nonexistent", KeyFile: "/nonexistent"}, "/nonexistent"},
		{"a proxy of another kind", Config{Endpoints: good, Proxy: "ftp://u:hunter2@proxy.example"}, "is not http, https or socks5"},
		{"a bad proxy with credentials", Config{Endpoints: good, Proxy: "http://u:hunter2@proxy .example"}, "is not a URL"},
		{"a proxy without a host", Config{Endpoints: good, Proxy: "http://"}, "names no host"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := New(row.config)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q in it", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v shows the password", err)
			}
		})
	}
}

func TestStats(t *testing.T) {
	up := registrytest.New(t)
	up.Require(registrytest.Auth{Anonymous: true})
	up.Set(registrytest.Knobs{RateLimit: "100;w=21600", RateRemaining: "76;w=21600"})
	up.PutImage("a", "1", []byte("x"))
	d := up.PutBlob("a", pattern(1000))
	r := open(t, Config{}, up)
	if r.Stats().Endpoints[0].Asked {
		t.Error("an endpoint was asked by nobody")
	}
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
	if !r.Stats().Endpoints[0].Asked {
		t.Error("nobody has noticed that the endpoint was asked")
	}
	up.Fail("/blobs/", 1, registrytest.Status(500))
	up.Fail("/blobs/", 1, registrytest.Truncate(300))
	if _, err := all(r, "a", d); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resolve(t.Context(), repo("a"), "2"); !registry.Unknown(err) {
		t.Fatal(err)
	}
	s := r.Stats()
	for class, want := range map[string]int64{"2xx": 4, "401": 1, "404": 1, "5xx": 1, "none": 0} {
		if got := s.Requests[class]; got != want {
			t.Errorf("%d requests of class %s, want %d", got, class, want)
		}
	}
	if s.Tokens != 1 || s.Retries != 1 || s.Resumes != 1 {
		t.Errorf("%d tokens, %d retries, %d resumes, want one of each", s.Tokens, s.Retries, s.Resumes)
	}
	if s.Bytes < 1000 || s.Bytes > 2000 {
		t.Errorf("%d bytes, want the blob's 1000 and some of other answers", s.Bytes)
	}
	if s.Limit.Limit != 100 || s.Limit.Remaining != 76 || s.Limit.Window != 6*time.Hour || s.Limit.At.IsZero() {
		t.Errorf("U6 limit %+v", s.Limit)
	}
	n := int64(0)
	for _, c := range s.Latency.Counts {
		n += c
	}
	if n != 7 || len(s.Latency.Counts) != len(s.Latency.Bounds)+1 || s.Latency.Sum <= 0 {
		t.Errorf("latency %+v of %d requests, want 7", s.Latency, n)
	}
	if len(s.Requests) != len(Classes) || len(s.Endpoints) != 1 || s.Endpoints[0].Host != up.Host() || s.Endpoints[0].Down {
		t.Errorf("stats %+v", s)
	}
}

// TestLimits looks at the fields of Docker Hub and at what is like them.
func TestLimits(t *testing.T) {
	for _, row := range []struct {
		field  string
		n      int64
		window time.Duration
		ok     bool
	}{
		{"100;w=21600", 100, 6 * time.Hour, true},
		{"0;w=60", 0, time.Minute, true},
		{"7", 7, 0, true},
		{"", 0, 0, false},
		{"-1;w=60", 0, time.Minute, false},
		{"1;w=99999999999999999999", 1, 0, true},
	} {
		n, window, ok := limit(row.field)
		if n != row.n || window != row.window || ok != row.ok {
			t.Errorf("limit(%q) = %d, %s, %t", row.field, n, window, ok)
		}
	}
}

// TestConcurrently is for the race detector.
func TestConcurrently(t *testing.T) {
	up := registrytest.New(t)
	up.Require(registrytest.Auth{Anonymous: true, Uses: 3})
	up.PutImage("a", "1", []byte("x"))
	d := up.PutBlob("a", pattern(300_000))
	up.Fail("/blobs/", 5, registrytest.Truncate(100_000))
	r := open(t, Config{}, up)
	var failed atomic.Int64
	t.Run("together", func(t *testing.T) {
		for range 20 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil && !errors.Is(err, registry.Denied) {
					t.Error(err)
				}
				b, err := all(r, "a", d)
				if err != nil && !errors.Is(err, registry.Denied) {
					t.Error(err)
				}
				if err == nil && !slices.Equal(b, pattern(300_000)) {
					t.Error("other bytes")
				}
				if err != nil {
					failed.Add(1)
				}
				r.Stats()
			})
		}
	})
	// A token for three uses is refused to most of twenty; that is the registry's own doing.
	t.Logf("%d of 20 were refused", failed.Load())
}
