package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

// exported is an archive of an image of up.example that has two tags.
func exported(t *testing.T) (path string, d registry.Digest) {
	t.Helper()
	up := registrytest.New(t)
	d = up.PutImage("app", "v1", []byte("carried"))
	up.PutManifest("app", "v2", up.Descriptor("app", d).MediaType, up.Manifest("app", d))
	config := configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil)
	p := serve(t, config)
	_, body := p.get("/v2/up.example/app/manifests/v1")
	p.get("/v2/up.example/app/manifests/v2")
	var m struct {
		Config registry.Descriptor
		Layers []registry.Descriptor
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	for _, b := range append(m.Layers, m.Config) {
		if status, _ := p.get("/v2/up.example/app/blobs/" + string(b.Digest)); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	p.signal(syscall.SIGTERM)
	p.exit()
	path = filepath.Join(t.TempDir(), "images.tar")
	worked(t, "export", "--config", config, "-o", path, "--project", "up.example")
	return path, d
}

// A server that remembers otherwise sees what is imported beside it, and asks upstream when it is due and
// not before; while that is down what was imported stands in.
func TestImportBesideAServer(t *testing.T) {
	archive, d := exported(t)
	up := registrytest.New(t)
	other := up.PutImage("app", "v1", []byte("another"))
	project := proxied(up)
	project["ttl"], project["negative_ttl"] = "1h", "1h"
	config := configuration(t, map[string]map[string]any{"up.example": project}, nil)
	p := serve(t, config)
	if status, body := p.get("/v2/up.example/app/manifests/v1"); status != http.StatusOK || body != string(up.Manifest("app", other)) {
		t.Fatal(status, body)
	}
	if status, _ := p.get("/v2/up.example/app/manifests/v2"); status != http.StatusNotFound {
		t.Fatal(status)
	}
	up.Reset()
	out := worked(t, "import", "--config", config, archive)
	if want := "up.example/app:v1  " + string(d); !strings.Contains(out, want) {
		t.Errorf("%s; want %s", out, want)
	}
	p.wait("images were imported")
	for _, tag := range []string{"v1", "v2"} {
		if status, body := p.get("/v2/up.example/app/manifests/" + tag); status != http.StatusOK || strings.Contains(body, string(other)) {
			t.Errorf("%s: %d %s", tag, status, body)
		}
	}
	if asked := up.Requests(); len(asked) > 0 {
		t.Errorf("upstream was asked %q", asked)
	}
	if out := worked(t, "audit", "--config", config); !strings.Contains(out, "imported "+string(d)) {
		t.Errorf("the audit log has no import:\n%s", out)
	}

	// Due, and upstream is down.
	up.Fail("", 0, registrytest.Status(http.StatusServiceUnavailable))
	project["ttl"] = "0s"
	rewriteConfiguration(t, config, map[string]map[string]any{"up.example": project}, nil)
	p.signal(syscall.SIGHUP)
	p.wait("configuration reloaded")
	if status, body := p.get("/v2/up.example/app/manifests/v2"); status != http.StatusOK {
		t.Errorf("while upstream is down: %d %s", status, body)
	}
}

// Offline is said wherever somebody looks, and comes with a reload.
func TestOfflineIsSaid(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("never fetched"))
	projects := map[string]map[string]any{"up.example": proxied(up)}
	config := configuration(t, projects, nil)
	p := serve(t, config)
	rewriteConfiguration(t, config, projects, map[string]any{"offline": true})
	p.signal(syscall.SIGHUP)
	p.wait("configuration reloaded")
	began := time.Now()
	status, body := p.get("/v2/up.example/app/manifests/v1")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "offline") || time.Since(began) > 5*time.Second {
		t.Errorf("%d %s after %s", status, body, time.Since(began))
	}
	if _, body := p.get("admin/healthz"); !strings.Contains(body, "offline: true") {
		t.Errorf("/healthz: %s", body)
	}
	if out := worked(t, "check", "--config", config); !strings.Contains(out, "NO UPSTREAM IS EVER ASKED") {
		t.Errorf("check: %s", out)
	}
	if out := worked(t, "config", "export", "--config", config); !strings.Contains(out, "offline: true") {
		t.Errorf("config export: %s", out)
	}
	if asked := up.Requests(); len(asked) > 0 {
		t.Errorf("upstream was asked %q", asked)
	}
	if strings.Contains(p.log.String(), `"level":"WARN"`) {
		t.Errorf("something is warned of:\n%s", p.log)
	}
}

func TestWhatCannotBeExported(t *testing.T) {
	for _, row := range []struct {
		want string
		args []string
	}{
		{"call it", []string{"-o", "x.tar", "--zstd", "busybox"}},
		{"is a file", []string{"-o", "x", "--format", "docker", "busybox"}},
		{"has to be whole", []string{"-o", "x.tar", "--format", "docker", "--since", "x.digests", "busybox"}},
		{"for one platform", []string{"-o", "x.tar", "--format", "docker", "--all-platforms", "busybox"}},
		{"two things", []string{"-o", "x.tar", "--platform", "linux/amd64", "--all-platforms", "busybox"}},
		{"no image is named", []string{"-o", "x.tar"}},
	} {
		refused(t, row.want, append([]string{"export"}, row.args...)...)
	}
}
