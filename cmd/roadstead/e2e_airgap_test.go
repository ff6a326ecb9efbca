package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/storage/postgrestest"
	"roadstead/storage/processtest"
	"roadstead/storage/s3test"
)

// A gap is a node that has cached images, and where they are carried to: nodes that reach nothing.
type gap struct {
	upstream *upstream
	near     *node
	dir      string // for archives
	cargo    []load
	nobody   string       // URL of what the far nodes have for an upstream
	dialled  atomic.Int64 // connections to that
}

// load is an image with its name.
type load struct {
	reference
	image *image
}

func openGap(t *testing.T) *gap {
	t.Helper()
	u := startUpstream(t, upstreamConfig{})
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	g := &gap{upstream: u, dir: t.TempDir()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g.nobody = "http://" + l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.dialled.Add(1)
			c.Close()
		}
	}()
	for _, l := range []struct {
		project, repo, tag string
		recipe             recipe
	}{
		{"docker.io", "library/many", "1.0", recipe{platforms: []string{other, runtime.GOARCH}}},
		{"docker.io", "rancher/pause", "3.6", recipe{docker: true}},
		{"quay.io", "team/app", "v1", recipe{layers: 3, layerSize: 1 << 20}},
		{"quay.io", "team/plain", "v1", recipe{plain: true}},
	} {
		l.recipe.seed = uint64(720000 + 100*len(g.cargo))
		img := l.recipe.make(t, l.tag)
		u.push(t, l.repo, img)
		g.cargo = append(g.cargo, load{reference{project: l.project, repo: l.repo, tag: l.tag}, img})
	}
	g.near = startNode(t, nodeConfig{plain: true, projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true}), "quay.io": u.project(nil)}})
	for _, l := range g.cargo {
		if err := g.near.pull(l.project+"/"+l.repo, l.tag, l.image); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// names are those of all images.
func (g *gap) names() (all []string) {
	for _, l := range g.cargo {
		all = append(all, l.String())
	}
	return all
}

// far is a node that is offline, not started yet.
func (g *gap) far(t *testing.T) *node {
	t.Helper()
	return newNode(t, nodeConfig{
		plain:    true,
		projects: map[string]any{"docker.io": project(g.nobody, map[string]any{"hub": true}), "quay.io": project(g.nobody, nil), "loaded": map[string]any{"hosted": true, "public": true}},
		more:     map[string]any{"offline": true},
	})
}

func (g *gap) export(t *testing.T, file string, args ...string) string {
	t.Helper()
	path := filepath.Join(g.dir, file)
	var err error
	eventually(t, 10*time.Second, "what was just pulled is written down", func() bool {
		_, err = g.near.command("export", append([]string{"-o", path}, args...)...)
		return err == nil || !strings.Contains(err.Error(), "here whole")
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// here pulls all images from a node that has them, by tag and by digest.
func (g *gap) here(t *testing.T, n *node, all ...load) {
	t.Helper()
	for _, l := range all {
		if err := n.pull(l.project+"/"+l.repo, l.tag, l.image); err != nil {
			t.Error(err)
		}
	}
}

func TestAirGap(t *testing.T) {
	e2e(t)
	g := openGap(t)
	archive := g.export(t, "all.tar.zst", append([]string{"--all-platforms"}, g.names()...)...)
	plain := filepath.Join(g.dir, "all.tar")
	unpackZstd(t, archive, plain)

	far := g.far(t)
	out, err := far.command("import", archive)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, l := range g.cargo {
		if line := l.String() + "  " + string(l.image.top().digest); !strings.Contains(string(out), line) {
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
	far.start()
	g.here(t, far, g.cargo...)

	c := startContainerd(t)
	t.Run("containerd pulls all of it by tag and digest", func(t *testing.T) {
		for _, l := range g.cargo {
			c.hosts(t, l.project, far.url+"/v2/"+l.project, "override_path = true")
			c.pull(t, l.reference, l.image)
			c.pull(t, reference{project: l.project, repo: l.repo, digest: l.image.top().digest}, l.image)
		}
	})
	t.Run("containerd loads the archive", func(t *testing.T) {
		c.namespace = "loaded"
		c.run(t, "images", "import", "--all-platforms", "--snapshotter", "native", plain)
		for _, l := range g.cargo {
			c.compare(t, l.reference, l.image)
			if got := c.target(t, l.String()); got != l.image.top().digest {
				t.Errorf("containerd has %s as %s, want %s", l, got, l.image.top().digest)
			}
		}
	})
	t.Run("Docker's archive is the same image to containerd and to us", func(t *testing.T) {
		docker := g.export(t, "docker.tar", append([]string{"--format", "docker"}, g.names()...)...)
		out, err := far.command("import", "--project", "loaded", docker)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		c.namespace = "docker"
		c.run(t, "images", "import", "--snapshotter", "native", docker)
		for _, l := range g.cargo {
			want := c.target(t, l.String())
			a := far.ask(http.MethodGet, manifestPath("loaded/"+l.repo, l.tag))
			if !a.whole() || a.digest() != want {
				t.Errorf("%s: %v with digest %s, and containerd has %s", l, a, a.digest(), want)
			}
			if !strings.Contains(string(out), "loaded/"+l.repo+":"+l.tag+"  "+string(want)) {
				t.Errorf("no line of %s in\n%s", l, out)
			}
		}
	})
	t.Run("a damaged archive leaves nothing that can be seen", func(t *testing.T) {
		b, err := os.ReadFile(plain)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		bad := filepath.Join(g.dir, "bad.tar")
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n := g.far(t)
		out, err := n.command("import", bad)
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Fatalf("it was taken: %v\n%s", err, out)
		}
		n.start()
		for _, l := range g.cargo {
			if a := n.ask(http.MethodGet, manifestPath(l.project+"/"+l.repo, l.tag)); a.status != http.StatusServiceUnavailable {
				t.Errorf("%s: %v", l, a)
			}
		}
		// Beside the running server, from its standard input.
		if out, err := n.feed(plain, -1); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		eventually(t, 10*time.Second, "the server sees what was imported", func() bool {
			return n.pull("quay.io/team/app", "v1", g.cargo[2].image) == nil
		})
		g.here(t, n, g.cargo...)
	})
	t.Run("an import that was killed goes on", func(t *testing.T) {
		n := g.far(t)
		if out, err := n.feed(plain, 2<<20); err == nil {
			t.Fatalf("it came to an end:\n%s", out)
		}
		if kept := stored(t, n.dir); kept == 0 {
			t.Error("nothing is kept of what had come")
		}
		if out, err := n.command("import", plain); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		n.start()
		g.here(t, n, g.cargo...)
	})
	t.Run("only what the other side lacks", func(t *testing.T) {
		next := g.addLayer(t, g.cargo[2])
		small := g.export(t, "next.tar", "--since", archive+".digests", next.String())
		if info, err := os.Stat(small); err != nil || info.Size() > 1<<20 {
			t.Errorf("the new archive is not small: %v, %v", info.Size(), err)
		}
		n := g.far(t)
		out, err := n.command("import", small)
		if missing := next.image.here().layers[0]; err == nil || !strings.Contains(string(out), string(missing)) {
			t.Errorf("where nothing is: %v, want one that names %s\n%s", err, missing, out)
		}
		if out, err := far.command("import", small); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		// The server has served the tag as it was, and remembers it.
		eventually(t, 10*time.Second, "the server sees what was imported", func() bool {
			return far.pull("quay.io/team/app", next.tag, next.image) == nil
		})
		g.cargo[2] = next
	})
	t.Run("a directory is gone on with, and carries the same", func(t *testing.T) {
		layout := g.export(t, "layout", "--all-platforms", "--project", "quay.io")
		blob := filepath.Join(layout, "blobs/sha256", g.cargo[2].image.here().layers[1].Encoded())
		before, err := os.Stat(blob)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(layout, "index.json"))
		g.export(t, "layout", "--all-platforms", "--project", "quay.io")
		if after, err := os.Stat(blob); err != nil || !os.SameFile(before, after) {
			t.Errorf("a blob was written again: %v", err)
		}
		n := g.far(t)
		if out, err := n.command("import", layout); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		n.start()
		g.here(t, n, g.cargo[2:]...)
	})
	t.Run("what is not here is named, and how it comes", func(t *testing.T) {
		out, err := g.near.command("export", "-o", filepath.Join(g.dir, "no.tar"), "quay.io/team/app:v1", "quay.io/team/other:v9")
		if err == nil || !strings.Contains(string(out), "roadstead warm --platform linux/"+runtime.GOARCH+" quay.io/team/other:v9") {
			t.Errorf("%v\n%s", err, out)
		}
		if isFile(filepath.Join(g.dir, "no.tar")) {
			t.Error("an archive was written all the same")
		}
	})
	t.Run("into a bucket and PostgreSQL, beside a node", func(t *testing.T) {
		s := s3test.MinIO(t)
		storage := bucketStorage(t, s, s.Endpoint, s.Bucket(t))
		maps.Copy(storage, onPostgreSQL(t, postgrestest.New(t)))
		n := newNode(t, nodeConfig{plain: true, projects: map[string]any{"quay.io": project(g.nobody, nil)}, storage: storage, more: map[string]any{"offline": true}})
		n.start()
		path := manifestPath("quay.io/team/plain", "v1")
		if a := n.ask(http.MethodGet, path); a.status != http.StatusServiceUnavailable {
			t.Errorf("before: %v", a)
		}
		if out, err := n.command("import", g.export(t, "bucket.tar", "quay.io/team/plain:v1")); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		eventually(t, 10*time.Second, "the server sees what was imported", func() bool { return n.ask(http.MethodHead, path).status == http.StatusOK })
		g.here(t, n, g.cargo[3])
	})
	t.Run("as RKE2's archives are made", func(t *testing.T) { g.asRKE2(t, far) })
	t.Run("archives of others", func(t *testing.T) { g.others(t, far) })
	if n := g.dialled.Load(); n != 0 {
		t.Errorf("nodes that are offline have dialled %d times", n)
	}
}

// asRKE2 has Docker load what is exported, and save it as an RKE2 release is: all in one file, compressed
// by zstd with a long window. Two images of it have a layer in common.
func (g *gap) asRKE2(t *testing.T, far *node) {
	d := startDocker(t)
	docker := func(args ...string) []byte {
		t.Helper()
		return run(t, environment(d.dir), d.docker, append([]string{"--host", d.socket}, args...)...)
	}
	docker("load", "--input", filepath.Join(g.dir, "docker.tar"))
	docker("tag", "rancher/pause:3.6", "rancher/mirrored-pause:3.6")
	saved := filepath.Join(g.dir, "rke2-images.linux-amd64.tar")
	docker("save", "--output", saved, "rancher/pause:3.6", "rancher/mirrored-pause:3.6", "library/many:1.0")
	in, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(32<<20))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(saved+".zst", z.EncodeAll(in, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := far.command("import", saved+".zst")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for repo, img := range map[string]*image{"rancher/pause": g.cargo[1].image, "rancher/mirrored-pause": g.cargo[1].image} {
		var found digest.Digest
		for line := range strings.Lines(string(out)) {
			if words := strings.Fields(line); words[0] == "docker.io/"+repo+":3.6" {
				found = digest.Digest(words[1])
			}
		}
		eventually(t, 10*time.Second, "the server sees what was imported", func() bool {
			return far.ask(http.MethodHead, manifestPath("docker.io/"+repo, "3.6")).header.Get("Docker-Content-Digest") == string(found)
		})
		a := far.ask(http.MethodGet, manifestPath("docker.io/"+repo, "3.6"))
		if !a.whole() || a.digest() != found || !bytes.Contains(a.body, []byte(img.here().config)) {
			t.Errorf("%s: %v; want %s with the configuration %s", repo, a, found, img.here().config)
		}
		var m v1.Manifest
		if err := json.Unmarshal(a.body, &m); err != nil {
			t.Fatal(err)
		}
		for _, layer := range append(m.Layers, m.Config) {
			if err := far.pullBlob("docker.io/"+repo, layer.Digest, layer.Size); err != nil {
				t.Error(err)
			}
		}
	}
}

// others are what skopeo and crane make of an image.
func (g *gap) others(t *testing.T, far *node) {
	img := g.cargo[1]
	at := func(file string) string { return filepath.Join(g.dir, file) }
	from := g.near.addr + "/" + img.String()
	skopeo := func(to string) {
		run(t, environment(shortDir(t)), need(t, "skopeo"), "--insecure-policy", "copy", "--src-tls-verify=false", "--tmpdir", g.dir, "docker://"+from, to)
	}
	skopeo("oci-archive:" + at("skopeo-oci.tar") + ":3.6")
	skopeo("docker-archive:" + at("skopeo-docker.tar") + ":rancher/pause:3.6")
	run(t, environment(shortDir(t)), need(t, "crane"), "pull", "--insecure", from, at("crane.tar"))
	run(t, environment(shortDir(t)), need(t, "crane"), "pull", "--insecure", "--format", "oci", from, at("crane-oci"))
	for _, row := range []struct {
		file   string
		name   string // what the images are called there
		digest digest.Digest
	}{
		{"skopeo-oci.tar", "loaded.example/by/skopeo-oci", ""},
		{"skopeo-docker.tar", "", ""},
		{"crane.tar", "", ""},
		{"crane-oci", "loaded.example/by/crane-oci:3.6", img.image.top().digest},
	} {
		args := []string{"--project", "loaded", at(row.file)}
		if row.name != "" {
			args = append(args, "--name", row.name)
		}
		out, err := far.command("import", args...)
		if err != nil {
			t.Errorf("%s: %v\n%s", row.file, err, out)
			continue
		}
		fields := strings.Fields(string(out))
		repo, tag, _ := strings.Cut(fields[0], ":")
		a := far.ask(http.MethodGet, manifestPath(repo, tag))
		if !a.whole() || string(a.digest()) != fields[1] || row.digest != "" && a.digest() != row.digest {
			t.Errorf("%s: %s is %v with digest %s", row.file, out, a, a.digest())
		}
	}
}

// addLayer has the tag of an image point to a new version, upstream and at the near node, with one more
// layer.
func (g *gap) addLayer(t *testing.T, old load) load {
	t.Helper()
	next := *old.image
	next.blobs, next.tags = map[digest.Digest]content{}, map[string]manifest{}
	for d, c := range old.image.blobs {
		next.blobs[d] = c
	}
	part := old.image.here()
	extra := recipe{seed: 729999, layers: 1}.make(t)
	d := extra.here().layers[0]
	next.addBlob(d, extra.blobs[d])
	config := bytes.Replace(old.image.blobs[part.config].bytes, []byte(`"diff_ids":[`), []byte(`"diff_ids":["`+string(digest.FromString("of no matter"))+`",`), 1)
	next.addBlob(digest.FromBytes(config), content{bytes: config, size: int64(len(config))})
	next.manifests = nil
	next.tags[old.tag] = next.addManifest(t, digest.FromBytes(config), append([]digest.Digest{part.layers[0], d}, part.layers[1:]...))
	next.blobOrder = append(append([]digest.Digest{digest.FromBytes(config)}, part.layers...), d)
	l := load{old.reference, &next}
	g.upstream.push(t, l.repo, &next)
	if err := g.near.pull(l.project+"/"+l.repo, l.tag, l.image); err != nil {
		t.Fatal(err)
	}
	return l
}

// target is the digest that containerd has under a name.
func (c *containerd) target(t *testing.T, name string) digest.Digest {
	t.Helper()
	for line := range strings.Lines(string(c.run(t, "images", "ls", "name=="+name))) {
		if words := strings.Fields(line); len(words) > 2 && words[0] == name {
			return digest.Digest(words[2])
		}
	}
	t.Errorf("containerd has no image %s", name)
	return ""
}

// feed imports a file from standard input; after so many bytes, unless negative, it is killed.
func (n *node) feed(path string, kill int64) ([]byte, error) {
	n.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(roadsteadCommand(n.t), "import", "--config", n.config, "-")
	cmd.Env = environment(n.home)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := processtest.Start(cmd); err != nil {
		n.t.Fatal(err)
	}
	if kill < 0 {
		io.Copy(in, f)
		in.Close()
		err := cmd.Wait() // only then has all been said
		return out.Bytes(), err
	}
	if _, err := io.CopyN(in, f, kill); err != nil {
		n.t.Error(err)
	}
	eventually(n.t, 10*time.Second, "some of it is stored", func() bool { return holdsBlobs(n.dir) })
	cmd.Process.Kill()
	if err := cmd.Wait(); err == nil {
		return out.Bytes(), nil
	}
	return out.Bytes(), fmt.Errorf("killed")
}

// holdsBlobs says whether some content is stored in a directory.
func holdsBlobs(dir string) bool {
	all, _ := filepath.Glob(filepath.Join(dir, "docker/registry/v2/blobs/sha256/*/*/data"))
	return len(all) > 0
}

func unpackZstd(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	z, err := zstd.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, z); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
