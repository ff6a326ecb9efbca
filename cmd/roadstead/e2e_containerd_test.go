package main_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A containerd is a daemon with an empty store, as a node of a cluster has one.
type containerd struct {
	*process
	ctr       string
	dir       string
	socket    string
	namespace string
	user      string // "name:password" for registries; "" for nobody's
}

func startContainerd(t *testing.T) *containerd {
	t.Helper()
	needRoot(t)
	program := need(t, "containerd")
	dir := shortDir(t)
	c := &containerd{ctr: need(t, "ctr"), dir: dir, socket: filepath.Join(dir, "c.sock"), namespace: "default"}
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[2]s"
[ttrpc]
  address = "%[1]s/t.sock"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "%[1]s/hosts"
`, dir, c.socket)
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.process = start(t, dir, "containerd", program, "--config", path)
	eventually(t, 20*time.Second, "an answer from containerd", func() bool {
		if !listens(c.socket) {
			return false // a program that says no more than that takes longer to say it
		}
		_, err := try(environment(dir), c.ctr, "--address", c.socket, "version")
		return err == nil
	})
	return c
}

// listens says whether there is somebody at a Unix socket.
func listens(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// hosts writes a hosts.toml for a registry, or for "_default", that leads to one mirror and says
// whatever else a mirror needs.
func (c *containerd) hosts(t *testing.T, registry, mirror string, lines ...string) {
	t.Helper()
	dir := filepath.Join(c.dir, "hosts", registry)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", mirror)
	for _, line := range lines {
		text += "  " + line + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// server writes a hosts.toml for a node that is called by its own address, and not a mirror.
func (c *containerd) server(t *testing.T, n *node) {
	t.Helper()
	dir := filepath.Join(c.dir, "hosts", n.addr)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n", n.url)
	if n.ca != "" {
		text += fmt.Sprintf("  ca = %q\n", n.ca)
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *containerd) run(t *testing.T, args ...string) []byte {
	t.Helper()
	return run(t, environment(c.dir), c.ctr, append([]string{"--address", c.socket, "--namespace", c.namespace}, args...)...)
}

// push pushes what the daemon has under a name of its own. On a busy machine the command sometimes
// loses its own daemon in the middle of reading a blob from that, over a socket that the registry has
// nothing to do with; it says so with an error of gRPC, and then it is asked again.
func (c *containerd) push(t *testing.T, who account, name, local string) {
	t.Helper()
	args := []string{"--address", c.socket, "--namespace", c.namespace, "images", "push", "--user", who.name + ":" + who.secret,
		"--hosts-dir", c.dir + "/hosts", name, local}
	var err error
	for range 3 {
		if _, err = try(environment(c.dir), c.ctr, args...); err == nil || !strings.Contains(err.Error(), "rpc error: code = Internal desc = unexpected EOF") {
			break
		}
		t.Log("ctr lost its daemon, and is asked again")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pull pulls an image by the name that it has in the world and unpacks it.
func (c *containerd) pull(t *testing.T, ref reference, img *image) {
	t.Helper()
	args := []string{"images", "pull", "--hosts-dir", c.dir + "/hosts", "--snapshotter", "native"}
	if c.user != "" {
		args = append(args, "--user", c.user)
	}
	c.run(t, append(args, ref.String())...)
	c.compare(t, ref, img)
}

// pullForKubelet pulls as a kubelet does, and crictl: through the CRI plugin, which obeys the
// configuration of the daemon.
func (c *containerd) pullForKubelet(t *testing.T, ref reference, img *image) {
	t.Helper()
	c.namespace = "k8s.io"
	conn, err := grpc.NewClient("unix://"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	images := cri.NewImageServiceClient(conn)
	request := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref.String()}}
	if name, password, given := strings.Cut(c.user, ":"); given {
		request.Auth = &cri.AuthConfig{Username: name, Password: password} // of a pod's imagePullSecrets
	}
	answer, err := images.PullImage(ctx, request)
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	if want := string(img.here().config); answer.GetImageRef() != want {
		t.Errorf("the kubelet has got image %s as %s, want %s", ref, answer.GetImageRef(), want)
	}
	c.compare(t, ref, img)
}

// compare looks at what an image has become in the store.
func (c *containerd) compare(t *testing.T, ref reference, img *image) {
	t.Helper()
	have := strings.Fields(string(c.run(t, "content", "ls", "--quiet")))
	here := img.here()
	for _, d := range slices.Concat([]digest.Digest{img.top().digest, here.manifest.digest, here.config}, here.layers) {
		if !slices.Contains(have, string(d)) {
			t.Errorf("containerd has not pulled %s of %s", d, ref)
			continue
		}
		// What containerd has under a digest is what it got: it compares sizes and digests
		// when it commits. That the store is not wrong costs little to see.
		if size := img.blobs[d].size; size < 1<<20 {
			if got := digest.FromBytes(c.run(t, "content", "get", string(d))); got != d {
				t.Errorf("containerd has the bytes of %s as %s", got, d)
			}
		}
	}
	if got := c.run(t, "content", "get", string(img.top().digest)); !bytes.Equal(got, img.top().bytes) {
		t.Errorf("containerd has %q as %s", got, img.top().digest)
	}
}

// freshContainerd is configured as RKE2 does it: a mirror of each registry with a path, so that
// no ns is needed.
func freshContainerd(t *testing.T, n *node) puller {
	c := startContainerd(t)
	if n.who.name != "" {
		c.user = n.who.name + ":" + n.who.secret
	}
	lines := []string{"override_path = true"}
	if n.ca != "" {
		lines = append(lines, fmt.Sprintf("ca = %q", n.ca))
	}
	return func(t *testing.T, ref reference, img *image) {
		t.Helper()
		c.hosts(t, ref.project, n.url+"/v2/"+ref.project, lines...)
		c.pull(t, ref, img)
	}
}
