package main

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/registrytest"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

func TestPruneKeepsWhatIsYoung(t *testing.T) {
	db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Date(2026, 5, 10, 15, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	logged(t, db, "old", now.Add(-400*day))
	logged(t, db, "that day", now.Add(-30*day-14*time.Hour))
	logged(t, db, "young", now.Add(-time.Hour))
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	for _, step := range []struct {
		keep time.Duration
		want string
		line string
	}{
		{0, "old, that day, young", ""},
		{500 * day, "old, that day, young", ""},
		{30 * day, "that day, young, (configuration)", `msg="audit log pruned" records=1 before=2026-04-10`},
		{30 * day, "that day, young, (configuration)", ""}, // and no record of nothing
		{29 * day, "young, (configuration), (configuration)", `msg="audit log pruned" records=1 before=2026-04-11`},
		{time.Minute, "young, (configuration), (configuration)", ""}, // the day is not over
	} {
		out.Reset()
		if err := prune(t.Context(), db, step.keep, now, log); err != nil {
			t.Fatal(err)
		}
		entries, err := db.Audit(t.Context(), time.Time{}, -1)
		var actors []string
		for _, e := range entries {
			actors = append(actors, e.Actor)
		}
		if got := strings.Join(actors, ", "); err != nil || got != step.want {
			t.Errorf("keeping %s leaves %s, %v, want %s", step.keep, got, err, step.want)
		}
		if !strings.Contains(out.String(), step.line) || step.line == "" && out.Len() > 0 {
			t.Errorf("keeping %s writes %q, want %q", step.keep, out.String(), step.line)
		}
	}
}

// A server prunes by itself, without being told more than for how long.
func TestServePrunesTheAuditLog(t *testing.T) {
	up := registrytest.New(t)
	config := configuration(t, map[string]map[string]any{"one.example": proxied(up)}, map[string]any{"audit": map[string]any{"keep": "90d"}})
	cfg, faults, err := loadConfig(config)
	if err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	data, err := openData(t.Context(), cfg.Storage)
	if err != nil {
		t.Fatal(err)
	}
	logged(t, data.Catalog, "old", time.Now().Add(-100*24*time.Hour))
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}
	p := serve(t, config)
	if line := p.wait("audit log pruned"); line["records"] != 1.0 {
		t.Errorf("it says %v", line)
	}
}

func logged(t *testing.T, db *catalog.DB, actor string, at time.Time) {
	t.Helper()
	err := db.Durable(t.Context(), func(tx *catalog.Tx) error {
		return tx.AddAudit(catalog.Entry{At: at, Actor: actor, Action: registry.Push, Kind: registry.Artifact, Outcome: registry.Done})
	})
	if err != nil {
		t.Fatal(err)
	}
}
