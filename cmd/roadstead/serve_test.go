package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"roadstead/registry/registrytest"
)

// configuration writes a configuration of these projects, on free ports and a directory of its
// own, and returns the file.
func configuration(t *testing.T, projects map[string]map[string]any, more map[string]any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roadstead.yaml")
	rewriteConfiguration(t, path, projects, more)
	return path
}

func rewriteConfiguration(t *testing.T, path string, projects map[string]map[string]any, more map[string]any) {
	t.Helper()
	config := map[string]any{
		"listen": "127.0.0.1:0", "admin": "127.0.0.1:0",
		"log":     map[string]any{"format": "json", "level": "debug"},
		"storage": map[string]any{"directory": "data", "floor": "1MiB"}, "builtin_projects": false, "default_project": "",
		"projects": projects,
	}
	maps.Copy(config, more)
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(text))
}

func proxied(r *registrytest.Registry) map[string]any {
	return map[string]any{"endpoints": []string{r.URL()}, "allow_private": true}
}

// arrives waits until a request has reached an upstream.
func arrives(t *testing.T, up *registrytest.Registry, match string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); up.Count(match) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q has come: %q", match, up.Requests())
		}
	}
}

func TestServePullsThroughAndKeepsWhatItPulled(t *testing.T) {
	up := registrytest.New(t)
	manifest := up.PutImage("library/app", "1.0", []byte("a layer"))
	layer := up.PutBlob("library/app", []byte("a layer"))
	hub := proxied(up)
	hub["hub"] = true
	config := configuration(t, map[string]map[string]any{"docker.io": hub}, nil)
	p := serve(t, config)

	for _, path := range []string{
		"/v2/docker.io/library/app/manifests/1.0",
		"/v2/docker.io/app/manifests/1.0",
		"/v2/docker.io/v2/library/app/manifests/1.0",
		"/docker.io/v2/app/manifests/1.0",
		"/v2/library/app/manifests/1.0?ns=docker.io",
		"/v2/docker.io/app/manifests/" + manifest.String(),
	} {
		if status, body := p.get(path); status != 200 || body != string(up.Manifest("library/app", manifest)) {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	if status, body := p.get("/v2/docker.io/app/blobs/" + layer.String()); status != 200 || body != "a layer" {
		t.Errorf("blob: %d %s", status, body)
	}
	if status, body := p.get("/v2/docker.io/v2/v2/app/manifests/1.0"); status != 404 || up.Count("GET /v2/v2/app/manifests/1.0") != 1 {
		t.Errorf("an organisation called v2: %d %s, upstream was asked %q", status, body, up.Requests())
	}
	if status, body := p.get("/v2/library/app/manifests/1.0"); status != 404 || !strings.Contains(body, "NAME_UNKNOWN") {
		t.Errorf("without a project: %d %s", status, body)
	}
	for _, path := range []string{"/v2/", "/v2/docker.io/", "admin/healthz", "admin/readyz"} {
		if status, body := p.get(path); status != 200 {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	if got := up.Count("GET /v2/library/app/blobs/" + layer.String()); got != 1 {
		t.Errorf("the layer was fetched %d times", got)
	}

	p.signal(syscall.SIGTERM)
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	up.Fail("", 0, registrytest.Hangup())
	p = serve(t, config)
	for _, path := range []string{"/v2/docker.io/app/manifests/1.0", "/v2/docker.io/app/blobs/" + layer.String()} {
		if status, body := p.get(path); status != 200 {
			t.Errorf("after a restart, without upstream: GET %s: %d %s", path, status, body)
		}
	}
}

func TestReloadPutsAChangedFileInForce(t *testing.T) {
	one, two := registrytest.New(t), registrytest.New(t)
	one.PutImage("app", "v1", []byte("one"))
	two.PutImage("app", "v1", []byte("two"))
	projects := map[string]map[string]any{"one.example": proxied(one)}
	config := configuration(t, projects, nil)
	p := serve(t, config)
	if status, _ := p.get("/v2/two.example/app/manifests/v1"); status != 404 {
		t.Fatalf("a project that is not there yet: %d", status)
	}
	if status, body := p.get("/v2/one.example/app/manifests/v1"); status != 200 {
		t.Fatalf("first project: %d %s", status, body)
	}

	projects["two.example"] = proxied(two)
	rewriteConfiguration(t, config, projects, map[string]any{"memory": "1MiB"})
	p.signal(syscall.SIGHUP)
	p.wait("configuration reloaded")
	if status, body := p.get("/v2/two.example/app/manifests/v1"); status != 200 {
		t.Errorf("second project: %d %s", status, body)
	}
	if status, body := p.get("/v2/app/manifests/v1?ns=two.example"); status != 200 {
		t.Errorf("second project by ns: %d %s", status, body)
	}
	if waiting := p.wait("some changes take effect at the next start only"); !reflect.DeepEqual(waiting["settings"], []any{"memory"}) {
		t.Errorf("it says that %v need a restart", waiting["settings"])
	}
	before := len(one.Requests())
	if status, _ := p.get("/v2/one.example/app/manifests/v1"); status != 200 || len(one.Requests()) != before {
		t.Errorf("the first project lost what it had: %d, %q", status, one.Requests()[before:])
	}

	write(t, config, "projects: { two.example: { ttl: soon } }\nmemry: 1\n")
	p.signal(syscall.SIGHUP)
	refused := p.wait("configuration not reloaded, the old one stays in force")
	if refused["err"] != "2 faults in "+config {
		t.Errorf("it says %v", refused)
	}
	if fault := p.wait("fault in the configuration"); !strings.Contains(fault["fault"].(string), `roadstead.yaml:1: ttl: "soon" is not a duration`) {
		t.Errorf("it says %v", fault)
	}
	if status, body := p.get("/v2/two.example/app/manifests/v1"); status != 200 {
		t.Errorf("after a faulty file: %d %s", status, body)
	}
}

func TestReloadWithoutTheFileKeepsWhatWasInIt(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	config := configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil)
	t.Chdir(filepath.Dir(config))
	p := started(start(t, "serve")) // which finds ./roadstead.yaml by itself
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	refused := p.wait("configuration not reloaded, the old one stays in force")
	if refused["err"] != "roadstead.yaml is not there any more; put it back, or restart without it" {
		t.Errorf("it says %v", refused)
	}
	if status, body := p.get("/v2/up.example/app/manifests/v1"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

func TestReloadCutsNoStream(t *testing.T) {
	up := registrytest.New(t)
	layer := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	up.PutImage("app", "v1", layer)
	d := up.PutBlob("app", layer)
	hold := make(chan struct{})
	up.Fail("GET /v2/app/blobs/", 1, registrytest.Hold(hold))
	projects := map[string]map[string]any{"up.example": proxied(up)}
	config := configuration(t, projects, nil)
	p := serve(t, config)
	if status, body := p.get("/v2/up.example/app/manifests/v1"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	type result struct {
		status int
		body   string
	}
	results := make(chan result, 1)
	go func() {
		resp, err := http.Get(p.url + "/v2/up.example/app/blobs/" + d.String())
		if err != nil {
			results <- result{body: err.Error()}
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		results <- result{resp.StatusCode, string(b)}
	}()
	arrives(t, up, "GET /v2/app/blobs/")
	// The project goes, and with it its connection; the request is on its way already.
	rewriteConfiguration(t, config, map[string]map[string]any{"other.example": proxied(up)}, nil)
	p.signal(syscall.SIGHUP)
	p.wait("configuration reloaded")
	if status, _ := p.get("/v2/up.example/app/manifests/v1"); status != 404 {
		t.Errorf("the removed project answers %d", status)
	}
	close(hold)
	if got := <-results; got.status != 200 || got.body != string(layer) {
		t.Errorf("the request got %d and %d bytes", got.status, len(got.body))
	}
}

func TestStopLetsRequestsEnd(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	hold := make(chan struct{})
	up.Fail("/v2/app/manifests/", 1, registrytest.Hold(hold))
	p := serve(t, configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil))
	status := make(chan int, 1)
	go func() {
		code, _ := p.get("/v2/up.example/app/manifests/v1")
		status <- code
	}()
	arrives(t, up, "/v2/app/manifests/")
	p.signal(syscall.SIGTERM)
	if line := p.wait("stopping"); line["requests"] != 1.0 {
		t.Errorf("it says %v", line)
	}
	if code, body := p.get("admin/readyz"); code != 503 || !strings.Contains(body, "it is stopping") {
		t.Errorf("readyz while stopping: %d %s", code, body)
	}
	if _, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), time.Second); err == nil {
		time.Sleep(50 * time.Millisecond) // the listener closes a moment after the log line
		if _, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), time.Second); err == nil {
			t.Error("it still accepts connections")
		}
	}
	close(hold)
	if code := <-status; code != 200 {
		t.Errorf("the request under way got %d", code)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if !strings.Contains(p.log.String(), `"msg":"stopped"`) {
		t.Error("it does not say that it has stopped")
	}
}

func TestASecondSignalStopsAtOnce(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	up.Fail("/v2/app/manifests/", 1, registrytest.Hang())
	p := serve(t, configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil))
	go p.get("/v2/up.example/app/manifests/v1")
	arrives(t, up, "/v2/app/manifests/")
	p.signal(syscall.SIGINT)
	p.wait("stopping")
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 1 || !strings.Contains(p.log.String(), "stopped at once, by a second signal") {
		t.Errorf("exit status %d", code)
	}
}

func TestADirectoryAndAPortAreForOneProcess(t *testing.T) {
	up := registrytest.New(t)
	projects := map[string]map[string]any{"up.example": proxied(up)}
	config := configuration(t, projects, nil)
	p := serve(t, config)

	second := start(t, "serve", "--config", config)
	if code := second.exit(); code != 1 || !strings.Contains(second.log.String(), "two processes cannot share a directory: stop the other one, or name another directory with --data") {
		t.Errorf("same directory: exit status %d", code)
	}
	for _, setting := range []string{"listen", "admin"} {
		address := strings.TrimPrefix(p.url, "http://")
		third := start(t, "serve", "--config", config, "--data", t.TempDir(), "--"+setting, address)
		want := setting + " " + address + `: the port is taken by another process, which "ss -ltnp" shows; stop that one, or give another address with --` + setting
		if code := third.exit(); code != 1 || !strings.Contains(third.log.String(), want) {
			t.Errorf("same port: exit status %d, want %s", code, want)
		}
	}
	for _, args := range [][]string{{"evict", "--config", config}, {"adopt", "--config", config}} {
		rewriteConfiguration(t, config, projects, map[string]any{"storage": map[string]any{"directory": "data", "max_size": "1GiB"}})
		if err := os.MkdirAll(filepath.Join(filepath.Dir(config), "data", layoutFolder), 0o755); err != nil {
			t.Fatal(err)
		}
		other := start(t, args...)
		if code := other.exit(); code != 1 || !strings.Contains(other.log.String(), "two processes cannot share a directory") {
			t.Errorf("%s: exit status %d", args[0], code)
		}
	}
	if status, _ := p.get("/v2/"); status != 200 {
		t.Errorf("the first one answers %d", status)
	}
}

func TestServeWithNoConfigurationNeedsNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	if exists("/etc/roadstead/roadstead.yaml") {
		t.Skip("this machine has a configuration of its own")
	}
	p := start(t, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.log.String(), "msg=serving"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not serve")
		}
	}
	if !strings.Contains(p.log.String(), "projects=9") || !strings.Contains(p.log.String(), "configuration=built-in") {
		t.Errorf("it says\n%s", p.log)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 || !exists("data", catalogFile) {
		t.Errorf("exit status %d", code)
	}
}

func TestServeWithTLSTakesANewCertificateOnReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, "one.example")
	up := registrytest.New(t)
	projects := map[string]map[string]any{"up.example": proxied(up)}
	more := map[string]any{"tls": map[string]any{"certificate": cert, "key": key}}
	p := serve(t, configuration(t, projects, more))
	served := func() (names []string, protocol string) {
		t.Helper()
		var leaf *x509.Certificate
		config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, VerifyConnection: func(s tls.ConnectionState) error {
			leaf, protocol = s.PeerCertificates[0], s.NegotiatedProtocol
			return nil
		}}
		conn, err := (&tls.Dialer{Config: config}).DialContext(context.Background(), "tcp", strings.TrimPrefix(p.url, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		return leaf.DNSNames, protocol
	}
	if names, protocol := served(); !slices.Contains(names, "one.example") || protocol != "h2" {
		t.Errorf("at first it is for %q, with %q", names, protocol)
	}
	certificate(t, dir, "two.example")
	p.signal(syscall.SIGHUP)
	p.wait("configuration reloaded")
	if names, _ := served(); !slices.Contains(names, "two.example") {
		t.Errorf("after a reload it is for %q", names)
	}
}

// Start-up must not depend on how much is cached, and nothing on the way to the first answer
// may ask an upstream: it may be down, and there are as many as there are projects.
func TestServeStartsWithEveryUpstreamDown(t *testing.T) {
	projects := map[string]map[string]any{}
	for i := range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // accepts nothing: whoever asks hangs
		projects["up"+strconv.Itoa(i)+".example"] = map[string]any{"endpoints": []string{"http://" + l.Addr().String()}, "allow_private": true}
	}
	p := serve(t, configuration(t, projects, nil))
	if status, _ := p.get("/v2/"); status != 200 {
		t.Errorf("ping: %d", status)
	}
	if status, body := p.get("admin/readyz"); status != 200 {
		t.Errorf("readyz: %d %s", status, body)
	}
}

func TestHealthTellsTheParts(t *testing.T) {
	up := registrytest.New(t)
	insecure := func(endpoint string) map[string]any {
		return map[string]any{"endpoints": []string{endpoint}, "allow_private": true, "insecure": true}
	}
	p := serve(t, configuration(t, map[string]map[string]any{
		"a.example": proxied(up), "b.example": insecure("https://" + up.Host()), "c.example": insecure(up.URL()), // c has no certificate
	}, nil))
	status, body := p.get("admin/healthz")
	for _, want := range []string{`"storage"`, `"catalog"`, `"upstream a.example"`, "its certificate is not verified (insecure: true)"} {
		if status != 200 || !strings.Contains(body, want) || strings.Contains(body, "unhealthy") {
			t.Errorf("%d, want %s in\n%s", status, want, body)
		}
	}
	if strings.Count(body, "not verified") != 1 {
		t.Errorf("plain HTTP has no certificate to verify:\n%s", body)
	}
	if status, body := p.get("admin/metrics"); status != 200 || !strings.Contains(body, `roadstead_upstream_endpoint_up{endpoint="`+up.Host()+`",project="a.example"} 1`) {
		t.Errorf("metrics: %d\n%s", status, body)
	}
}

func TestSecretsStayOutOfLogs(t *testing.T) {
	up := registrytest.New(t)
	const secret = "hunter2-and-more"
	project := proxied(up)
	maps.Copy(project, map[string]any{"username": "u", "password": secret, "public": true, "insecure": true, "proxy": "http://u:" + secret + "@127.0.0.1:1"})
	p := serve(t, configuration(t, map[string]map[string]any{"up.example": project}, nil))
	if status, _ := p.get("/v2/up.example/app/manifests/v1"); status != 503 && status != 504 {
		t.Errorf("by a proxy that is not there: %d", status)
	}
	p.signal(syscall.SIGHUP)
	p.wait("configuration reloaded")
	p.signal(syscall.SIGTERM)
	p.exit()
	if strings.Contains(p.log.String(), secret) {
		t.Error("the password is in the log")
	}
}

// A directory that cannot be used ends a start at once with what to do: nothing about it comes back by
// itself, with or without a bucket.
func TestADirectoryThatCannotBeUsed(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	write(t, file, "")
	locked := filepath.Join(folder, "locked") // whose lock nobody can open
	if err := os.MkdirAll(filepath.Join(locked, "lock"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, storage := range []struct{ name, more string }{
		{"alone", ""},
		{"with a bucket and a database", `, catalog: "postgres://nobody@127.0.0.1:1/none", s3: { bucket: images, endpoint: "http://127.0.0.1:1", access_key: a, secret_key: b, retries: 0 }`},
	} {
		for dir, want := range map[string]string{
			filepath.Join(file, "data"): "make the data directory: mkdir " + file + ": not a directory; name another one",
			file:                        "make the data directory: mkdir " + file + ": not a directory; name another one",
			"/proc/foo":                 "make the data directory: mkdir /proc/foo: no such file or directory; name another one",
			locked:                      "/lock: is a directory; the user that serves has to be able to write to the data directory",
		} {
			t.Run(storage.name+" "+filepath.Base(dir), func(t *testing.T) {
				t.Parallel()
				config := filepath.Join(t.TempDir(), "roadstead.yaml")
				write(t, config, "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nstorage: { directory: "+dir+storage.more+" }\n")
				p := start(t, "serve", "--config", config)
				if status := p.exit(); status != 1 {
					t.Errorf("it ended with %d", status)
				}
				if said := p.log.String(); !strings.Contains(said, want) || strings.Contains(said, "two processes") {
					t.Errorf("it said\n%s\nwant %q", said, want)
				}
			})
		}
	}
}
