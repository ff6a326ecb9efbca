package main_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
)

// onPostgreSQL is the "storage" of a node whose catalog is an empty database.
func onPostgreSQL(t testing.TB, server *postgrestest.Server) map[string]any {
	t.Helper()
	name, err := server.Create("")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(postgrestest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]any{"catalog": server.Place(name), "catalog_password_file": file}
}

// A node whose catalog is in PostgreSQL does what others do: people push and pull, what came from
// upstream is there without it and after a restart, and commands run beside it.
func TestServeOnPostgreSQL(t *testing.T) {
	e2e(t)
	server := postgrestest.New(t)
	up := startUpstream(t, upstreamConfig{})
	w := startWharf(t, nodeConfig{plain: true, storage: onPostgreSQL(t, server), projects: map[string]any{"registry.example": up.project(nil)}}, "maintainer")
	crane := pushers[slices.IndexFunc(pushers, func(p pusher) bool { return p.name == "crane" })]
	maintainer := w.as(w.members["maintainer"])
	pusherWorks(t, maintainer, w.as(account{"nobody", "wrong"}), crane, 410_000, "production", "other")

	img := recipe{seed: 410_500, layers: 3}.make(t, "1.0")
	up.push(t, "team/cached", img)
	cached := reference{project: "registry.example", repo: "team/cached", tag: "1.0"}
	pull := clientOf("crane").fresh(t, w.node)
	pull(t, cached, img)
	up.stop(t)
	pull(t, cached, img)

	hosted := recipe{seed: 410_600, layers: 2}.make(t, "1.0")
	ref := reference{project: "production", repo: "team/hosted", tag: "1.0"}
	h := newHand(t, maintainer)
	if err := crane.login(t, h); err != nil {
		t.Fatal(err)
	}
	crane.push(t, h, ref, hosted)
	if out := w.administer("project", "list"); !strings.Contains(out, "production") {
		t.Errorf("project list: %s", out)
	}
	w.terminate(30 * time.Second)
	w.start()
	pull(t, cached, img)
	maintainer = w.as(w.members["maintainer"])
	maintainer.pushed(t, ref, hosted, false)

	// The server restarts under it, and it goes on without being told.
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	// What is cached is served all the same (FAULTS S14); of what was pushed it is not said that it is not there.
	top, layer := string(img.top().digest), img.blobOrder[0]
	for path, want := range map[string]int{
		"/v2/": http.StatusOK,
		manifestPath("registry.example/team/cached", "1.0"):     http.StatusOK,
		manifestPath("registry.example/team/cached", top):       http.StatusOK,
		blobPath("registry.example/team/cached", layer):         http.StatusOK,
		manifestPath("production/team/hosted", "1.0"):           http.StatusServiceUnavailable,
		blobPath("production/team/hosted", hosted.blobOrder[0]): http.StatusServiceUnavailable,
	} {
		start := time.Now()
		if a := maintainer.ask(http.MethodGet, path); a.status != want || time.Since(start) > 10*time.Second {
			t.Errorf("%s without a catalog: %v after %s, want %d", path, a, time.Since(start), want)
		}
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "a node that has its catalog again", func() bool {
		return maintainer.ask(http.MethodGet, manifestPath("production/team/hosted", "1.0")).whole()
	})
	pull(t, cached, img)
	maintainer.pushed(t, ref, hosted, false)

	if entries, err := os.ReadDir(w.dir); err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "catalog.db") }) {
		t.Errorf("the directory has %v, %v, want no catalog in it", entries, err)
	}
	if log, err := os.ReadFile(w.log); err != nil || bytes.Contains(log, []byte("battery")) {
		t.Errorf("the log has the catalog's password in it, or is not there: %v", err)
	}
}

// Content that a database does not know is refused until it is adopted.
func TestAdoptIntoPostgreSQL(t *testing.T) {
	e2e(t)
	server := postgrestest.New(t)
	w := startWharf(t, nodeConfig{plain: true}, "maintainer")
	img := recipe{seed: 411_000, layers: 2}.make(t, "1.0")
	crane := pushers[slices.IndexFunc(pushers, func(p pusher) bool { return p.name == "crane" })]
	h := newHand(t, w.as(w.members["maintainer"]))
	if err := crane.login(t, h); err != nil {
		t.Fatal(err)
	}
	crane.push(t, h, reference{project: "open", repo: "team/app", tag: "1.0"}, img)
	w.terminate(30 * time.Second)

	n := newNode(t, nodeConfig{plain: true, dir: w.dir, storage: onPostgreSQL(t, server), projects: map[string]any{"open": map[string]any{"hosted": true, "public": true}}})
	if out, err := n.command("serve"); err == nil || !strings.Contains(err.Error(), "roadstead adopt") {
		t.Errorf("serve: %v: %s", err, out)
	}
	if out, err := n.command("adopt"); err != nil || !bytes.Contains(out, []byte("adopted 1 repositories with 1 tags")) {
		t.Fatalf("adopt: %v: %s", err, out)
	}
	n.start()
	n.pushed(t, reference{project: "open", repo: "team/app", tag: "1.0"}, img, false)
}
