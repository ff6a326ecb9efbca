package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"roadstead/registry"
)

// pier is a server over one shelf with an image in docker.io/library/busybox.
type pier struct {
	*running
	shelf    *shelf
	server   *Server
	manifest registry.Digest
	blob     registry.Digest
}

var (
	busybox = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}`)
	layer   = bytes.Repeat([]byte("0123456789"), 100)
)

func newPier(t testing.TB) *pier {
	p := &pier{shelf: newShelf()}
	p.manifest = p.shelf.tag("docker.io/library/busybox:1.35", registry.MediaTypeDockerManifest, busybox)
	p.blob = p.shelf.put(layer)
	p.server = New(Config{
		Registry: stocktaker{p.shelf},
		Known:    isDockerHub,
		Route: func(host, ns, name string) (registry.Repo, error) {
			if ns != "" && ns != "docker.io" {
				return registry.Repo{}, &registry.Fault{Code: registry.NameUnknown, Message: "no upstream is called " + ns}
			}
			repo := registry.SplitRepo(name)
			if repo.Project != "docker.io" {
				repo = registry.Repo{Project: "docker.io", Name: name}
			}
			return repo, nil
		},
	})
	p.running = start(t, p.server)
	return p
}

func wantHeader(t *testing.T, resp *http.Response, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got := resp.Header.Get(key); got != value {
			t.Errorf("%s: %q, want %q", key, got, value)
		}
	}
}

// checkError checks the form of an error, and its code unless that is empty.
func checkError(t *testing.T, resp *http.Response, body []byte, code registry.Code) {
	t.Helper()
	var answer struct {
		Errors []struct {
			Code    registry.Code
			Message string
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Errors) != 1 || answer.Errors[0].Message == "" {
		t.Fatalf("%q is no error of the specification: %v", body, err)
	}
	if code != "" && answer.Errors[0].Code != code {
		t.Errorf("code %s, want %s", answer.Errors[0].Code, code)
	}
	wantHeader(t, resp, map[string]string{"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"})
	if resp.ContentLength != int64(len(body)) {
		t.Errorf("Content-Length %d, %d bytes", resp.ContentLength, len(body))
	}
}

func TestPing(t *testing.T) {
	p := newPier(t)
	for _, path := range []string{
		"/v2/", "/v2", "/v2/?ns=docker.io", "/v2/docker.io/", "/v2/docker.io", "/v2/docker.io/?ns=docker.io",
		"/docker.io/v2/", "/docker.io/v2", "/docker.io/", "//v2//",
	} {
		resp, body := p.ask(t, "GET", path)
		if resp.StatusCode != 200 || string(body) != "{}" || resp.Header.Get("Docker-Distribution-API-Version") != "registry/2.0" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("GET %s: %s %q %v", path, resp.Status, body, resp.Header)
		}
		resp, _ = p.ask(t, "HEAD", path)
		if resp.StatusCode != 200 || resp.ContentLength != 2 {
			t.Errorf("HEAD %s: %s, Content-Length %d", path, resp.Status, resp.ContentLength)
		}
	}
}

func TestOther(t *testing.T) {
	shelf := newShelf()
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>", r.URL.Path) })
	log := &lines{}
	with := start(t, New(Config{Registry: shelf, Known: isDockerHub, Other: page, Log: log.logger()}))
	for path, want := range map[string]string{"/": "/", "/console//x": "/console/x", "//service/token": "/service/token", "/api/v2.0/projects": "/api/v2.0/projects"} {
		if resp, body := with.ask(t, "GET", path); resp.StatusCode != 200 || string(body) != "<html>"+want {
			t.Errorf("GET %s: %s %s", path, resp.Status, body)
		}
		if line := log.next(t); line["kind"] != "other" || line["path"] != path || line["status"] != 200.0 {
			t.Errorf("the log says %v of %s", line, path)
		}
	}
	for _, path := range []string{"/v2/nothing", "/v2/a/b/c", "/docker.io/x", "/docker.io/index.html", "//docker.io/x", "/console/../v2/"} {
		resp, body := with.ask(t, "GET", path)
		if resp.StatusCode/100 != 4 {
			t.Errorf("GET %s: %s %s", path, resp.Status, body)
		}
		checkError(t, resp, body, "")
	}
	resp, body := start(t, New(Config{Registry: shelf})).ask(t, "GET", "/index.html")
	if resp.StatusCode != 404 {
		t.Errorf("without a handler for the rest: %s", resp.Status)
	}
	checkError(t, resp, body, registry.NameUnknown)
}

func TestStale(t *testing.T) {
	p := newPier(t)
	p.shelf.note = registry.Stale
	for _, path := range []string{
		"/manifests/1.35", "/manifests/" + string(p.manifest), "/blobs/" + string(p.blob), "/tags/list", "/referrers/" + string(p.manifest),
	} {
		for _, method := range []string{"GET", "HEAD"} {
			resp, _ := p.ask(t, method, "/v2/docker.io/library/busybox"+path)
			if got, want := resp.Header.Get("Warning"), `110 - "Response is Stale"`; resp.StatusCode != 200 || got != want {
				t.Errorf("%s %s: %s, Warning %q, want %q", method, path, resp.Status, got, want)
			}
		}
	}
}
