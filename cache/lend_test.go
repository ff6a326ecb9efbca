package cache

import (
	"bytes"
	"errors"
	"testing"

	"roadstead/registry"
)

// A manifest that names content proves nothing of its upstream's having it: what a private project
// has is lent within that project only (FAULTS B8).
func TestB8_PrivateContentIsLentToNobodyElse(t *testing.T) {
	open, private := newOrigin(), newOrigin()
	h := newHouse(t, t.TempDir(), Config{Projects: []Project{
		{Name: "docker.io", Upstream: open}, {Name: "vault.io", Upstream: private, Private: true},
	}})
	vault := func(name string) registry.Repo { return registry.Repo{Project: "vault.io", Name: name} }
	secret, common := noise(100<<10, 41), noise(100<<10, 42)
	img := private.putImage(t, "team/secret", "1", secret)
	if err := h.pull(t, vault("team/secret"), "1"); err != nil {
		t.Fatal(err)
	}
	shared := open.putImage(t, "team/common", "1", common)
	if err := h.pull(t, hub("team/common"), "1"); err != nil {
		t.Fatal(err)
	}
	h.settle(t)

	// named pushes only the manifest of an image with a layer.
	named := func(o *origin, repo registry.Repo, layer []byte) image {
		t.Helper()
		i := o.putImage(t, repo.Name, "1", layer)
		o.set(func() { delete(o.blobs, repo.Name+"@"+string(i.layer)) })
		if _, err := h.Manifest(t.Context(), repo, i.manifest.Digest); err != nil {
			t.Fatal(err)
		}
		o.asked()
		return i
	}
	for range 2 {
		named(open, hub("team/stolen"), secret)
		if _, err := h.read(t, hub("team/stolen"), img.layer); !errors.Is(err, registry.BlobUnknown) {
			t.Errorf("the layer of a private project through a public one: %v", err)
		}
		if _, err := h.StatBlob(t.Context(), hub("team/stolen"), img.layer); !errors.Is(err, registry.BlobUnknown) {
			t.Errorf("its size: %v", err)
		}
	}

	named(private, vault("team/sibling"), secret)
	if got, err := h.read(t, vault("team/sibling"), img.layer); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("within the project: %d bytes, %v", len(got), err)
	}
	named(private, vault("team/on-common"), common)
	if got, err := h.read(t, vault("team/on-common"), shared.layer); err != nil || !bytes.Equal(got, common) {
		t.Errorf("of a public project: %d bytes, %v", len(got), err)
	}
	wantAsked(t, private) // what is lent costs nothing
}

// Nor is it while it is on its way.
func TestB8_PrivateContentOnItsWay(t *testing.T) {
	open, private := newOrigin(), newOrigin()
	h := newHouse(t, t.TempDir(), Config{Projects: []Project{
		{Name: "docker.io", Upstream: open}, {Name: "vault.io", Upstream: private, Private: true},
	}})
	vault := registry.Repo{Project: "vault.io", Name: "team/secret"}
	img := private.putImage(t, vault.Name, "1", noise(1<<20, 43))
	g := gated(private, img.content, 100<<10)
	defer g.open(1<<20, nil)
	p, err := h.project(vault)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := h.flight(p, contentKey{vault, img.layer}, nil)
	defer f.leave()

	stolen := open.putImage(t, "team/stolen", "1", img.content)
	open.set(func() { delete(open.blobs, "team/stolen@"+string(stolen.layer)) })
	if _, err := h.Manifest(t.Context(), hub("team/stolen"), stolen.manifest.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Blob(t.Context(), hub("team/stolen"), img.layer); !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("got %v", err)
	}
}
