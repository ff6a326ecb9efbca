package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func TestPolicyCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "roadstead.yaml", "storage: { directory: data }\nprojects: { quay.io: { cooldown: 72h } }\n")
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := catalog.Open(t.Context(), "sqlite:"+filepath.Join("data", "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	repo := registry.Repo{Project: "quay.io", Name: "team/app"}
	of := func(text string) registry.Descriptor {
		return registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.FromString(text), Size: 1}
	}
	seen := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	err = db.Durable(t.Context(), func(tx *catalog.Tx) error {
		if err := tx.PutTag(repo, "v1", catalog.Tag{Descriptor: of("old"), CheckedAt: seen, ChangedAt: seen}); err != nil {
			return err
		}
		_, err := tx.Hold(repo, "v1", of("new"), time.Now())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	at := "quay.io/team/app@" + of("bare").Digest.String()
	for _, row := range []struct {
		args   string
		status int
		text   string
	}{
		{"policy held", 0, "quay.io/team/app:v1  " + of("new").Digest.String()},
		{"policy release quay.io/team/app", 1, "has no tag"},
		{"policy release quay.io/team/app:v2", 1, "does not wait for anything"},
		{"policy release production/app:v1", 1, "there is no proxy production"},
		{"policy release quay.io/team/app:v1", 0, "follows to " + of("new").Digest.String()},
		{"policy held", 0, "when it is next asked for"},
		{"policy override quay.io/team/app:v1 --reason needed", 1, "has no digest"},
		{"policy override " + at + " --reason needed", 0, "is served without a signature"},
		{"policy withdraw " + at, 0, "is not let through any more"},
	} {
		out, errs, status := command(strings.Fields(row.args)...)
		if status != row.status || !strings.Contains(out+errs, row.text) {
			t.Errorf("%s: %d %s%s, want %d and %q", row.args, status, out, errs, row.status, row.text)
		}
	}
	log, _, status := command("audit", "list")
	if status != 0 {
		log, _, _ = command("audit")
	}
	for _, want := range []string{"the tag follows upstream now", "served without a signature: needed", "not served without a signature any more"} {
		if !strings.Contains(log, want) {
			t.Errorf("the audit log does not say %q:\n%s", want, log)
		}
	}
}
