package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/registrytest"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

func TestPullsAreCounted(t *testing.T) {
	db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	web, gone := registry.Repo{Project: "production", Name: "web"}, registry.Repo{Project: "production", Name: "gone"}
	err = db.Durable(t.Context(), func(tx *catalog.Tx) error {
		if err := tx.PutProject(catalog.Project{Name: "production"}); err != nil {
			return err
		}
		return tx.AddBlob(web, digest.FromString("a"), 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	var p pulls
	at := time.Now().Truncate(time.Millisecond)
	for range 3 {
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { p.add(given{web, digest.FromString("a")}, catalog.LastPull{At: at}) })
		}
		all.Wait()
		p.add(given{gone, digest.FromString("a")}, catalog.LastPull{At: at})
		if err := p.write(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := db.Repository(t.Context(), web); err != nil || r.Pulls != 30 || !r.PulledAt.Equal(at) {
		t.Errorf("repository = %+v, %v, want 30 pulls, the last at %s", r, err, at)
	}

	for i := range 2 * mostPulled {
		p.add(given{registry.Repo{Project: "p", Name: fmt.Sprint(i)}, digest.FromString("a")}, catalog.LastPull{At: at})
	}
	if repos, last := p.take(); len(repos) != mostPulled || len(last) != mostPulled {
		t.Errorf("%d repositories and %d manifests are remembered, want at most %d", len(repos), len(last), mostPulled)
	}
}

// What the catalog is told of a moment after it was pulled has who that was, and what it is never told
// of is remembered no longer than until the next time.
func TestWhoPulledWaitsForTheCatalog(t *testing.T) {
	db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	busybox := registry.Repo{Project: "docker.io", Name: "library/busybox"}
	image, never := digest.FromString("image"), digest.FromString("never")
	at := time.Now().Truncate(time.Millisecond)
	var p pulls
	for _, d := range []registry.Digest{image, never} {
		p.add(given{busybox, d}, catalog.LastPull{At: at, By: "alice"})
		p.add(given{busybox, d}, catalog.LastPull{At: at.Add(-time.Second), By: "robot$late"})
	}
	write := func() {
		t.Helper()
		if err := p.write(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	write()
	m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: image, Size: 100}}
	err = db.Update(t.Context(), func(tx *catalog.Tx) error { return tx.AddManifest(busybox, m, registry.References{}) })
	if err != nil {
		t.Fatal(err)
	}
	write()
	a, err := db.Artifact(t.Context(), busybox, image.String())
	if err != nil || a.LastPull.By != "alice" || !a.PulledAt.Equal(at) {
		t.Errorf("artifact = %+v, %v, want it pulled by alice at %s", a, err, at)
	}
	_, last := p.take()
	if _, waits := last[given{busybox, never}]; len(last) != 1 || !waits {
		t.Errorf("%v waits, want only what the catalog does not know", last)
	}
	if p.again(last, at.Add(2*pullsEvery)); len(p.last) != 0 {
		t.Errorf("%v still waits", p.last)
	}
}

// A server tells who pulled what: the name that somebody has signed in with, or nobody's.
func TestServeTellsWhoPulled(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("team/app", "v1", []byte("a layer"))
	secret := filepath.Join(t.TempDir(), "admin")
	write(t, secret, apiPassword)
	config := configuration(t, map[string]map[string]any{"one.example": proxied(up)}, map[string]any{"admin_password_file": secret})
	b := &bureau{t: t, process: serve(t, config), client: http.DefaultClient}
	const artifact = "/api/v2.0/projects/one.example/repositories/team%252Fapp/artifacts/v1"
	for _, who := range []string{"", "admin"} {
		b.askAs(who, 200, "GET", "/v2/one.example/team/app/manifests/v1", "")
		b.askAs("", 200, "HEAD", "/v2/one.example/team/app/manifests/v1", "")
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if status, _ := b.get(artifact); status == 200 { // the catalog has it
				break
			}
		}
		b.signal(syscall.SIGTERM) // at the end what was pulled is written down
		b.exit()
		b.process = serve(t, config)
		_, answer := b.ask(200, "GET", artifact, "")
		if !strings.Contains(string(answer), `"pull_username":"`+who+`"`) {
			t.Errorf("pulled by %q it says %s", who, answer)
		}
		if _, answer := b.askAs("", 200, "GET", artifact, ""); strings.Contains(string(answer), "pull_username") {
			t.Errorf("anybody is told who pulled: %s", answer)
		}
	}
}
