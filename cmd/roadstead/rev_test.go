package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func TestRevAdoptThenRetain(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	repo := registry.Repo{Project: "production", Name: "web"}
	for i, tag := range []string{"z-newest", "m-middle", "a-oldest"} {
		tr.image(repo.String(), tag, "layer "+tag)
		at := time.Now().Add(-time.Duration(i) * time.Hour) // all pushed within the last hours
		os.Chtimes(filepath.Join(tr.dir, layoutFolder, "repositories", repo.String(), "_manifests/tags", tag, "current/link"), at, at)
	}
	if out, errs, status := command("adopt", tr.dir); status != 0 {
		t.Fatal(out, errs)
	}
	for _, rule := range []string{"--keep-pulled=30d", "--keep-newest=1"} {
		if out, errs, status := command("project", "set", "production", "--data", tr.dir, "--keep-newest=0", "--keep-pulled=0s"); status != 0 {
			t.Log(rule, out, errs)
		}
		command("project", "set", "production", "--data", tr.dir, rule)
		out, errs, _ := command("project", "retain", "production", "--dry-run", "--data", tr.dir)
		if strings.Contains(out, "z-newest") || rule == "--keep-pulled=30d" && !strings.Contains(out, "would retire 0") {
			t.Errorf("%s: %s%s", rule, out, errs)
		}
	}
}

func TestRevScrubHosted(t *testing.T) {
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
