package main_test

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry/registrytest"
)

// The image and the compose files do what they say, as they are in a fresh clone: built and run by a real
// engine, with both of the Composes that people have. What they name and nobody can pull here is stood in
// for by this machine's programs (see [engine.standIn]); only Grafana is a web server that looks alike.
func TestDeployedInContainers(t *testing.T) {
	e2e(t)
	d := &deployment{engine: startEngine(t), whole: t, authority: registrytest.NewAuthority(t), clone: filepath.Join(t.TempDir(), "roadstead")}
	d.copyTree(t)
	d.standIns()
	d.startHub(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"image", d.image}, {"single", d.single}, {"TLS", d.tls}, {"cluster", d.cluster},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			d.t = t
			defer func() { d.t = d.whole }()
			part.run(t)
		}) {
			break // what comes after would only say it again
		}
	}
}

// A deployment is a clone of the repository and the engine that it is deployed with.
type deployment struct {
	*engine
	whole     *testing.T // which engine.t is a part of
	authority *registrytest.Authority
	clone     string
	hub       *process          // what is called Docker Hub here
	hubDir    string            // what it serves
	images    map[string]*image // there, by repository
	binary    digest.Digest     // the program in the image
}

// copyTree copies what a clone has, so that secrets and configurations of a developer are not in it.
func (d *deployment) copyTree(t *testing.T) {
	t.Helper()
	for _, name := range []string{".dockerignore", "LICENSE", "README.md", "docker-compose.yml", "go.mod", "go.sum", "cache", "cmd", "deploy", "registry", "rewrite", "storage"} {
		from, to := filepath.Join(moduleRoot(), name), filepath.Join(d.clone, name)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
		} else {
			var text []byte
			if text, err = os.ReadFile(from); err == nil {
				err = os.MkdirAll(d.clone, 0o755)
			}
			if err == nil {
				err = os.WriteFile(to, text, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(d.clone, "deploy", "compose", "secrets")); err != nil {
		t.Fatal(err)
	}
}

func (d *deployment) standIns() {
	authorities := entry{path: "etc/ssl/certs/ca-certificates.crt", text: string(d.authority.PEM()), mode: 0o644}
	d.standIn("golang:1.26", []entry{{path: "etc/ssl/"}, {path: "etc/ssl/certs/"}, authorities}, "ENV GOPATH=/go GOPROXY=off GOTOOLCHAIN=local")
	d.standIn("nginx:1.28-alpine", []entry{{path: "etc/nginx/"}, {path: "var/"}, {path: "var/log/"}, {path: "var/log/nginx/"}})
	// What the real one's entrypoint does for an empty volume, in a few words.
	d.standIn("postgres:17-alpine", []entry{
		{path: "var/"}, {path: "var/lib/"}, {path: "var/run/"}, {path: "var/run/postgresql/", owner: 70, mode: 0o3777},
		{path: "var/lib/postgresql/", owner: 70}, {path: "var/lib/postgresql/data/", owner: 70, mode: 0o700},
		{path: "entrypoint", text: `#!/bin/sh
set -eu
PGDATA=/var/lib/postgresql/data
export PGDATA
if [ ! -s $PGDATA/PG_VERSION ]; then
	eval "initdb --username=$POSTGRES_USER --pwfile=$POSTGRES_PASSWORD_FILE --locale=C $POSTGRES_INITDB_ARGS" >&2
	echo "host all all all scram-sha-256" >> $PGDATA/pg_hba.conf
	pg_ctl start --wait --silent --options="-c listen_addresses='' -c unix_socket_directories=/tmp"
	PGPASSWORD=$(cat $POSTGRES_PASSWORD_FILE) createdb --host=/tmp --username=$POSTGRES_USER $POSTGRES_DB
	pg_ctl stop --wait --silent
fi
exec "$@"
`}}, `ENTRYPOINT ["/entrypoint"]`, `CMD ["postgres", "-c", "listen_addresses=*", "-c", "unix_socket_directories=/var/run/postgresql"]`, "VOLUME /var/lib/postgresql/data")
	d.standIn("minio/minio:RELEASE.2025-09-07T16-13-09Z", []entry{{path: "data/"}}, "VOLUME /data")
	d.standIn("prom/prometheus:v3.10.0", []entry{{path: "etc/prometheus/"}, {path: "prometheus/", owner: 65534}}, `ENTRYPOINT ["/usr/bin/prometheus"]`, "WORKDIR /prometheus")
	d.standIn("grafana/grafana:12.4.0", []entry{
		{path: "etc/grafana/"}, {path: "var/"}, {path: "var/lib/"}, {path: "var/lib/grafana/", owner: 472},
		{path: "www/"}, {path: "www/api/"}, {path: "www/api/health", text: "{}", mode: 0o644},
	}, `ENTRYPOINT ["sh", "-c", "trap exit TERM; busybox httpd -f -p 3000 -h /www & wait"]`)
}

// startHub fills a registry, and starts it under the name and the address that the nodes take for Docker
// Hub's, with a certificate of an authority that the build stage's image knows.
func (d *deployment) startHub(t *testing.T) {
	t.Helper()
	d.images, d.hubDir = map[string]*image{}, t.TempDir()
	filler := startUpstream(t, upstreamConfig{dir: d.hubDir})
	for i, name := range []string{"busybox", "one", "two", "three"} {
		img := recipe{seed: 990_000 + uint64(i)*100, layers: 1, layerSize: 512 << 10}.make(t, "latest")
		d.images["library/"+name] = img
		filler.push(t, "library/"+name, img)
	}
	filler.stop(t)
	d.openHub()
}

// openHub starts it, until the end of the whole test.
func (d *deployment) openHub() {
	t := d.whole
	t.Helper()
	home := t.TempDir()
	certificate, key := filepath.Join(home, "certificate.pem"), filepath.Join(home, "key.pem")
	text, private := d.authority.Issue(registrytest.Leaf{Names: []string{"registry-1.docker.io", outside}})
	for path, b := range map[string][]byte{certificate: text, key: private} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := writeJSON(t, filepath.Join(home, "config.yml"), map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "warn", "accesslog": map[string]any{"disabled": true}},
		"http":    map[string]any{"addr": outsideTLS, "secret": "nobody's", "tls": map[string]any{"certificate": certificate, "key": key}},
		"storage": map[string]any{"filesystem": map[string]any{"rootdirectory": d.hubDir}, "maintenance": map[string]any{"uploadpurging": map[string]any{"enabled": false}}},
	})
	d.hub = start(t, home, "registry", need(t, "nsenter"), "--net="+d.netns, need(t, "registry"), "serve", config)
	waitForHTTP(t, d.hub, d.trusting(), "https://"+outsideTLS+"/v2/")
}

// trusting is a client in the engine's network that knows the authority.
func (d *deployment) trusting() *http.Client {
	c := newHTTPClient(d.authority.Pool())
	c.Transport.(*http.Transport).DialContext = d.dial
	return c
}

// composer is one of the two Composes: "docker-compose", which was the first, and "docker compose".
type composer int

// compose runs it in the clone. Beside the files as they are it takes one that says where Docker Hub is.
func (d *deployment) compose(c composer, files []string, args ...string) []byte {
	d.t.Helper()
	program, all := need(d.t, "docker-compose"), []string{}
	if c == 2 {
		program, all = need(d.t, "docker"), []string{"compose"}
	}
	for _, f := range files {
		all = append(all, "--file", f)
	}
	out, err := d.try("env", append([]string{"--chdir=" + d.clone, program}, append(all, args...)...)...)
	if err != nil {
		d.logs()
		d.t.Fatal(err)
	}
	return out
}

// hosts writes a compose file that has services find Docker Hub.
func (d *deployment) hosts(name string, services ...string) string {
	d.t.Helper()
	all := map[string]any{}
	for _, s := range services {
		all[s] = map[string]any{"extra_hosts": []string{"registry-1.docker.io:" + outside}}
	}
	// On one line: the YAML of Compose v1 knows no JSON with tabs.
	text, err := json.Marshal(map[string]any{"services": all})
	if err == nil {
		err = os.WriteFile(filepath.Join(d.clone, name), text, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return filepath.Join(d.clone, name)
}

// running is the container of a service. The two Composes join the words of its name in two ways.
func (d *deployment) running(service string) string {
	d.t.Helper()
	names := strings.Fields(string(d.docker("ps", "--filter", "label=com.docker.compose.service="+service, "--format", "{{.Names}}")))
	if len(names) != 1 {
		d.t.Fatalf("the containers of %s are %q", service, names)
	}
	return names[0]
}

// program is what is in the image: its digest, and how large it is.
func (d *deployment) program() (digest.Digest, int64) {
	d.t.Helper()
	id := strings.TrimSpace(string(d.docker("create", "roadstead")))
	defer d.docker("rm", id)
	archive := tar.NewReader(bytes.NewReader(d.docker("cp", id+":/roadstead", "-")))
	if _, err := archive.Next(); err != nil {
		d.t.Fatal(err)
	}
	got, size, err := readDigest(archive)
	if err != nil {
		d.t.Fatal(err)
	}
	return got, size
}

// image builds the image by Compose v1, which knows no BuildKit, and by Compose v2, which uses nothing else.
func (d *deployment) image(t *testing.T) {
	d.compose(1, nil, "build", "--build-arg", "VERSION=1.2.3", "--build-arg", "COMMIT=c0ffee", "--build-arg", "DATE=2026-11-29T02:46:00Z")
	first, _ := d.program()
	d.compose(2, nil, "build", "--build-arg", "VERSION=1.2.3", "--build-arg", "COMMIT=c0ffee", "--build-arg", "DATE=2026-11-29T02:46:00Z")
	var size int64
	if d.binary, size = d.program(); d.binary != first {
		t.Errorf("two builders of the same sources made two programs, %s and %s", first, d.binary)
	}
	var images []struct {
		Size             int64
		Architecture, Os string
		Config           struct {
			User       string
			Env        []string
			Entrypoint []string
			Labels     map[string]string
		}
	}
	if err := json.Unmarshal(d.docker("image", "inspect", "roadstead"), &images); err != nil {
		t.Fatal(err)
	}
	img := images[0]
	t.Logf("the image has %.1f MB, the program in it %.1f MB", float64(img.Size)/1e6, float64(size)/1e6)
	if img.Size >= 40e6 || img.Config.User != "65532:65532" || !slices.Equal(img.Config.Entrypoint, []string{"/roadstead"}) || img.Os != "linux" {
		t.Errorf("the image is %+v", img)
	}
	for key, want := range map[string]string{"title": "Roadstead", "version": "1.2.3", "revision": "c0ffee", "created": "2026-11-29T02:46:00Z", "licenses": "Apache-2.0"} {
		if got := img.Config.Labels["org.opencontainers.image."+key]; got != want {
			t.Errorf("the label %s is %q, want %q", key, got, want)
		}
	}
	if said := string(d.docker("run", "--rm", "roadstead", "version", "--json")); !strings.Contains(said, `"version":"1.2.3"`) {
		t.Errorf("version says %s", said)
	}
}

// single is docker-compose.yml: by Compose v1 on a fresh clone, killed while people push, taken down, and
// started by Compose v2 where no upstream is.
func (d *deployment) single(t *testing.T) {
	files := []string{"docker-compose.yml", d.hosts("hosts.yml", "roadstead")}
	d.compose(1, files, "up", "--detach")
	c := d.running("roadstead")
	n := d.on("127.0.0.1:5000")
	d.answers(n)
	d.healthy(c)
	if err := d.confined(c, "65532:65532"); err != nil {
		t.Error(err)
	}
	if i := d.inspect(c); i.HostConfig.Memory != 512<<20 {
		t.Errorf("its memory is bounded by %d bytes", i.HostConfig.Memory)
	}
	d.docker("pull", "--quiet", "localhost:5000/docker.io/library/busybox") // as the file says
	password := regexp.MustCompile(`The first user is admin with the password (\S+), which`).FindSubmatch(d.compose(1, files, "logs", "roadstead"))
	if password == nil {
		t.Fatal("nobody was told admin's password")
	}
	d.compose(1, files, "exec", "-T", "roadstead", "/roadstead", "project", "create", "production")

	admin := n.as(account{"admin", string(password[1])})
	first := recipe{seed: 990_900, layers: 1, layerSize: 1 << 10}.make(t, "1.0")
	eventually(t, 30*time.Second, "a push into a project that a command has made", func() bool { return admin.push("production/first", first) == nil })
	all := newAcked()
	for round := range 3 {
		all.round = fmt.Sprint("round ", round)
		all.check(t, admin)
		var workers sync.WaitGroup
		for i := range 2 {
			workers.Go(func() {
				all.work(t, admin, "production", uint64(9000+10*round+i), recipe{seed: 991_000, layers: 1, layerSize: 32 << 10})
			})
		}
		all.await(4)
		d.crash(c)
		workers.Wait()
		d.answers(n)
	}
	for _, err := range all.faults {
		t.Error(err)
	}
	all.check(t, admin)
	t.Logf("%d images were acknowledged, and it was started %d times again", all.pushed, d.inspect(c).RestartCount)
	if all.pushed < 6 || d.inspect(c).RestartCount < 3 {
		t.Error("next to nothing happened: the test shows nothing")
	}

	d.compose(1, files, "down")
	d.hub.stop(t)
	d.compose(2, files, "up", "--detach", "--no-build")
	d.answers(n)
	all.check(t, admin)
	if err := n.pull("docker.io/library/busybox", "latest", d.images["library/busybox"]); err != nil {
		t.Errorf("without upstream: %v", err)
	}
	d.compose(2, files, "down", "--volumes")
	d.openHub()
}

// answers waits until somebody answers with what every registry does.
func (d *deployment) answers(n *node) {
	d.t.Helper()
	eventually(d.t, 90*time.Second, "an answer from "+n.addr, func() bool {
		a, err := n.tryAsk(http.MethodGet, "/v2/")
		ready := err == nil && a.header.Get("Docker-Distribution-Api-Version") == "registry/2.0"
		if !ready {
			time.Sleep(100 * time.Millisecond)
		}
		return ready && (a.status == http.StatusOK || a.status == http.StatusUnauthorized)
	})
}

func (d *deployment) secret(name string) string {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.clone, "deploy", "compose", "secrets", name))
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// tls is deploy/compose/tls.yml over the other, with a password of one's own, and a certificate that is
// renewed.
func (d *deployment) tls(t *testing.T) {
	for range 2 { // the second time there is nothing to do
		d.run(filepath.Join(d.clone, "deploy", "compose", "secrets.sh"))
	}
	secrets := filepath.Join(d.clone, "deploy", "compose", "secrets")
	issue := func() *x509.Certificate {
		certificate, key := d.authority.Issue(registrytest.Leaf{Names: []string{"mirror.example.com"}})
		for name, text := range map[string][]byte{"tls_certificate": certificate, "tls_key": key} {
			if err := os.WriteFile(filepath.Join(secrets, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return leafOf(t, certificate)
	}
	issue()
	d.env = append(d.env, "ROADSTEAD_ADMIN_PASSWORD_FILE=./deploy/compose/secrets/admin_password")
	files := []string{"docker-compose.yml", "deploy/compose/tls.yml", d.hosts("hosts.yml", "roadstead")}
	d.compose(1, files, "config", "--quiet")
	d.compose(2, files, "up", "--detach", "--no-build")
	client := d.trusting()
	for _, address := range []string{"127.0.0.1:5000", "127.0.0.1:443"} {
		n := &node{t: t, addr: address, url: "https://" + address, http: client}
		d.answers(n)
		if err := n.as(account{"admin", d.secret("admin_password")}).pull("docker.io/library/one", "latest", d.images["library/one"]); err != nil {
			t.Error(err)
		}
	}
	authority := filepath.Join(d.dir, "authority.pem")
	if err := os.WriteFile(authority, d.authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	d.run("env", "SSL_CERT_FILE="+authority, need(t, "crane"), "pull", "127.0.0.1:443/docker.io/library/busybox", filepath.Join(d.dir, "image.tar"))

	// Written into the same files, as the file says.
	renewed := issue()
	eventually(t, 30*time.Second, "the renewed certificate", func() bool {
		time.Sleep(100 * time.Millisecond)
		client.CloseIdleConnections()
		res, err := client.Get("https://127.0.0.1:443/v2/")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.TLS.PeerCertificates[0].Equal(renewed)
	})
	d.compose(2, files, "down", "--volumes")
}

func leafOf(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no certificate in it")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// cluster is deploy/compose/cluster.yml, from which nodes are taken while engines pull, and
// deploy/compose/monitoring.yml beside it.
func (d *deployment) cluster(t *testing.T) {
	d.run(filepath.Join(d.clone, "deploy", "compose", "secrets.sh"))
	files := []string{"deploy/compose/cluster.yml", d.hosts("deploy/compose/hosts.yml", "node-1", "node-2")}
	d.compose(1, files, "config", "--quiet")
	d.compose(2, files, "--project-name", "roadstead-cluster", "up", "--detach", "--no-build")
	n := d.on("127.0.0.1:5000")
	d.answers(n)
	d.healthy(d.running("node-1"))
	d.healthy(d.running("node-2"))
	for service, user := range map[string]string{"node-1": "65532:65532", "balancer": "65532:65532", "catalog": "70:70", "objects": "0:0"} {
		if err := d.confined(d.running(service), user); err != nil {
			t.Errorf("%s: %v", service, err)
		}
	}
	admin := n.as(account{"admin", d.secret("admin_password")})
	admin.call(http.StatusCreated, http.MethodPost, v2+"/projects", `{"project_name":"production","metadata":{"public":"true"}}`)
	pushed := recipe{seed: 992_000, layers: 2, layerSize: 256 << 10}.make(t, "1.0")
	eventually(t, 30*time.Second, "a push", func() bool { return admin.push("production/app", pushed) == nil })

	var stop, hurry atomic.Bool
	var pulls atomic.Int64
	var pulling sync.WaitGroup
	for _, name := range []string{"busybox", "one", "two", "three"} {
		pulling.Go(func() {
			for ref := "localhost:5000/docker.io/library/" + name; !stop.Load(); pulls.Add(1) {
				for _, args := range [][]string{{"pull", "--quiet", ref}, {"rmi", "--force", ref}} {
					if out, err := d.try(need(t, "docker"), args...); err != nil {
						t.Errorf("a pull while nodes come and go: %v\n%s", err, out)
						return
					}
				}
				// Each costs much that is the engine's. Between what is to be seen, some are enough.
				for end := time.Now().Add(4 * time.Second); !hurry.Load() && !stop.Load() && time.Now().Before(end); {
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	more := func() {
		hurry.Store(true)
		defer hurry.Store(false)
		for from, end := pulls.Load(), time.Now().Add(30*time.Second); pulls.Load() < from+6 && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	more()
	for service, address := range map[string]string{"node-1": "172.30.57.11:5001", "node-2": "172.30.57.12:5001"} {
		c := d.running(service)
		d.docker("kill", c) // and it stays away
		more()
		d.docker("start", c)
		eventually(t, 90*time.Second, service+" ready again", func() bool {
			a, err := d.on(address).tryAsk(http.MethodGet, "/readyz")
			return err == nil && a.status == http.StatusOK
		})
		time.Sleep(6 * time.Second) // the balancer leaves it alone for five
	}
	d.crash(d.running("node-1"))
	more()
	stop.Store(true)
	pulling.Wait()
	t.Logf("%d pulls, none of which failed", pulls.Load())
	if pulls.Load() < 24 {
		t.Error("next to nothing was pulled: the test shows nothing")
	}
	d.monitoring(t)

	d.compose(2, files, "--project-name", "roadstead-cluster", "down")
	d.hub.stop(t)
	d.compose(2, files, "--project-name", "roadstead-cluster", "up", "--detach", "--no-build")
	d.answers(n)
	for repo, img := range map[string]*image{"production/app": pushed, "docker.io/library/two": d.images["library/two"]} {
		tag := "latest"
		if img == pushed {
			tag = "1.0"
		}
		if err := admin.pull(repo, tag, img); err != nil {
			t.Errorf("after a new start, without upstream: %v", err)
		}
	}
	d.compose(2, files, "--project-name", "roadstead-cluster", "down", "--volumes")
}

// monitoring is deploy/compose/monitoring.yml beside the cluster: a real Prometheus finds both nodes.
func (d *deployment) monitoring(t *testing.T) {
	files := []string{"deploy/compose/monitoring.yml"}
	d.env = append(d.env, "ROADSTEAD_NETWORK=roadstead-cluster")
	d.compose(1, files, "config", "--quiet")
	d.compose(2, files, "--project-name", "roadstead-monitoring", "up", "--detach")
	for service, user := range map[string]string{"prometheus": "65534:65534", "grafana": "472:0"} {
		if err := d.confined(d.running(service), user); err != nil {
			t.Errorf("%s: %v", service, err)
		}
	}
	ask := func(path string, into any) bool {
		res, err := d.client.Get("http://127.0.0.1:9090" + path)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return err == nil && json.Unmarshal(b, into) == nil
	}
	eventually(t, 90*time.Second, "both nodes in Prometheus", func() bool {
		time.Sleep(200 * time.Millisecond)
		var answer struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		ok := ask("/api/v1/query?query="+url.QueryEscape(`up{job="roadstead"}`), &answer)
		up := 0
		for _, r := range answer.Data.Result {
			if r.Value[1] == "1" {
				up++
			}
		}
		return ok && up == 2
	})
	var rules struct {
		Data struct{ Groups []struct{ Name string } }
	}
	if !ask("/api/v1/rules", &rules) || len(rules.Data.Groups) == 0 {
		t.Errorf("Prometheus has no rules: %+v", rules)
	}
	d.healthy(d.running("prometheus"))
	d.healthy(d.running("grafana"))
	// Grafana's own program cannot be had: what it would read is where the compose file puts it.
	g := d.running("grafana")
	if got := string(d.docker("exec", g, "cat", "/run/secrets/grafana_password")); strings.TrimSpace(got) != d.secret("grafana_password") {
		t.Error("Grafana has another password")
	}
	for _, file := range []string{"/etc/grafana/provisioning/datasources/prometheus.yml", "/etc/grafana/provisioning/dashboards/roadstead.yml", "/etc/dashboards/roadstead.json"} {
		if len(d.docker("exec", g, "cat", file)) == 0 {
			t.Errorf("Grafana has no %s", file)
		}
	}
	d.compose(2, files, "--project-name", "roadstead-monitoring", "down", "--volumes")
}
