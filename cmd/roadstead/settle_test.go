package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roadstead/registry/estate"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

// settling is a catalog that configurations are written down in.
type settling struct {
	t  *testing.T
	db *catalog.DB
}

func newSettling(t *testing.T) settling {
	t.Helper()
	db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return settling{t, db}
}

// by settles a configuration and returns what is there and what is served then.
func (s settling) by(text string) (holding, Config) {
	s.t.Helper()
	cfg := configOf(s.t, text)
	now, err := settle(s.t.Context(), s.db, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	served, err := now.over(cfg, func(r catalog.Registry) (Secret, error) { return Secret(r.Password), nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return now, served
}

func configOf(t *testing.T, text string) Config {
	t.Helper()
	cfg, faults := parseConfig("roadstead.yaml", []byte(text), environment(nil))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return cfg
}

func (s settling) update(fn func(*catalog.Tx) error) {
	s.t.Helper()
	if err := s.db.Durable(s.t.Context(), fn); err != nil {
		s.t.Fatal(err)
	}
}

func projectOf(c Config, name string) Project {
	for _, p := range c.Projects {
		if p.Name == name {
			return p
		}
	}
	return Project{}
}

// Who may create projects is as the configuration says as long as it says so, and stays then.
func TestSettleCreators(t *testing.T) {
	s := newSettling(t)
	set := func(c estate.Creators) { t.Helper(); s.update(c.Put) }
	wants := func(text string, want estate.Creators) {
		t.Helper()
		now, _ := s.by("builtin_projects: false\n" + text)
		again, _ := s.by("builtin_projects: false\n" + text)
		if now.creators != want || again.generation != now.generation {
			t.Errorf("by %q it is %+v, want %+v, written once", text, now.creators, want)
		}
	}
	wants("", estate.Creators{})
	wants("project_creation: everyone\n", estate.Creators{Anyone: true, Configured: true})
	wants("", estate.Creators{Anyone: true})
	set(estate.Creators{})
	wants("", estate.Creators{})
	set(estate.Creators{Anyone: true})
	wants("", estate.Creators{Anyone: true})
	wants("project_creation: adminonly\n", estate.Creators{Configured: true})

	set(estate.Creators{Anyone: true})
	now, err := readHolding(t.Context(), s.db)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := now.whole(configOf(t, "")); err != nil || all.Creators != "everyone" {
		t.Errorf("exported is %q, %v, want what was set by API", all.Creators, err)
	}
}

// What the configuration declares is in the catalog with a number that stays, and is written anew
// only when it changes.
func TestSettleDeclares(t *testing.T) {
	s := newSettling(t)
	first, _ := s.by("builtin_projects: false\nprojects: { quay.io: { username: me, password: canary }, production: { hosted: true } }\n")
	p, ok := first.project("quay.io")
	r, known := first.registry(p.Registry)
	if !ok || !known || !p.Configured || r.URL != "https://quay.io" || r.Kind != "quay" || r.Username != "me" || r.Password != "" {
		t.Errorf("quay.io = %+v of %+v, want it declared, without its password", p, r)
	}
	again, _ := s.by("builtin_projects: false\nprojects: { quay.io: { username: me, password: canary }, production: { hosted: true } }\n")
	if !again.equal(first) || again.generation != first.generation {
		t.Errorf("the same again = %+v, want nothing written", again)
	}
	other, _ := s.by("builtin_projects: false\nprojects: { quay.io: { public: false, endpoints: [ https://mirror.example ] } }\n")
	if q, _ := other.project("quay.io"); q.ID != p.ID || q.Public {
		t.Errorf("changed = %+v, want the number of %+v", q, p)
	}
	if q, ok := other.project("production"); !ok || q.Configured {
		t.Errorf("a hosted one that the configuration has left out = %+v, want it there and nobody's", q)
	}
	if none, _ := s.by("builtin_projects: false\n"); none.has("quay.io") || len(none.registries) > 0 {
		t.Errorf("a proxy that the configuration has left out is still there: %+v", none)
	}
}

// Robots of a proxy that was out of the configuration for a while are its own when it is back.
func TestSettleKeepsRobots(t *testing.T) {
	s := newSettling(t)
	s.by("builtin_projects: false\nprojects: { quay.io: {} }\n")
	s.update(func(tx *catalog.Tx) error {
		return tx.PutMember(catalog.Member{Project: "quay.io", Name: "somebody", Role: "guest"})
	})
	s.by("builtin_projects: false\n")
	s.by("builtin_projects: false\nprojects: { quay.io: {} }\n")
	if members, err := s.db.Members(t.Context(), "quay.io"); err != nil || len(members) != 1 {
		t.Errorf("members = %+v, %v, want the one of before", members, err)
	}
}

// A built-in project makes way for one that somebody makes, and is back when that is gone.
func TestSettleMakesWay(t *testing.T) {
	s := newSettling(t)
	before, _ := s.by("")
	was, _ := before.project("docker.io")
	var mine int64
	s.update(func(tx *catalog.Tx) (err error) {
		if mine, err = tx.AddRegistry(catalog.Registry{Name: "mine", Kind: "docker-registry", URL: "https://mirror.example"}); err != nil {
			return err
		}
		if err := tx.DropProject("docker.io"); err != nil {
			return err
		}
		if err := tx.DeleteRegistry(was.Registry); err != nil {
			return err
		}
		return tx.PutProject(catalog.Project{Name: "docker.io", Registry: mine, Public: true})
	})
	now, served := s.by("")
	p := projectOf(served, "docker.io")
	if q, _ := now.project("docker.io"); q.Configured || q.Registry != mine || !slices.Equal(p.Remote.Endpoints, []string{"https://mirror.example"}) || p.Hub {
		t.Errorf("docker.io = %+v, served as %+v, want that of mine", q, p)
	}
	if _, err := newTable(served, now.beside(served)); err != nil {
		t.Error(err)
	}
	s.update(func(tx *catalog.Tx) error { return tx.DeleteProject("docker.io") })
	back, served := s.by("")
	if q, _ := back.project("docker.io"); !q.Configured || q.ID == was.ID || !projectOf(served, "docker.io").Hub {
		t.Errorf("docker.io = %+v, want the built-in one with another number", q)
	}

	// One that a file declares makes way for nobody, and takes over.
	s.update(func(tx *catalog.Tx) error {
		return tx.PutProject(catalog.Project{Name: "quay.mine", Registry: mine})
	})
	taken, served := s.by("projects: { quay.mine: { endpoints: [ https://other.example ] } }\n")
	if q, _ := taken.project("quay.mine"); !q.Configured || projectOf(served, "quay.mine").Remote.Endpoints[0] != "https://other.example" {
		t.Errorf("quay.mine = %+v, want it declared", q)
	}
}

func TestSettleRefuses(t *testing.T) {
	s := newSettling(t)
	s.update(func(tx *catalog.Tx) error {
		id, err := tx.AddRegistry(catalog.Registry{Name: "mine", Kind: "docker-registry", URL: "https://mirror.example"})
		if err != nil {
			return err
		}
		if err := tx.PutProject(catalog.Project{Name: "made", Registry: id}); err != nil {
			return err
		}
		return tx.PutProject(catalog.Project{Name: "ours"})
	})
	for text, want := range map[string]string{
		"projects: { made: { hosted: true } }\n":                          "project made is a proxy here",
		"projects: { ours: { endpoints: [ https://mirror.example ] } }\n": "project ours is hosted here",
	} {
		before, err := readHolding(t.Context(), s.db)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := settle(t.Context(), s.db, configOf(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		after, err := readHolding(t.Context(), s.db)
		if err != nil || !after.equal(before) {
			t.Errorf("%s: something was written: %v", text, err)
		}
	}
}

// A project of somebody's on a registry that the configuration has declared asks there as the
// configuration says, and keeps the registry when the declaration goes.
func TestSettleSharesRegistries(t *testing.T) {
	s := newSettling(t)
	now, _ := s.by("builtin_projects: false\nprojects: { quay.io: { username: me, password: secret } }\n")
	p, _ := now.project("quay.io")
	s.update(func(tx *catalog.Tx) error {
		return tx.PutProject(catalog.Project{Name: "team", Registry: p.Registry, Policy: catalog.Policy{Prefix: "team"}})
	})
	_, served := s.by("builtin_projects: false\nprojects: { quay.io: { username: me, password: secret } }\n")
	if r := projectOf(served, "team").Remote; r.Username != "me" || r.Password != "secret" || r.Prefix != "team" {
		t.Errorf("team asks as %+v, want what is declared", r)
	}
	now, served = s.by("builtin_projects: false\n")
	r, ok := now.registry(p.Registry)
	if !ok || r.Configured || projectOf(served, "team").Remote.Endpoints[0] != "https://quay.io" {
		t.Errorf("the registry = %+v, want it left to team", r)
	}
}

// The ?ns= of an upstream means the proxy that is made of it, unless it means another.
func TestMadeProxiesHaveTheirUpstreamsName(t *testing.T) {
	s := newSettling(t)
	s.by("builtin_projects: false\n")
	s.update(func(tx *catalog.Tx) error {
		id, err := tx.AddRegistry(catalog.Registry{Name: "hub", Kind: "docker-hub", URL: "https://hub.docker.com"})
		if err != nil {
			return err
		}
		for _, name := range []string{"hub", "hub2"} {
			if err := tx.PutProject(catalog.Project{Name: name, Registry: id}); err != nil {
				return err
			}
		}
		return nil
	})
	_, served := s.by("builtin_projects: false\n")
	first, second := projectOf(served, "hub"), projectOf(served, "hub2")
	if !first.Hub || !slices.Equal(first.Names, []string{"hub", "docker.io"}) || !slices.Equal(second.Names, []string{"hub2"}) {
		t.Errorf("names %q and %q, want docker.io among the first", first.Names, second.Names)
	}

	// One that is made later takes it from nobody, whatever it is called.
	s.update(func(tx *catalog.Tx) error {
		hub, err := tx.AnyProject("hub")
		if err != nil {
			return err
		}
		return tx.PutProject(catalog.Project{Name: "alpha", Registry: hub.Registry})
	})
	_, served = s.by("builtin_projects: false\n")
	if first, later := projectOf(served, "hub"), projectOf(served, "alpha"); !slices.Equal(first.Names, []string{"hub", "docker.io"}) || !slices.Equal(later.Names, []string{"alpha"}) {
		t.Errorf("names %q and %q, want docker.io where it was", first.Names, later.Names)
	}
}

// A registry that was left to somebody's project is declared again, under its number.
func TestSettleDeclaresAgain(t *testing.T) {
	s := newSettling(t)
	const declared = "builtin_projects: false\nprojects: { quay.io: { username: me, password: secret } }\n"
	now, _ := s.by(declared)
	p, _ := now.project("quay.io")
	s.update(func(tx *catalog.Tx) error {
		return tx.PutProject(catalog.Project{Name: "team", Registry: p.Registry})
	})
	s.by("builtin_projects: false\n")
	now, served := s.by(declared)
	if q, _ := now.project("quay.io"); q.Registry != p.Registry || len(now.registries) != 1 || projectOf(served, "team").Remote.Username != "me" {
		t.Errorf("quay.io = %+v beside %+v, want its registry back", q, now.registries)
	}
	now, _ = s.by("") // it is built in now, and called otherwise
	if q, _ := now.project("quay.io"); !q.Configured || q.Registry != p.Registry {
		t.Errorf("quay.io = %+v, want it built in with its registry", q)
	}
}

// What cannot be served beside the rest is left out, and the rest is served: never what the
// configuration has, and of others the one that came last.
func TestFit(t *testing.T) {
	s := newSettling(t)
	s.by("")
	s.update(func(tx *catalog.Tx) error {
		good, err := tx.AddRegistry(catalog.Registry{Name: "good", Kind: "docker-registry", URL: "https://mirror.example"})
		if err != nil {
			return err
		}
		bad, err := tx.AddRegistry(catalog.Registry{Name: "bad", Kind: "docker-registry", URL: "https://:5000"})
		if err != nil {
			return err
		}
		for _, p := range []catalog.Project{
			{Name: "zeta", Registry: good}, {Name: "alpha", Registry: good}, {Name: "index.docker.io", Registry: good}, {Name: "broken", Registry: bad},
			{Name: "globs", Registry: good, Policy: catalog.Policy{Allow: []string{"["}}}, {Name: "production"}, {Name: "tags", Immutable: []string{"["}},
		} {
			if err := tx.PutProject(p); err != nil {
				return err
			}
		}
		return nil
	})
	noPassword := func(catalog.Registry) (Secret, error) { return "", nil }
	fitted := func(text string) (holding, Config) {
		now, _ := s.by(text)
		cfg := configOf(t, text)
		now = now.fit(cfg, noPassword, new(upstreams).try)
		served, err := now.over(cfg, noPassword)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newTable(served, now.beside(cfg)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		return now, served
	}

	now, served := fitted("hosts: { mirror.example: docker.io }\n")
	if want := []string{"broken", "globs", "index.docker.io", "tags"}; !slices.Equal(now.misfits.names(), want) {
		t.Errorf("left out %q, want %q", now.misfits.names(), want)
	}
	for name, word := range map[string]string{"index.docker.io": `project "docker.io" already: delete either`, "broken": "change its registry"} {
		if fault := now.misfits[name]; fault == nil || !strings.Contains(fault.Message, word) {
			t.Errorf("%s: %v, want %q", name, fault, word)
		}
	}
	for _, name := range []string{"docker.io", "quay.io", "zeta", "alpha"} {
		if projectOf(served, name).Name == "" {
			t.Errorf("%s is not served", name)
		}
	}

	// A name that the file gives to another project is that one's.
	now, _ = fitted("builtin_projects: false\nprojects: { mine: { endpoints: [ https://mine.example ], names: [ alpha ] } }\n")
	if want := []string{"alpha", "broken", "globs", "tags"}; !slices.Equal(now.misfits.names(), want) {
		t.Errorf("beside mine: left out %q, want %q", now.misfits.names(), want)
	}

	// A built-in project does not come back for one that it made way for.
	s.by("")
	s.update(func(tx *catalog.Tx) error {
		was, err := tx.AnyProject("docker.io")
		if err == nil {
			err = tx.DropProject("docker.io")
		}
		if err == nil {
			err = tx.DeleteRegistry(was.Registry)
		}
		bad := was
		if err == nil {
			bad, err = tx.AnyProject("broken")
		}
		if err == nil {
			err = tx.PutProject(catalog.Project{Name: "docker.io", Registry: bad.Registry})
		}
		return err
	})
	now, served = fitted("hosts: { mirror.example: docker.io }\n")
	if now.misfits["docker.io"] == nil || projectOf(served, "docker.io").Name != "" || served.DefaultProject != "" || len(served.Hosts) > 0 {
		t.Errorf("docker.io is served as %+v, want nothing", projectOf(served, "docker.io"))
	}
}
