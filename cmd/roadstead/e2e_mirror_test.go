package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mirrored starts a node with an image in docker.io and one in quay.io, as the ways to name a
// mirror need them: everything that belongs to no project is Docker Hub's.
func mirrored(t *testing.T) (n *node, hub, quay reference, img *image) {
	t.Helper()
	u := startUpstream(t, upstreamConfig{})
	img = recipe{seed: 7000, docker: true, platforms: []string{"amd64", "arm64"}}.make(t, "1.35")
	hub = reference{project: "docker.io", repo: "library/busybox", tag: "1.35"}
	quay = reference{project: "quay.io", repo: "team/web", tag: "1.35"}
	u.push(t, hub.repo, img)
	u.push(t, quay.repo, img)
	n = startNode(t, nodeConfig{
		projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true}), "quay.io": u.project(nil)},
		more:     map[string]any{"default_project": "docker.io"},
	})
	return n, hub, quay, img
}

// One hosts.toml for all registries: containerd says by "ns" which one it means (RKE2.md §3.2).
func TestContainerdByDefaultHostAndNamespace(t *testing.T) {
	e2e(t)
	n, hub, quay, img := mirrored(t)
	c := startContainerd(t)
	c.hosts(t, "_default", n.url)
	c.pull(t, quay, img)
	c.pull(t, hub, img)
}

// A kubelet, and crictl, have the CRI plugin of containerd pull, by whatever way the nodes are told
// of the mirror: RKE2 writes one hosts.toml for each registry.
func TestKubelet(t *testing.T) {
	e2e(t)
	n, hub, quay, img := mirrored(t)
	t.Run("by namespace", func(t *testing.T) {
		c := startContainerd(t)
		c.hosts(t, "_default", n.url)
		c.pullForKubelet(t, quay, img)
		c.pullForKubelet(t, hub, img)
	})
	t.Run("by the path of a project", func(t *testing.T) {
		c := startContainerd(t)
		for _, ref := range []reference{hub, quay} {
			c.hosts(t, ref.project, n.url+"/v2/"+ref.project, "override_path = true")
			c.pullForKubelet(t, ref, img)
		}
	})
}

// A Docker engine takes the node as a mirror of Docker Hub, without a path.
func TestDockerByRegistryMirror(t *testing.T) {
	e2e(t)
	n, _, _, img := mirrored(t)
	startDocker(t, n.url).pull(t, "busybox:1.35", img)
}

// podman and CRI-O take a mirror from registries.conf, with the project as its path.
func TestPodmanByRegistriesConf(t *testing.T) {
	e2e(t)
	n, hub, quay, img := mirrored(t)
	needRoot(t)
	podman := podmanCommand{program: need(t, "podman"), dir: shortDir(t)}
	text := ""
	for _, ref := range []reference{hub, quay} {
		text += fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n",
			ref.project, ref.project, n.addr+"/"+ref.project)
	}
	file := filepath.Join(podman.dir, "registries.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	podman.env = []string{"CONTAINERS_REGISTRIES_CONF=" + file}
	for _, ref := range []reference{hub, quay} {
		id := strings.TrimSpace(string(podman.run(t, "pull", "--quiet", ref.String())))
		podman.compare(t, id, img)
	}
}

// wharfie pings the path of its endpoint: a 404 there ends RKE2's bootstrap (RKE2.md §1).
func TestWharfieByEndpointWithPath(t *testing.T) {
	e2e(t)
	n, hub, quay, img := mirrored(t)
	for _, ref := range []reference{hub, quay} {
		wharfiePull(t, n, ref, img, map[string]any{"endpoint": []string{n.url + "/v2/" + ref.project}})
	}
}

// Every client again, where the node speaks TLS; the Go clients among them then speak HTTP/2.
func TestClientsPullOverTLS(t *testing.T) {
	e2e(t)
	h := startHarbour(t, nodeConfig{tls: true})
	for i, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := h.berths(t, i, c)[1]
			pull := c.fresh(t, h.node)
			pull(t, b.ref, b.image)
			pull(t, b.byDigest(), b.image)
		})
	}
}

// A layer of more than half a gigabyte streams through to containerd, which unpacks it, and to
// a second client from what was kept.
func TestLargeLayer(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 8000, plain: true, layers: 1, layerSize: 512 << 20}.make(t, "1")
	u.push(t, "library/large", img)
	n := startNode(t, nodeConfig{projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})}})
	ref := reference{project: "docker.io", repo: "library/large", tag: "1"}
	freshContainerd(t, n)(t, ref, img)
	u.stop(t)
	if err := n.pull("docker.io/library/large", "1", img); err != nil {
		t.Error(err)
	}
}
