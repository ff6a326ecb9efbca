package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Damage to what somebody has pushed takes no tag, rule or layer with it: a push heals it.
func TestScrubForgetsNothingThatWasPushed(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	repo := registry.Repo{Project: "production", Name: "web"}
	m, _ := tr.image(repo.String(), "v1", "layer")
	if out, errs, status := command("adopt", tr.dir); status != 0 {
		t.Fatal(out, errs)
	}
	command("project", "set", "production", "--data", tr.dir, "--immutable", "**:v*")
	path := filepath.Join(tr.dir, layoutFolder, tr.data(m))
	b, _ := os.ReadFile(path)
	b[10] ^= 1
	os.WriteFile(path, b, 0o644)
	out, errs, _ := command("scrub", "--data", tr.dir)
	t.Log(out, errs)
	db := openCatalog(t, tr.dir)
	if tag, err := db.Tag(t.Context(), repo, "v1"); err != nil {
		t.Errorf("the immutable tag is gone: %v %v", tag, err)
	}
	err := db.LooseBlobs(t.Context(), time.Now().Add(48*time.Hour), func(l catalog.Loose) error {
		t.Errorf("goes with the first collection after the grace: %v", l.Digest)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(tr.dir, layoutFolder, "repositories", repo.String(), "_manifests/tags/v1/current/link")); err != nil {
		t.Error(err)
	}
}
