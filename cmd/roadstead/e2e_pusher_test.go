package main_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// A pusher is a program that people push images with. Each step is a command of its own, as
// people type it.
type pusher struct {
	name string

	// login logs h.who in at the node with the program's own command.
	login func(t *testing.T, h *hand) error

	// push pushes an image under a tag.
	push func(t *testing.T, h *hand, ref reference, img *image)

	// copy copies within the node; nil: the program cannot.
	copy func(t *testing.T, h *hand, from, to reference)

	// remove deletes a tag's manifest, or only the tag; nil: the program cannot.
	remove func(t *testing.T, h *hand, ref reference)

	recompresses bool // it makes other layers of an image's files: only the configuration stays
	trusting     bool // its login writes down whatever it is told
}

// A hand is a pusher at work: at a node, for somebody, with a home that remembers the login.
type hand struct {
	*node
	home string
	env  []string
	d    *dockerd    // of docker
	c    *containerd // of containerd
}

// choose returns the flag for a node with TLS, with the certificate filled in for %s (or its
// directory for %d), or the one for a node without.
func (h *hand) choose(plain, secure string) []string {
	flag := plain
	if h.ca != "" {
		flag = strings.NewReplacer("%s", h.ca, "%d", filepath.Dir(h.ca)).Replace(secure)
	}
	return strings.Fields(flag)
}

func (h *hand) run(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	return run(t, h.env, need(t, program), args...)
}

func (h *hand) try(t *testing.T, program string, args ...string) error {
	t.Helper()
	_, err := try(h.env, need(t, program), args...)
	return err
}

// pushers are all of them. Those that push something else than images have files of their own.
var pushers = []pusher{
	{
		name: "skopeo",
		login: func(t *testing.T, h *hand) error {
			return h.try(t, "skopeo", append(h.choose("login --tls-verify=false", "login --cert-dir=%d"), "-u", h.who.name, "-p", h.who.secret, h.addr)...)
		},
		push: func(t *testing.T, h *hand, ref reference, img *image) {
			args := append([]string{"--insecure-policy", "copy", "--all", "--preserve-digests"}, h.choose("--dest-tls-verify=false", "--dest-cert-dir=%d")...)
			h.run(t, "skopeo", append(args, "oci:"+writeLayout(t, img), "docker://"+ref.at(h.node))...)
		},
		copy: func(t *testing.T, h *hand, from, to reference) {
			args := append([]string{"--insecure-policy", "copy", "--all", "--preserve-digests"},
				h.choose("--src-tls-verify=false --dest-tls-verify=false", "--src-cert-dir=%d --dest-cert-dir=%d")...)
			h.run(t, "skopeo", append(args, "docker://"+from.at(h.node), "docker://"+to.at(h.node))...)
		},
		remove: func(t *testing.T, h *hand, ref reference) {
			h.run(t, "skopeo", append(h.choose("delete --tls-verify=false", "delete --cert-dir=%d"), "docker://"+ref.at(h.node))...)
		},
	},
	{
		name:     "crane",
		trusting: true,
		login: func(t *testing.T, h *hand) error {
			return h.try(t, "crane", "auth", "login", h.addr, "-u", h.who.name, "-p", h.who.secret)
		},
		push: func(t *testing.T, h *hand, ref reference, img *image) {
			h.run(t, "crane", "push", writeLayout(t, img), ref.at(h.node))
		},
		copy: func(t *testing.T, h *hand, from, to reference) {
			h.run(t, "crane", "copy", from.at(h.node), to.at(h.node))
		},
		remove: func(t *testing.T, h *hand, ref reference) { h.run(t, "crane", "delete", ref.at(h.node)) },
	},
	{
		name: "regctl",
		login: func(t *testing.T, h *hand) error {
			h.run(t, "regctl", "registry", "set", h.addr, strings.Join(h.choose("--tls=disabled", "--tls=enabled"), ""), "--skip-check")
			return h.try(t, "regctl", "registry", "login", h.addr, "--user", h.who.name, "--pass", h.who.secret)
		},
		push: func(t *testing.T, h *hand, ref reference, img *image) {
			h.run(t, "regctl", "image", "copy", "ocidir://"+writeLayout(t, img)+":1", ref.at(h.node))
		},
		copy: func(t *testing.T, h *hand, from, to reference) {
			h.run(t, "regctl", "image", "copy", from.at(h.node), to.at(h.node))
		},
		remove: func(t *testing.T, h *hand, ref reference) { h.run(t, "regctl", "tag", "delete", ref.at(h.node)) },
	},
	{
		name: "oras",
		login: func(t *testing.T, h *hand) error {
			return h.try(t, "oras", append(h.choose("login --plain-http", "login --ca-file=%s"), "-u", h.who.name, "-p", h.who.secret, h.addr)...)
		},
		push: func(t *testing.T, h *hand, ref reference, img *image) {
			h.run(t, "oras", append(h.choose("copy --from-oci-layout --to-plain-http", "copy --from-oci-layout --to-ca-file=%s"), writeLayout(t, img)+":1", ref.at(h.node))...)
		},
		copy: func(t *testing.T, h *hand, from, to reference) {
			h.run(t, "oras", append(h.choose("copy --from-plain-http --to-plain-http", "copy --from-ca-file=%s --to-ca-file=%s"), from.at(h.node), to.at(h.node))...)
		},
		remove: func(t *testing.T, h *hand, ref reference) {
			h.run(t, "oras", append(h.choose("manifest delete --force --plain-http", "manifest delete --force --ca-file=%s"), ref.at(h.node))...)
		},
	},
	{
		name: "podman",
		login: func(t *testing.T, h *hand) error {
			needRoot(t)
			return h.try(t, "podman", append(h.choose("login --tls-verify=false", "login --cert-dir=%d"), "-u", h.who.name, "-p", h.who.secret, h.addr)...)
		},
		push: func(t *testing.T, h *hand, ref reference, img *image) {
			podman := h.podman(t)
			id := strings.TrimSpace(string(podman.run(t, "pull", "--quiet", "oci:"+writeLayout(t, img))))
			podman.run(t, append(append([]string{"push"}, h.choose("--tls-verify=false", "--cert-dir=%d")...), id, ref.at(h.node))...)
		},
		copy: func(t *testing.T, h *hand, from, to reference) {
			podman := h.podman(t)
			tls := h.choose("--tls-verify=false", "--cert-dir=%d")
			podman.run(t, append(append([]string{"pull", "--quiet"}, tls...), from.at(h.node))...)
			podman.run(t, append(append([]string{"push"}, tls...), from.at(h.node), to.at(h.node))...)
		},
		recompresses: true,
	},
	{
		name: "docker",
		login: func(t *testing.T, h *hand) error {
			return h.try(t, "docker", "--host", h.docker(t).socket, "login", "-u", h.who.name, "-p", h.who.secret, h.addr)
		},
		push: func(t *testing.T, h *hand, ref reference, img *image) {
			d := h.docker(t)
			archive := filepath.Join(shortDir(t), "image.tar")
			h.run(t, "skopeo", "--insecure-policy", "copy", "oci:"+writeLayout(t, img), "docker-archive:"+archive+":"+ref.at(h.node))
			h.run(t, "docker", "--host", d.socket, "load", "--quiet", "--input", archive)
			h.run(t, "docker", "--host", d.socket, "push", ref.at(h.node))
		},
		copy: func(t *testing.T, h *hand, from, to reference) {
			d := h.docker(t)
			h.run(t, "docker", "--host", d.socket, "pull", "--quiet", from.at(h.node))
			h.run(t, "docker", "--host", d.socket, "tag", from.at(h.node), to.at(h.node))
			h.run(t, "docker", "--host", d.socket, "push", to.at(h.node))
		},
		recompresses: true,
	},
	{
		name: "containerd",
		// It keeps no logins: whoever calls it says who he is each time.
		push: func(t *testing.T, h *hand, ref reference, img *image) {
			c := h.containerd(t)
			layout := writeLayout(t, img)
			archive := filepath.Join(shortDir(t), "image.tar")
			run(t, h.env, "/bin/tar", "-cf", archive, "-C", layout, ".")
			c.run(t, "images", "import", "--no-unpack", "--all-platforms", "--base-name", "layout", archive)
			c.server(t, h.node)
			c.push(t, h.who, ref.at(h.node), "layout:1")
		},
	},
}

// podman is podman for this hand, with a store in its home.
func (h *hand) podman(t *testing.T) podmanCommand {
	t.Helper()
	return podmanCommand{program: need(t, "podman"), dir: h.home}
}

// docker is the engine that this hand commands, started when it is needed.
func (h *hand) docker(t *testing.T) *dockerd {
	t.Helper()
	if h.d == nil {
		h.d = startDocker(t)
	}
	return h.d
}

func (h *hand) containerd(t *testing.T) *containerd {
	t.Helper()
	if h.c == nil {
		h.c = startContainerd(t)
	}
	return h.c
}

// newHand is a hand with an empty home.
func newHand(t testing.TB, n *node) *hand {
	t.Helper()
	home := shortDir(t)
	return &hand{node: n, home: home, env: environment(home, "SSL_CERT_FILE="+n.ca)}
}

// writeLayout writes an image as an OCI image layout with the tag 1.
func writeLayout(t testing.TB, img *image) (dir string) {
	t.Helper()
	dir = shortDir(t)
	put := func(d digest.Digest, r io.Reader) {
		t.Helper()
		path := filepath.Join(dir, "blobs", string(d.Algorithm()), d.Encoded())
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.Copy(f, r); err != nil {
			t.Fatal(err)
		}
	}
	for d, c := range img.blobs {
		body := c.open(t)
		put(d, body)
		body.Close()
	}
	for _, m := range img.manifests {
		put(m.digest, strings.NewReader(string(m.bytes)))
	}
	top := img.top().descriptor(nil)
	top.Annotations = map[string]string{v1.AnnotationRefName: "1"}
	writeJSON(t, filepath.Join(dir, "index.json"), v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ociIndex, Manifests: []v1.Descriptor{top}})
	if err := os.WriteFile(filepath.Join(dir, v1.ImageLayoutFile), []byte(fmt.Sprintf(`{"imageLayoutVersion":%q}`, v1.ImageLayoutVersion)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
