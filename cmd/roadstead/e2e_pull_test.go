package main_test

import (
	"fmt"
	"testing"
	"time"
)

// kinds are the images that registries hold, and what a client has to be able to.
var kinds = []struct {
	name   string
	recipe recipe
}{
	{"oci image", recipe{seed: 100, layers: 3}},
	{"oci index", recipe{seed: 200, platforms: []string{"amd64", "arm64", "arm"}}},
	{"docker schema 2", recipe{seed: 300, docker: true}},
	{"docker list", recipe{seed: 400, docker: true, platforms: []string{"amd64", "arm64"}}},
	{"zstd layers", recipe{seed: 500, zstd: true}},
	{"plain layers", recipe{seed: 600, plain: true, layerSize: 3 << 20}},
}

// A harbour is a node with three upstreams that differ in how they are reached, and the images
// that each client pulls through it.
type harbour struct {
	*node
	open *upstream // through it images are pushed; all upstreams serve its directory
	all  []*upstream
}

// startHarbour starts a node with the projects docker.io (tokens for everybody, names below
// library/), quay.io (tokens for those who have the password) and registry.example (open, over
// TLS).
func startHarbour(t *testing.T, c nodeConfig) *harbour {
	t.Helper()
	open := startUpstream(t, upstreamConfig{})
	hub := startUpstream(t, upstreamConfig{dir: open.dir, tokens: startTokenServer(t, false)})
	private := startUpstream(t, upstreamConfig{dir: open.dir, tokens: startTokenServer(t, true)})
	secure := startUpstream(t, upstreamConfig{dir: open.dir, tls: true})
	c.projects = map[string]any{
		"docker.io":        hub.project(map[string]any{"hub": true}),
		"quay.io":          private.project(map[string]any{"username": tokenUser, "password": tokenSecret, "auth_hosts": []string{"127.0.0.1"}, "insecure": true, "public": true}),
		"registry.example": secure.project(nil),
	}
	return &harbour{node: startNode(t, c), open: open, all: []*upstream{open, hub, private, secure}}
}

// stopUpstreams ends all upstreams: nothing answers on their ports.
func (h *harbour) stopUpstreams() {
	for _, u := range h.all {
		u.stop(h.t)
	}
}

// A berth is one image for one client.
type berth struct {
	kind  string
	ref   reference // by tag
	image *image
}

func (b berth) byDigest() reference {
	return reference{project: b.ref.project, repo: b.ref.repo, digest: b.image.top().digest}
}

// berths makes images of all kinds for the i-th client and pushes them, each to a repository of
// its own, so that every pull of the client is a first one.
func (h *harbour) berths(t *testing.T, i int, c client) []berth {
	t.Helper()
	projects := []string{"docker.io", "quay.io", "registry.example"}
	var all []berth
	for j, kind := range kinds {
		if c.noZstd && kind.recipe.zstd {
			continue
		}
		r := kind.recipe
		r.seed += uint64(i) * 1000
		b := berth{
			kind:  kind.name,
			ref:   reference{project: projects[(i+j)%len(projects)], repo: fmt.Sprintf("team/%s-%d", c.name, j), tag: "1.0"},
			image: r.make(t, "1.0"),
		}
		if b.ref.project == "docker.io" {
			b.ref.repo = fmt.Sprintf("library/%s-%d", c.name, j)
		}
		h.open.push(t, b.ref.repo, b.image)
		all = append(all, b)
	}
	return all
}

// Every client gets every kind of image from every kind of upstream, and again, with a store that
// has nothing, when no upstream answers any more (promise 4).
func TestClientsPullAndPullAgainWithoutUpstream(t *testing.T) {
	e2e(t)
	h := startHarbour(t, nodeConfig{plain: true})
	berths := map[string][]berth{}
	for i, c := range clients {
		berths[c.name] = h.berths(t, i, c)
	}
	each := func(t *testing.T, refOf func(i int, b berth) reference) {
		for _, c := range clients {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				pull := c.fresh(t, h.node)
				for i, b := range berths[c.name] {
					if ref := refOf(i, b); ref != (reference{}) {
						t.Run(b.kind, func(t *testing.T) { pull(t, ref, b.image) })
					}
				}
			})
		}
	}
	// The first thing that is asked for of an image is its tag, or a digest that nobody has
	// resolved a tag to.
	t.Run("cold", func(t *testing.T) {
		each(t, func(i int, b berth) reference {
			if i%2 == 1 {
				return b.byDigest()
			}
			return b.ref
		})
	})
	t.Run("by tag", func(t *testing.T) {
		each(t, func(i int, b berth) (none reference) {
			if i%2 == 0 {
				return none // as before
			}
			return b.ref
		})
	})
	scrub(t, h.dir)
	h.stopUpstreams()
	// By what the client has not asked first for, or both would take a minute more and show the same:
	// that it is here by its tag, the plain client finds out of each below.
	t.Run("upstream gone", func(t *testing.T) {
		each(t, func(i int, b berth) reference {
			if i%2 == 0 {
				return b.byDigest()
			}
			return b.ref
		})
	})
	h.terminate(10 * time.Second)
	h.start()
	t.Run("upstream gone, node restarted", func(t *testing.T) {
		for _, c := range clients {
			if c.partial || t.Failed() {
				continue
			}
			for _, b := range berths[c.name] {
				if err := h.pull(b.ref.project+"/"+b.ref.repo, b.ref.tag, b.image); err != nil {
					t.Errorf("what %s pulled, %s: %v", c.name, b.kind, err)
				}
			}
		}
	})
	scrub(t, h.dir)
}
