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

// The file for a cluster asks for each secret by name and has none of its own, gives no container more
// than it needs, and has configured what "check" finds good.
func TestTheComposeFileOfACluster(t *testing.T) {
	text := composeFile(t, "cluster.yml")
	var compose struct {
		Services map[string]struct {
			Image, User     string
			ReadOnly        bool     `yaml:"read_only"`
			CapDrop         []string `yaml:"cap_drop"`
			SecurityOpt     []string `yaml:"security_opt"`
			Ports           []string
			Volumes         []string
			StopGracePeriod string `yaml:"stop_grace_period"`
			MemLimit        string `yaml:"mem_limit"`
			Healthcheck     struct{ Test []string }
			Environment     map[string]string
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal([]byte(text), &compose); err != nil {
		t.Fatal(err)
	}
	for name, s := range compose.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.User == "" || s.StopGracePeriod == "" || s.MemLimit == "" || len(s.Healthcheck.Test) < 2 {
			t.Errorf("%s may do more than it has to, or nobody looks after it: %+v", name, s)
		}
		if len(s.Ports) > 0 && name != "balancer" {
			t.Errorf("%s has ports for everybody: %q", name, s.Ports)
		}
		if !regexp.MustCompile(`^(|nginx:\d[\d.]*-alpine|postgres:\d+-alpine|versity/versitygw:v[\d.]+)$`).MatchString(s.Image) {
			t.Errorf("%s is of the image %s", name, s.Image)
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, named := compose.Volumes[from]; !named && !isFile(filepath.Join(composeFolder(), from)) {
				t.Errorf("%s: there is no %s", name, from)
			}
		}
	}
	if nodes := compose.Services; nodes["node-1"].Image != "" || nodes["node-2"].Environment["ROADSTEAD_NODE"] != "node-2" || len(nodes) != 5 {
		t.Errorf("the services are %+v", nodes)
	}
	// Compose itself refuses to start without these, and says the text.
	names := map[string]bool{}
	for _, match := range regexp.MustCompile(`\$\{([A-Z_]+)([^}]*)\}`).FindAllStringSubmatch(text, -1) {
		names[match[1]] = true
		if !strings.HasPrefix(match[2], ":?is ") || !strings.HasSuffix(match[2], "see .env.example") {
			t.Errorf("%s has a default, or nobody is told what it is", match[0])
		}
	}
	example := composeFile(t, ".env.example")
	for name := range names {
		if !strings.Contains(example, "\n"+name+"=\n") {
			t.Errorf("%s is not in .env.example, or has a value there", name)
		}
	}

	env := environment(t.TempDir(), "ROADSTEAD_NODE=node-1", "ROADSTEAD_BUCKET_SECRET=0123456789abcdef", "ROADSTEAD_CATALOG_PASSWORD=x", "ROADSTEAD_ADMIN_PASSWORD=Aa1-for-a-test")
	check := []string{"check", "--config", filepath.Join(composeFolder(), "roadstead.yaml")}
	if out, err := try(env, roadsteadCommand(t), check...); err == nil {
		t.Errorf("good without a secret of the cluster:\n%s", out)
	}
	out, err := try(append(env, "ROADSTEAD_CLUSTER_SECRET="+strings.Repeat("5", 64)), roadsteadCommand(t), check...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bucket images at http://objects:7070", "reach this one at https://node-1:5002"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it means\n%s\nwithout %q", out, want)
		}
	}
}

// The S3 server of the file for a cluster has its bucket from the start.
func TestTheComposeFilesBucket(t *testing.T) {
	e2e(t)
	var compose struct {
		Services map[string]struct{ Entrypoint, Command []string }
	}
	if err := yaml.Unmarshal([]byte(composeFile(t, "cluster.yml")), &compose); err != nil {
		t.Fatal(err)
	}
	dir, address := t.TempDir(), freeAddress(t)
	args := []string{"ROOT_ACCESS_KEY=roadstead", "ROOT_SECRET_KEY=0123456789abcdef"}
	here := strings.NewReplacer(":7070", address, "/objects", filepath.Join(dir, "objects"), "$$", "$", "/usr/local/bin:", filepath.Dir(need(t, "versitygw"))+":")
	for _, arg := range append(compose.Services["objects"].Entrypoint, compose.Services["objects"].Command...) {
		args = append(args, here.Replace(arg))
	}
	p := start(t, dir, "versitygw", "/usr/bin/env", args...)
	waitForHTTP(t, p, http.DefaultClient, "http://"+address+"/health")
	client, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4("roadstead", "0123456789abcdef", ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath})
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
