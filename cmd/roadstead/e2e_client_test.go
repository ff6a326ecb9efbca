package main_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A client is a program that people pull images with.
type client struct {
	name string

	// fresh returns what pulls with a store that has nothing yet, and then compares what the
	// store has with the image, byte for byte.
	fresh func(t *testing.T, n *node) puller

	noZstd  bool // it cannot read such layers, whoever serves them
	partial bool // it pulls only what is for this machine's platform
}

type puller func(t *testing.T, ref reference, img *image)

// A reference names an image as a user of the node does, by tag or by digest.
type reference struct {
	project, repo string
	tag           string
	digest        digest.Digest
}

func (r reference) String() string { return r.project + "/" + r.repo + r.suffix() }

func (r reference) suffix() string {
	if r.digest != "" {
		return "@" + string(r.digest)
	}
	return ":" + r.tag
}

// at is the reference for a client that is given the node's address and the whole path.
func (r reference) at(n *node) string { return n.addr + "/" + r.String() }

// clients are all that pull through the node's address. Those that know the node as a mirror of
// the registry that they name are in their own files.
var clients = []client{
	{name: "skopeo", fresh: stateless(pullSkopeo)},
	{name: "crane", fresh: stateless(pullCrane)},
	{name: "regctl", fresh: stateless(pullRegctl)},
	{name: "oras", fresh: stateless(pullOras)},
	{name: "podman", fresh: freshPodman, partial: true},
	{name: "containerd", fresh: freshContainerd, partial: true},
	{name: "docker", fresh: freshDocker, partial: true, noZstd: true},
	{name: "wharfie", fresh: stateless(pullWharfie), partial: true},
}

// stateless makes a client of a command that pulls into a new directory each time.
func stateless(pull func(t *testing.T, n *node, ref reference, img *image)) func(*testing.T, *node) puller {
	return func(_ *testing.T, n *node) puller {
		return func(t *testing.T, ref reference, img *image) {
			t.Helper()
			pull(t, n, ref, img)
		}
	}
}

func pullSkopeo(t *testing.T, n *node, ref reference, img *image) {
	program, dir := need(t, "skopeo"), shortDir(t)
	n.keep(t, dir)
	tls := []string{"--src-tls-verify=false"}
	if n.ca != "" {
		tls = []string{"--src-cert-dir", filepath.Dir(n.ca)}
	}
	args := append([]string{"--insecure-policy", "copy", "--all", "--preserve-digests"}, tls...)
	run(t, environment(dir), program, append(args, "docker://"+ref.at(n), "dir:"+dir+"/image")...)
	for i, m := range img.manifests {
		name := m.digest.Encoded() + ".manifest.json"
		if i == len(img.manifests)-1 {
			name = "manifest.json"
		}
		compareFile(t, filepath.Join(dir, "image", name), m.bytes)
	}
	for d := range img.blobs {
		compareBlob(t, filepath.Join(dir, "image", d.Encoded()), d)
	}

	// The same into the layout that other tools read. It re-encodes what is not OCI.
	if mediaType := img.top().mediaType; mediaType == ociManifest || mediaType == ociIndex {
		run(t, environment(dir), program, append(args, "docker://"+ref.at(n), "oci:"+dir+"/layout")...)
		compareLayout(t, filepath.Join(dir, "layout"), img)
	}
}

func pullCrane(t *testing.T, n *node, ref reference, img *image) {
	program, dir := need(t, "crane"), shortDir(t)
	n.keep(t, dir)
	env := environment(dir, "SSL_CERT_FILE="+n.ca)
	run(t, env, program, "pull", "--format", "oci", ref.at(n), dir+"/layout")
	compareLayout(t, filepath.Join(dir, "layout"), img)
	if got := run(t, env, program, "manifest", ref.at(n)); !bytes.Equal(got, img.top().bytes) {
		t.Errorf("crane manifest %s: %q, want %q", ref, got, img.top().bytes)
	}
	for _, d := range img.blobOrder[:1] {
		if got := run(t, env, program, "blob", n.addr+"/"+ref.project+"/"+ref.repo+"@"+string(d)); digest.FromBytes(got) != d {
			t.Errorf("crane blob %s: %d bytes with digest %s", d, len(got), digest.FromBytes(got))
		}
	}
}

func pullRegctl(t *testing.T, n *node, ref reference, img *image) {
	program, dir := need(t, "regctl"), shortDir(t)
	n.keep(t, dir)
	host, env := "reg="+n.addr+",tls=disabled", environment(dir, "SSL_CERT_FILE="+n.ca)
	if n.ca != "" {
		host = "reg=" + n.addr + ",tls=enabled"
	}
	run(t, env, program, "--host", host, "image", "copy", ref.at(n), "ocidir://"+dir+"/layout:1")
	compareLayout(t, filepath.Join(dir, "layout"), img)
	if got := run(t, env, program, "--host", host, "manifest", "get", "--format", "raw-body", ref.at(n)); !bytes.Equal(got, img.top().bytes) {
		t.Errorf("regctl manifest get %s: %q, want %q", ref, got, img.top().bytes)
	}
}

func pullOras(t *testing.T, n *node, ref reference, img *image) {
	program, dir := need(t, "oras"), shortDir(t)
	n.keep(t, dir)
	tls := []string{"--from-plain-http"}
	if n.ca != "" {
		tls = []string{"--from-ca-file", n.ca}
	}
	args := append([]string{"copy", "--to-oci-layout"}, tls...)
	run(t, environment(dir), program, append(args, ref.at(n), dir+"/layout:1")...)
	compareLayout(t, filepath.Join(dir, "layout"), img)
}

func freshPodman(t *testing.T, n *node) puller {
	needRoot(t)
	podman := podmanCommand{program: need(t, "podman"), dir: shortDir(t)}
	n.keep(t, podman.dir)
	tls := "--tls-verify=false"
	if n.ca != "" {
		tls = "--cert-dir=" + filepath.Dir(n.ca)
	}
	return func(t *testing.T, ref reference, img *image) {
		t.Helper()
		id := strings.TrimSpace(string(podman.run(t, "pull", "--quiet", tls, ref.at(n))))
		podman.compare(t, id, img)
	}
}

// podmanCommand is podman with a store of its own.
type podmanCommand struct {
	program, dir string
	env          []string
}

func (p podmanCommand) run(t *testing.T, args ...string) []byte {
	t.Helper()
	policy := filepath.Join(p.dir, "policy.json")
	if !isFile(policy) {
		writeJSON(t, policy, map[string]any{"default": []any{map[string]any{"type": "insecureAcceptAnything"}}})
	}
	global := []string{
		"--root", p.dir + "/root", "--runroot", p.dir + "/run", "--tmpdir", p.dir + "/tmp",
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
	}
	if args[0] == "pull" || args[0] == "push" {
		args = append([]string{args[0], "--signature-policy", policy}, args[1:]...)
	}
	return run(t, environment(p.dir, p.env...), p.program, append(global, args...)...)
}

// compare checks what podman says of an image in its store. It has verified every digest, and
// unpacked the layers: that the identity is right is all there is to see.
func (p podmanCommand) compare(t *testing.T, id string, img *image) {
	t.Helper()
	if want := img.here().config.Encoded(); id != want {
		t.Errorf("podman pulled the image %s, want %s", id, want)
	}
	out := string(p.run(t, "image", "inspect", "--format", "{{.RepoDigests}}", id))
	if !strings.Contains(out, string(img.top().digest)) && !strings.Contains(out, string(img.here().manifest.digest)) {
		t.Errorf("podman knows the image as %s, want %s", out, img.top().digest)
	}
}

// compareLayout checks an OCI image layout: it has all that the image has, and those bytes.
func compareLayout(t *testing.T, dir string, img *image) {
	t.Helper()
	for _, m := range img.manifests {
		compareFile(t, filepath.Join(dir, "blobs", "sha256", m.digest.Encoded()), m.bytes)
	}
	for d := range img.blobs {
		compareBlob(t, filepath.Join(dir, "blobs", "sha256", d.Encoded()), d)
	}
}

func compareFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s holds %d other bytes than the %d wanted", path, len(got), len(want))
	}
}

func compareBlob(t *testing.T, path string, want digest.Digest) {
	t.Helper()
	got, err := hashFile(path, "sha256")
	if err != nil {
		t.Error(err)
	} else if got != want.Encoded() {
		t.Errorf("%s holds the bytes of %s, want %s", path, got, want)
	}
}

// shortDir is a temporary directory whose name leaves room for the sockets of a daemon: their
// paths may have 107 bytes, and the names of tests are long.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// readDigest hashes a stream.
func readDigest(r io.Reader) (digest.Digest, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return digest.NewDigest(digest.SHA256, h), n, err
}
