package main_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"gopkg.in/yaml.v3"
)

func composeFolder() string { return filepath.Join(moduleRoot(), "deploy", "compose") }

func composeFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(composeFolder(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// No compose file gives a container more than it needs, or has a secret of its own: those are in files, all of
// which secrets.sh makes or tls.yml tells how to. What the nodes of a cluster are told "check" finds good.
func TestTheComposeFiles(t *testing.T) {
	type service struct {
		Image, User     string
		ReadOnly        bool     `yaml:"read_only"`
		CapDrop         []string `yaml:"cap_drop"`
		SecurityOpt     []string `yaml:"security_opt"`
		Ports           []string
		Volumes         []string
		Secrets         []string
		StopGracePeriod string `yaml:"stop_grace_period"`
		MemLimit        string `yaml:"mem_limit"`
		Healthcheck     struct{ Test []string }
		Environment     map[string]string
	}
	secrets := t.TempDir()
	run(t, environment(secrets), filepath.Join(composeFolder(), "secrets.sh"), secrets)
	for file, services := range map[string]int{"../../docker-compose.yml": 1, "cluster.yml": 5, "monitoring.yml": 2, "tls.yml": 1} {
		text := composeFile(t, file)
		var compose struct {
			Services map[string]service
			Volumes  map[string]any
			Secrets  map[string]struct{ File string }
		}
		if err := yaml.Unmarshal([]byte(text), &compose); err != nil {
			t.Fatal(err)
		}
		if len(compose.Services) != services {
			t.Errorf("%s has %d services, want %d", file, len(compose.Services), services)
		}
		for name, s := range compose.Services {
			// What tls.yml says is said over the other file.
			if file != "tls.yml" && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.User == "" || s.StopGracePeriod == "" || s.MemLimit == "" || len(s.Healthcheck.Test) < 2) {
				t.Errorf("%s: %s may do more than it has to, or nobody looks after it: %+v", file, name, s)
			}
			for _, port := range s.Ports {
				if everybodys := name == "balancer" || name == "roadstead"; !everybodys && !strings.HasPrefix(port, "127.0.0.1:") {
					t.Errorf("%s: %s has a port for everybody: %q", file, name, port)
				}
			}
			if !regexp.MustCompile(`^(|roadstead|nginx:\d[\d.]*-alpine|postgres:\d+-alpine|minio/minio:RELEASE[\w.-]+|prom/prometheus:v[\d.]+|grafana/grafana:[\d.]+)$`).MatchString(s.Image) {
				t.Errorf("%s: %s is of the image %s", file, name, s.Image)
			}
			for _, v := range s.Volumes {
				from, _, _ := strings.Cut(v, ":")
				from = strings.Replace(from, "./deploy/compose/", "./", 1) // tls.yml's start from the top
				if _, named := compose.Volumes[from]; named {
					continue
				}
				if _, err := os.Stat(filepath.Join(composeFolder(), from)); err != nil {
					t.Errorf("%s: %s: %v", file, name, err)
				}
			}
			for _, secret := range s.Secrets {
				if compose.Secrets[secret].File == "" {
					t.Errorf("%s: nobody says where %s has its secret %s from", file, name, secret)
				}
			}
			for key, value := range s.Environment {
				if named := regexp.MustCompile("PASSWORD|SECRET").MatchString(key); named && !strings.HasPrefix(value, "/run/secrets/") {
					t.Errorf("%s: %s is told %s", file, name, key)
				}
			}
		}
		for name, secret := range compose.Secrets {
			// "./secrets/name", be it the default of a variable, and seen from where the file is.
			made := isFile(filepath.Join(secrets, name)) || strings.Contains(text, "install -m 644") && strings.HasPrefix(name, "tls_")
			if !made || !strings.Contains(secret.File, "/secrets/"+name) && secret.File != "${ROADSTEAD_ADMIN_PASSWORD_FILE:-/dev/null}" {
				t.Errorf("%s: the secret %s is in %s, which nobody is told how to make", file, name, secret.File)
			}
		}
	}

	for _, name := range []string{"database_password", "bucket_secret", "cluster_secret"} {
		if b, err := os.ReadFile(filepath.Join(secrets, name)); err != nil || len(b) != 65 {
			t.Errorf("%s has %d bytes, %v", name, len(b), err)
		}
	}
	before, _ := os.ReadFile(filepath.Join(secrets, "cluster_secret"))
	run(t, environment(secrets), filepath.Join(composeFolder(), "secrets.sh"), secrets)
	if after, err := os.ReadFile(filepath.Join(secrets, "cluster_secret")); err != nil || string(after) != string(before) {
		t.Errorf("a secret has changed by asking for it again: %v", err)
	}

	// In the containers the secrets are below /run.
	text := strings.ReplaceAll(composeFile(t, "roadstead.yaml"), "/run/secrets", secrets)
	config := filepath.Join(t.TempDir(), "roadstead.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment(t.TempDir(), "ROADSTEAD_NODE=node-1", "ROADSTEAD_CATALOG_PASSWORD_FILE="+secrets+"/database_password", "ROADSTEAD_ADMIN_PASSWORD_FILE="+secrets+"/admin_password")
	out, err := try(env, roadsteadCommand(t), "check", "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bucket images at http://objects:9000", "reach this one at https://node-1:5002", "has a password from the start"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it means\n%s\nwithout %q", out, want)
		}
	}
	if err := os.Remove(filepath.Join(secrets, "cluster_secret")); err != nil {
		t.Fatal(err)
	}
	if out, err := try(env, roadsteadCommand(t), "check", "--config", config); err == nil {
		t.Errorf("good without a secret of the cluster:\n%s", out)
	}
}

// Grafana is given the dashboard and the Prometheus that the compose file has.
func TestWhatGrafanaIsProvisionedWith(t *testing.T) {
	folder := filepath.Join(moduleRoot(), "deploy", "grafana")
	var sources struct {
		Datasources []struct{ UID, Type, URL string }
	}
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	for path, into := range map[string]any{"datasources/prometheus.yml": &sources, "dashboards/roadstead.yml": &dashboards} {
		b, err := os.ReadFile(filepath.Join(folder, "provisioning", path))
		if err == nil {
			err = yaml.Unmarshal(b, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	compose := composeFile(t, "monitoring.yml")
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" || sources.Datasources[0].URL != "http://prometheus:9090" || !strings.Contains(compose, "\n  prometheus:\n") {
		t.Errorf("the data sources are %+v", sources)
	}
	if len(dashboards.Providers) != 1 || !strings.Contains(compose, "- ../grafana:"+dashboards.Providers[0].Options.Path+":ro\n") {
		t.Errorf("the dashboards are at %+v", dashboards)
	}
}

// The S3 server of the file for a cluster has its bucket from the start, and takes the secret of the file.
func TestTheComposeFilesBucket(t *testing.T) {
	e2e(t)
	var compose struct {
		Services map[string]struct {
			Entrypoint, Command []string
			Environment         map[string]string
		}
	}
	if err := yaml.Unmarshal([]byte(composeFile(t, "cluster.yml")), &compose); err != nil {
		t.Fatal(err)
	}
	dir, address := t.TempDir(), freeAddress(t)
	const secret = "0123456789abcdef"
	if err := os.WriteFile(filepath.Join(dir, "bucket_secret"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	objects := compose.Services["objects"]
	args := []string{"PATH=" + filepath.Dir(need(t, "minio")) + ":" + os.Getenv("PATH")}
	for key, value := range objects.Environment {
		args = append(args, key+"="+value)
	}
	here := strings.NewReplacer(":9000", address, "/data", filepath.Join(dir, "data"), "/run/secrets", dir, "$$", "$")
	for _, arg := range append(objects.Entrypoint, objects.Command...) {
		args = append(args, here.Replace(arg))
	}
	p := start(t, dir, "minio", "/usr/bin/env", args...)
	waitForHTTP(t, p, http.DefaultClient, "http://"+address+"/minio/health/live")
	client, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4("roadstead", secret, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath})
	if err != nil {
		t.Fatal(err)
	}
	put := func() error {
		var o minio.PutObjectOptions
		o.SetMatchETagExcept("*")
		_, err := client.PutObject(t.Context(), "images", "a/b/data", strings.NewReader("content"), 7, o)
		return err
	}
	if err := put(); err != nil {
		t.Error(err)
	}
	if err := put(); minio.ToErrorResponse(err).StatusCode != http.StatusPreconditionFailed {
		t.Errorf("a second time: %v", err)
	}
}

// balanced pushes and pulls through the balancer that deploy has, and takes a node away meanwhile.
func (c *nodesOf) balanced(t *testing.T) {
	b, ready := startDeployed(t, c.nodes)
	if a := ready.ask(http.MethodGet, "/readyz"); a.status != http.StatusOK {
		t.Errorf("readiness: %v", a)
	}
	admin := b.as(c.root)
	admin.call(http.StatusCreated, http.MethodPost, v2+"/projects", `{"project_name":"balanced","metadata":{"public":"true"}}`)
	for _, n := range c.nodes {
		eventually(t, within, "a project that both nodes know", func() bool {
			return n.as(c.root).ask(http.MethodGet, v2+"/projects/balanced").status == http.StatusOK
		})
	}
	var pushes sync.WaitGroup
	images := make([]*image, 4)
	for i := range images {
		images[i] = recipe{seed: 960_000 + uint64(i)*100, layers: 2, layerSize: 5 << 20}.make(t, "1.0")
		repo := fmt.Sprintf("balanced/app-%d", i)
		pushes.Go(func() {
			if err := admin.push(repo, images[i]); err != nil {
				t.Error(err)
			}
		})
	}
	pushes.Wait()
	pull := func(when string) {
		t.Helper()
		for i, img := range images {
			if err := b.pull(fmt.Sprintf("balanced/app-%d", i), "1.0", img); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	pull("through the balancer")
	run(t, environment(t.TempDir()), need(t, "crane"), "pull", "--insecure", b.addr+"/balanced/app-0:1.0", filepath.Join(t.TempDir(), "image.tar"))

	// What comes slowly from upstream goes on at once.
	const size, rate = 4 << 20, 2 << 20
	cold := c.cold(t, "team/balanced", 961_000, size)
	c.gate.set(blobs(shape{rate: rate}))
	defer c.gate.set(nil)
	if a := b.ask(http.MethodGet, manifestPath("mirror/team/balanced", "1.0")); !a.whole() {
		t.Fatal(a)
	}
	start := time.Now()
	res, err := b.open(http.MethodGet, blobPath("mirror/team/balanced", cold.blobOrder[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	first := time.Since(start)
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	if whole := time.Since(start); first > whole/2 {
		t.Errorf("the first bytes came after %v of %v", first, whole)
	}

	c.nodes[1].terminate(30 * time.Second)
	pull("with one node less")
	late := recipe{seed: 962_000, layers: 1}.make(t, "1.0")
	if err := admin.push("balanced/late", late); err != nil {
		t.Errorf("a push with one node less: %v", err)
	}
	if a := ready.ask(http.MethodGet, "/readyz"); a.status != http.StatusOK {
		t.Errorf("readiness with one node less: %v", a)
	}
	c.nodes[1].start()
	c.together(t, 2)
	pull("with both again")
}

// startDeployed starts nginx with the configuration that is deployed, but for where everybody is. ready
// is where it says whether any node is.
func startDeployed(t *testing.T, nodes []*node) (b, ready *node) {
	t.Helper()
	dir, address, readiness := t.TempDir(), freeAddress(t), freeAddress(t)
	text := composeFile(t, "nginx.conf")
	replace := []string{"/tmp/", dir + "/", "listen 5000;", "listen " + address + ";", "127.0.0.1:5080", readiness}
	for i, n := range nodes {
		replace = append(replace, fmt.Sprintf("172.30.57.1%d:5000", i+1), n.addr, fmt.Sprintf("172.30.57.1%d:5001", i+1), strings.TrimPrefix(n.admin, "http://"))
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(replace...).Replace(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	program := need(t, "nginx")
	run(t, environment(dir), program, "-t", "-q", "-c", file)
	p := start(t, dir, "nginx", program, "-c", file, "-g", "daemon off;")
	b = &node{t: t, process: p, addr: address, url: "http://" + address, http: newHTTPClient(nil)}
	waitForHTTP(t, p, b.http, b.url+"/v2/")
	return b, &node{t: t, addr: readiness, url: "http://" + readiness, http: b.http}
}
