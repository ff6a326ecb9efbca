package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"roadstead/storage/catalog"
)

// What is kept for a start without the catalog is what that says now, or nothing: not what it said
// before a project became private.
func TestWhatIsKeptInMind(t *testing.T) {
	s := Storage{Directory: t.TempDir(), Catalog: "postgres://db.example/roadstead"}
	file := filepath.Join(s.Directory, mindFile)
	h := &House{log: slog.New(slog.DiscardHandler)}
	says := func(public bool) holding {
		return holding{projects: []catalog.Project{{Name: "team", Public: public}}}
	}
	check := func(when string, known, public bool) {
		t.Helper()
		kept, ok := s.inMind(time.Now())
		if ok != known || ok && (len(kept.projects) != 1 || kept.projects[0].Public != public) {
			t.Errorf("%s: %v, %+v", when, ok, kept.projects)
		}
	}
	h.remember(s, says(true))
	check("after the start", true, true)
	h.remind(s, says(false))
	check("a moment later", true, true) // it is written once in a while

	long := time.Now().Add(-mindFor - time.Minute)
	if err := os.Chtimes(file, long, long); err != nil {
		t.Fatal(err)
	}
	check("a day later", false, false)
	h.remembered = long
	h.remind(s, says(false))
	check("written again", true, false)

	// What cannot be replaced is removed. A full disk is as good a reason as this one.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	h.remember(s, says(false))
	if left, err := os.ReadDir(s.Directory); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
