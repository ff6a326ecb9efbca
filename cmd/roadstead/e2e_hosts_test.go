package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"roadstead/rewrite"
	"roadstead/rewrite/registries"
)

// A real containerd that is given the hosts.toml files that come of a registries.yaml asks for what
// Steps says, endpoint by endpoint. It is one without rewrites, which only the one of K3s has.
func TestContainerdAsksAsExplained(t *testing.T) {
	e2e(t)
	c := startContainerd(t)
	var mu sync.Mutex
	var asked []string
	nobody := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" http://"+r.Host+r.RequestURI)
		w.WriteHeader(http.StatusNotFound)
	}
	one, other, origin := httptest.NewServer(http.HandlerFunc(nobody)), httptest.NewServer(http.HandlerFunc(nobody)), httptest.NewServer(http.HandlerFunc(nobody))
	for _, s := range []*httptest.Server{one, other, origin} {
		t.Cleanup(s.Close)
	}
	host := strings.TrimPrefix(origin.URL, "http://")
	for _, text := range []string{
		fmt.Sprintf("mirrors: { %q: { endpoint: [ %q, %q ] } }", host, one.URL, other.URL+"/v2/hub"),
		fmt.Sprintf("mirrors: { %q: { endpoint: [ %q, %q ] } }", host, other.URL+"/hub", one.URL+"/v2/"),
		fmt.Sprintf("mirrors: { %q: { endpoint: [ %q, %q ] } }", host, strings.TrimPrefix(one.URL, "http://"), origin.URL),
		fmt.Sprintf("mirrors: { '*': { endpoint: [ %q ] }, %q: }", one.URL, host),
		fmt.Sprintf("mirrors: { other.example: { endpoint: [ %q ] } }", one.URL),
	} {
		f, err := registries.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		c.goBy(t, f)
		var want []string
		for _, s := range registries.Steps(f, rewrite.Image{Host: host, Name: "team/app", Tag: "1"}, registries.Containerd).Steps {
			want = append(want, s.Outcomes[0].Requests[0].Method+" "+s.Outcomes[0].Requests[0].URL)
		}
		mu.Lock()
		asked = nil
		mu.Unlock()
		if err := c.tryPull(host + "/team/app:1"); err == nil {
			t.Fatal("there is no such image")
		}
		mu.Lock()
		if !slices.Equal(asked, want) {
			t.Errorf("by %s containerd asks\n%s\nwant\n%s", text, strings.Join(asked, "\n"), strings.Join(want, "\n"))
		}
		mu.Unlock()
	}
}

// A real containerd that has this server as its mirror of everything goes on to a registry that no project here
// stands for after one question, also where there are private projects.
func TestContainerdGoesOnFromAMirrorOfEverything(t *testing.T) {
	e2e(t)
	c := startContainerd(t)
	u := startUpstream(t, upstreamConfig{})
	w := startWharf(t, nodeConfig{plain: true, projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})}})
	var mu sync.Mutex
	var asked []string
	note := func(who string, next http.Handler) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked = append(asked, who+" "+r.Method+" "+r.URL.Path)
			mu.Unlock()
			next.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		return s
	}
	at, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	mirror := note("mirror", httputil.NewSingleHostReverseProxy(at))
	host := strings.TrimPrefix(note("registry", http.NotFoundHandler()).URL, "http://")
	f, err := registries.Parse(fmt.Appendf(nil, "mirrors: { '*': { endpoint: [ %q ] }, %q: }", mirror.URL, host))
	if err != nil {
		t.Fatal(err)
	}
	c.goBy(t, f)
	if err := c.tryPull(host + "/team/app:1"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("the image is at neither, and containerd says: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"mirror HEAD /v2/team/app/manifests/1", "registry HEAD /v2/team/app/manifests/1"}; !slices.Equal(asked, want) {
		t.Errorf("containerd asks\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}

// goBy has pulls go by what we make of a registries.yaml.
func (c *containerd) goBy(t *testing.T, f *registries.File) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(c.dir, "hosts")); err != nil {
		t.Fatal(err)
	}
	for _, h := range f.HostsTOML() {
		dir := filepath.Join(c.dir, "hosts", h.Directory)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(h.Text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tryPull pulls what may be nowhere.
func (c *containerd) tryPull(name string) error {
	_, err := try(environment(c.dir), c.ctr, "--address", c.socket, "images", "pull", "--hosts-dir", c.dir+"/hosts", name)
	return err
}
