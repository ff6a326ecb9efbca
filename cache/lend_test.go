package cache

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"

	"roadstead/registry"
	"roadstead/storage"
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

// signing is a bucket in a directory whose content has URLs.
type signing struct{ storagedriver.StorageDriver }

func (signing) Presign(_ context.Context, _, path string, _ time.Duration) (string, error) {
	return "https://bucket.example" + path, nil
}

// Nor does what a bucket did not have a moment ago open what it has now.
func TestB8_PrivateContentThatHasJustCome(t *testing.T) {
	open, private := newOrigin(), newOrigin()
	dir := t.TempDir()
	store, err := storage.New(storage.Config{
		Driver: signing{filesystem.New(filesystem.DriverParameters{RootDirectory: dir, MaxThreads: 100})},
		Drafts: t.TempDir(), Floor: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, dir, Config{Store: store, Projects: []Project{
		{Name: "docker.io", Upstream: open}, {Name: "vault.io", Upstream: private, Private: true},
	}})
	vault := registry.Repo{Project: "vault.io", Name: "team/secret"}
	secret := noise(100<<10, 44)
	img := private.putImage(t, vault.Name, "1", secret)
	if err := h.pull(t, vault, "1"); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	if url := h.Locate(t.Context(), vault, img.layer, 0, time.Minute); url == "" {
		t.Error("its own project is given no URL")
	}
	stolen := open.putImage(t, "team/stolen", "1", secret)
	open.set(func() { delete(open.blobs, "team/stolen@"+string(stolen.layer)) })
	if _, err := h.Manifest(t.Context(), hub("team/stolen"), stolen.manifest.Digest); err != nil {
		t.Fatal(err)
	}
	h.absent.note(img.layer) // as of before the pull, on a node that had looked for it then
	if url := h.Locate(t.Context(), hub("team/stolen"), img.layer, 0, time.Minute); url != "" {
		t.Errorf("a public project is given %s", url)
	}
	h.absent.note(img.layer)
	if desc, err := h.StatBlob(t.Context(), hub("team/stolen"), img.layer); !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("its size: %d, %v", desc.Size, err)
	}
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
	f, _ := h.flight(t.Context(), p, contentKey{vault, img.layer}, nil)
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

// The same for a manifest that is in memory, because somebody has just pulled it from the private project.
func TestB8_ManifestOfPrivateProject(t *testing.T) {
	secret, open := newOrigin(), newOrigin()
	img := secret.putImage(t, "team/web", "1", noise(200<<10, 1))
	h := newHouse(t, t.TempDir(), Config{Memory: 64 << 20, Projects: []Project{
		{Name: "private", Upstream: secret, Private: true}, {Name: "docker.io", Upstream: open}}})
	if err := h.pull(t, registry.Repo{Project: "private", Name: "team/web"}, "1"); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	index := open.putManifest(t, "evil/x", "1", map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex,
		"manifests": []any{map[string]any{"mediaType": registry.MediaTypeOCIManifest, "digest": img.manifest.Digest, "size": len(img.manifest.Bytes)}},
	})
	if _, err := h.Manifest(t.Context(), hub("evil/x"), index.Digest); err != nil {
		t.Fatal(err)
	}
	m, err := h.Manifest(t.Context(), hub("evil/x"), img.manifest.Digest)
	if err == nil {
		t.Errorf("%d bytes of a private manifest through a public proxy, after asking upstream %v", len(m.Bytes), open.asked())
	}
	if b, err := h.read(t, hub("evil/x"), img.config); err == nil {
		t.Errorf("and its config: %d", len(b))
	}
	if b, err := h.read(t, hub("evil/x"), img.layer); err == nil {
		t.Errorf("and its layer: %d", len(b))
	}
}
