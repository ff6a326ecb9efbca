package main_test

import "testing"

// wharfie pings the path of its endpoint: a 404 there ends RKE2's bootstrap (RKE2.md §1).
func TestWharfieByEndpointWithPath(t *testing.T) {
	e2e(t)
	m := startMirror(t, nodeConfig{}, "wharfie")
	n, img := m.node, m.images["wharfie"]
	for _, ref := range []reference{m.ref("docker.io", "wharfie"), m.ref("quay.io", "wharfie")} {
		wharfiePull(t, n, ref, img, map[string]any{"endpoint": []string{n.url + "/v2/" + ref.project}})
	}
}

// Every client again, where the node speaks TLS; the Go clients among them then speak HTTP/2.
func TestClientsPullOverTLS(t *testing.T) {
	e2e(t)
	h := startHarbour(t, nodeConfig{plain: true, tls: true})
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
	n := startNode(t, nodeConfig{plain: true, projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})}})
	ref := reference{project: "docker.io", repo: "library/large", tag: "1"}
	freshContainerd(t, n)(t, ref, img)
	u.stop(t)
	if err := n.pull("docker.io/library/large", "1", img); err != nil {
		t.Error(err)
	}
}
