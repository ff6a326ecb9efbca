package cache

import (
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Two processes with one catalog decide the same: what one has verified the other serves at once, and a
// tag that one holds is not followed by the other.
func TestPoliciesAreDecidedOnceForAllNodes(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	first := o.putImage(t, repo, "latest", []byte("first"))
	s.tagSignature(t, o, repo, first.manifest.Digest)
	p := Project{Name: "docker.io", Upstream: o, TTL: -1, Cooldown: 72 * time.Hour, Verify: Verify{Mode: Enforce, Keys: s.keys}}
	h := newHouse(t, t.TempDir(), Config{Projects: []Project{p}})
	other, err := New(Config{Store: h.store, Catalog: h.catalog, Projects: []Project{p}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the catalog is closed
		other.end()
		other.work.wait()
	})
	if _, err := h.Manifest(t.Context(), hub(repo), first.manifest.Digest); err != nil {
		t.Fatal(err)
	}
	o.asked()
	// The manifest is on its way into the catalog still; what it names may be asked for already.
	b, err := other.Blob(t.Context(), hub(repo), first.layer)
	if err != nil {
		t.Fatalf("a layer at the other node: %v", err)
	}
	b.Close()
	if _, err := other.Manifest(t.Context(), hub(repo), first.manifest.Digest); err != nil {
		t.Errorf("the image at the other node: %v", err)
	}
	if asked := o.asked(); slices.ContainsFunc(asked, func(q string) bool { return strings.Contains(q, ".sig") || strings.HasPrefix(q, "referrers") }) {
		t.Errorf("the other node asked upstream for signatures again: %q", asked)
	}

	h.fetch(t, repo, "latest")
	next := o.putImage(t, repo, "latest", []byte("next"))
	s.tagSignature(t, o, repo, next.manifest.Digest)
	var held [2]string
	for i, node := range []*Cache{h.Cache, other} {
		var trace registry.Trace
		d, err := node.Resolve(registry.WithTrace(t.Context(), &trace), hub(repo), "latest")
		if err != nil || d.Digest != first.manifest.Digest {
			t.Errorf("at node %d the tag points to %s, %v, want where it was", i, d.Digest, err)
		}
		held[i] = trace.Held
	}
	if held[0] != held[1] || held[0] == "" {
		t.Errorf("one node holds it because %q, the other because %q", held[0], held[1])
	}
}

// What somebody overrules at one node is known to the others as soon as they are told.
func TestPoliciesAreOverruledForAllNodes(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	first := o.putImage(t, repo, "latest", []byte("first"))
	s.tagSignature(t, o, repo, first.manifest.Digest)
	bare := o.putImage(t, repo, "bare", []byte("not signed"))
	h := newHouse(t, t.TempDir(), Config{Projects: []Project{{
		Name: "docker.io", Upstream: o, TTL: time.Hour, Negative: time.Hour, Cooldown: 72 * time.Hour, Verify: Verify{Mode: Enforce, Keys: s.keys},
	}}})
	h.fetch(t, repo, "latest")
	next := o.putImage(t, repo, "latest", []byte("next"))
	s.tagSignature(t, o, repo, next.manifest.Digest)
	if _, d, err := h.Refresh(t.Context(), hub(repo), "latest"); err != nil || d.Digest != first.manifest.Digest {
		t.Errorf("held, it points to %s, %v", d.Digest, err)
	}
	wantDenied(t, "before", h.pull(t, hub(repo), "bare"), "no signature was found")
	elsewhere := func(fn func(tx *catalog.Tx) error, told ...catalog.Change) {
		t.Helper()
		if err := h.catalog.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
		h.Gone(told)
		h.settle(t)
	}
	elsewhere(func(tx *catalog.Tx) error {
		_, err := tx.Release(hub(repo), "latest")
		return err
	}, catalog.Change{Topic: catalog.Overruled, Repo: hub(repo), Tag: "latest"})
	if d, err := h.Resolve(t.Context(), hub(repo), "latest"); err != nil || d.Digest != next.manifest.Digest {
		t.Errorf("released, it points to %s, %v, want the next one", d.Digest, err)
	}
	told := catalog.Change{Topic: catalog.Overruled, Repo: hub(repo)}
	elsewhere(func(tx *catalog.Tx) error {
		return Override(tx, hub(repo), bare.manifest.Digest, "ada", "a reason")
	}, told)
	if err := h.pull(t, hub(repo), "bare"); err != nil {
		t.Errorf("let through: %v", err)
	}
	elsewhere(func(tx *catalog.Tx) error { return Withdraw(tx, hub(repo), bare.manifest.Digest) }, told)
	wantDenied(t, "taken back", h.pull(t, hub(repo), "bare"), "no signature was found")
}
