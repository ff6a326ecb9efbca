package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// holding is the projects and registries as the catalog has them. What is said there counts for
// whatever the configuration does not declare: settle writes down what it does.
type holding struct {
	generation int64             // at least as old as the rest
	projects   []catalog.Project // of either kind
	registries []catalog.Registry
	creators   estate.Creators

	misfits misfits // what fit has found

	recalled bool // it is what the catalog said last, which is away
}

// readHolding asks the catalog.
func readHolding(ctx context.Context, db *catalog.DB) (h holding, err error) {
	// In this order: what changes in between is seen again at the next look.
	if h.generation, err = db.Generation(ctx); err != nil {
		return holding{}, err
	}
	if h.registries, err = db.Registries(ctx); err != nil {
		return holding{}, err
	}
	if h.creators, err = estate.ReadCreators(ctx, db); err != nil {
		return holding{}, err
	}
	h.projects, err = db.AllProjects(ctx)
	return h, err
}

// settle writes the projects of a configuration into the catalog and returns all there are then. A
// hosted one that the configuration no longer has stays, and is the catalog's alone from then on; a
// proxy goes. A name that is hosted here and a proxy there is an error, and nothing is written. A
// built-in proxy makes way for a project of its name that somebody has made.
func settle(ctx context.Context, db *catalog.DB, cfg Config) (holding, error) {
	now, err := readHolding(ctx, db)
	if err != nil {
		return holding{}, err
	}
	var errs []error
	for _, p := range now.hosted() {
		if cfg.declaredProxy(p.Name) {
			errs = append(errs, fmt.Errorf("project %s is hosted here, and a proxy in the configuration: give the proxy another name, or remove the hosted one, when it is empty, with \"roadstead project delete %s\"", p.Name, p.Name))
		}
	}
	for _, p := range cfg.hosted() {
		was, there := now.project(p.Name)
		switch {
		case !there || !was.Hosted() && was.Configured:
			errs = append(errs, checkUnused(ctx, db, p.Name))
		case !was.Hosted():
			errs = append(errs, fmt.Errorf("project %s is a proxy here, and hosted in the configuration: give the hosted one another name, or delete the proxy", p.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return holding{}, err
	}
	s := settlement{now: now, cfg: cfg}
	if s.plan(); len(s.steps) == 0 {
		return now, nil
	}
	err = db.Durable(ctx, func(tx *catalog.Tx) error {
		for _, step := range s.steps {
			if err := step(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return holding{}, fmt.Errorf("write down the projects of the configuration: %w", err)
	}
	return readHolding(ctx, db)
}

// settlement is what makes a catalog say what a configuration declares.
type settlement struct {
	now   holding
	cfg   Config
	steps []func(*catalog.Tx) error
}

func (s *settlement) plan() {
	for _, p := range s.now.projects {
		if p.Configured && !p.Hosted() && !s.cfg.proxy(p.Name) {
			s.record(registry.Delete, p, func(tx *catalog.Tx) error {
				if err := tx.DropProject(p.Name); err != nil {
					return err
				}
				return undeclare(tx, p.Registry)
			})
		}
	}
	for _, p := range s.now.changes(s.cfg) {
		action := registry.Update
		if !s.now.has(p.Name) {
			action = registry.Create
		}
		s.record(action, p, func(tx *catalog.Tx) error { return tx.PutProject(p) })
	}
	for _, p := range s.cfg.proxies() {
		s.proxy(p)
	}
	s.creators()
}

// creators has written down who may create projects. A configuration that says it no longer leaves it
// as it was, to whoever administers.
func (s *settlement) creators() {
	next := estate.Creators{Anyone: s.now.creators.Anyone}
	if s.cfg.Creators != "" {
		next, _ = estate.ParseCreators(s.cfg.Creators)
		next.Configured = true
	}
	if next == s.now.creators {
		return
	}
	s.steps = append(s.steps, func(tx *catalog.Tx) error {
		if err := next.Put(tx); err != nil {
			return err
		}
		return tx.AddAudit(catalog.Entry{
			At: time.Now(), Actor: "(configuration)", Action: registry.Update, Kind: access.Configuration, Resource: "project_creation",
			Outcome: registry.Done, Detail: next.String(),
		})
	})
}

// proxy has a proxy of the configuration written down, with a registry of its own.
func (s *settlement) proxy(p Project) {
	was, there := s.now.project(p.Name)
	if there && (was.Hosted() || p.Builtin && !was.Configured) {
		return // a built-in one, which makes way
	}
	r := declaredRegistry(p)
	// One of that name was left to somebody's project when it was declared the last time.
	before, known := s.now.registryCalled(r.Name)
	if !known {
		before, known = s.now.registry(was.Registry)
		known = known && before.Configured
	}
	if known {
		r.ID, r.CreatedAt, r.UpdatedAt = before.ID, before.CreatedAt, before.UpdatedAt
	}
	next := was
	next.Name, next.Configured, next.Public, next.Registry = p.Name, true, p.Public, r.ID
	if there && r == before && reflect.DeepEqual(next, was) {
		return
	}
	action := registry.Update
	if !there {
		action = registry.Create
	}
	s.record(action, next, func(tx *catalog.Tx) error {
		id, err := r.ID, error(nil)
		if id == 0 {
			id, err = tx.AddRegistry(r)
		} else if r != before {
			err = tx.SetRegistry(r)
		}
		if err != nil {
			return err
		}
		next := next
		next.Registry = id
		if err := tx.PutProject(next); err != nil {
			return err
		}
		if old, ok := s.now.registry(was.Registry); ok && old.Configured && old.ID != id {
			return undeclare(tx, old.ID)
		}
		return nil
	})
}

// undeclare removes a registry that the configuration has declared, or leaves it to whoever has made
// a project that is a cache of it.
func undeclare(tx *catalog.Tx, id int64) error {
	err := tx.DeleteRegistry(id)
	if !errors.Is(err, catalog.ErrNotEmpty) {
		return err
	}
	r, err := tx.Registry(id)
	if err != nil {
		return err
	}
	r.Configured = false
	return tx.SetRegistry(r)
}

// record adds a step and its record in the audit log.
func (s *settlement) record(action registry.Action, p catalog.Project, step func(*catalog.Tx) error) {
	s.steps = append(s.steps, func(tx *catalog.Tx) error {
		if err := step(tx); err != nil {
			return err
		}
		return tx.AddAudit(catalog.Entry{
			At: time.Now(), Actor: "(configuration)", Action: action, Kind: "project", Resource: p.Name,
			Outcome: registry.Done, Detail: either(p.Public, "public", "private"),
		})
	})
}

// declaredRegistry is what the catalog says of the upstream of a proxy that the configuration
// declares. It is there to be looked at: what is asked is what the configuration says.
func declaredRegistry(p Project) catalog.Registry {
	r := catalog.Registry{
		Name: p.Name + " (configured)", Kind: kindOf(p), Username: p.Remote.Username,
		Insecure: p.Remote.Insecure, AllowPrivate: p.Remote.AllowPrivate, Configured: true,
	}
	if len(p.Remote.Endpoints) > 0 {
		r.URL = p.Remote.Endpoints[0]
	}
	if p.Builtin {
		r.Name = p.Name + " (built-in)"
	}
	return r
}

// changes are the hosted projects of the catalog that a configuration makes others.
func (h holding) changes(cfg Config) []catalog.Project {
	var all []catalog.Project
	wanted := cfg.hosted()
	for _, p := range h.hosted() {
		i := slices.IndexFunc(wanted, func(w catalog.Project) bool { return w.Name == p.Name })
		switch {
		case i >= 0 && !same(p, wanted[i]):
			wanted[i].Metadata = p.Metadata
			all = append(all, wanted[i])
		case i < 0 && p.Configured:
			p.Configured = false
			all = append(all, p)
		}
	}
	for _, w := range wanted {
		if !h.has(w.Name) {
			all = append(all, w)
		}
	}
	return all
}

func (h holding) project(name string) (catalog.Project, bool) {
	i := slices.IndexFunc(h.projects, func(p catalog.Project) bool { return p.Name == name })
	if i < 0 {
		return catalog.Project{}, false
	}
	return h.projects[i], true
}

func (h holding) registry(id int64) (catalog.Registry, bool) {
	i := slices.IndexFunc(h.registries, func(r catalog.Registry) bool { return r.ID == id })
	if i < 0 {
		return catalog.Registry{}, false
	}
	return h.registries[i], true
}

func (h holding) registryCalled(name string) (catalog.Registry, bool) {
	i := slices.IndexFunc(h.registries, func(r catalog.Registry) bool { return r.Name == name })
	if i < 0 {
		return catalog.Registry{}, false
	}
	return h.registries[i], true
}

func (h holding) has(name string) bool {
	_, ok := h.project(name)
	return ok
}

// byAge are all projects, the oldest first: numbers are given in order and never again.
func (h holding) byAge() []catalog.Project {
	return slices.SortedFunc(slices.Values(h.projects), func(a, b catalog.Project) int { return cmp.Compare(a.ID, b.ID) })
}

func (h holding) hosted() []catalog.Project {
	return slices.DeleteFunc(slices.Clone(h.projects), func(p catalog.Project) bool { return !p.Hosted() })
}

// equal reports whether the projects and registries are the same, whatever else has changed.
func (h holding) equal(other holding) bool {
	return reflect.DeepEqual(h.projects, other.projects) && reflect.DeepEqual(h.registries, other.registries)
}

// beside are the hosted projects without those whose names a configuration has for proxies, and
// without misfits.
func (h holding) beside(cfg Config) []catalog.Project {
	return slices.DeleteFunc(h.hosted(), func(p catalog.Project) bool { return cfg.declaredProxy(p.Name) || h.misfits[p.Name] != nil })
}

// over is a configuration with the proxies that somebody has made here among its projects, without
// misfits. open returns the password of a registry.
//
// A built-in project does not come back for a misfit that it made way for: that one may be private,
// and its upstream another.
func (h holding) over(cfg Config, open func(catalog.Registry) (Secret, error)) (Config, error) {
	byName := map[string]Project{}
	for _, p := range cfg.Projects {
		byName[p.Name] = p
	}
	registries := map[int64]catalog.Registry{}
	for _, r := range h.registries {
		registries[r.ID] = r
	}
	var errs []error
	for _, row := range h.projects {
		p, declared := byName[row.Name]
		if row.Configured || declared && !p.Builtin {
			continue
		}
		delete(byName, row.Name)
		if row.Hosted() || h.misfits[row.Name] != nil {
			continue
		}
		r, ok := registries[row.Registry]
		if !ok {
			continue // it was deleted between two questions, and so is the project
		}
		password, err := open(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("registry %s: %w", r.Name, err))
		}
		p = madeProxy(row, r, password)
		if declared, ok := h.declares(cfg, r); ok {
			prefix := p.Remote.Prefix
			p.Remote, p.Hub = declared.Remote, declared.Hub
			p.Remote.Prefix = prefix
		}
		byName[row.Name] = p
	}
	cfg.Projects = nil
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		p := byName[name]
		if !p.Hosted {
			p.Remote.Networks, p.Remote.Offline = cfg.PrivateNetworks, cfg.Offline
		}
		cfg.Projects = append(cfg.Projects, p)
	}
	h.meanUpstream(cfg.Projects)
	if len(h.misfits) > 0 {
		cfg.Hosts = maps.Clone(cfg.Hosts)
		maps.DeleteFunc(cfg.Hosts, func(_, project string) bool { return h.misfits[project] != nil })
		if h.misfits[cfg.DefaultProject] != nil {
			cfg.DefaultProject = ""
		}
	}
	return cfg, errors.Join(errs...)
}

// meanUpstream has the ?ns= of an upstream mean the proxy that somebody has made of it, whatever that
// is called, as long as it means no other one. Of two that are made of it, it is the older one: a new
// project, which may be anybody's and private, takes it from nobody.
func (h holding) meanUpstream(all []Project) {
	taken := map[string]bool{}
	for name := range h.misfits {
		taken[sameName(name)] = true
	}
	for _, p := range all {
		for _, name := range p.Names {
			taken[sameName(name)] = true
		}
	}
	byName := map[string]*Project{}
	for i := range all {
		byName[all[i].Name] = &all[i]
	}
	for _, row := range h.byAge() {
		p := byName[row.Name]
		if p == nil || row.Configured || p.Hosted || len(p.Remote.Endpoints) == 0 {
			continue
		}
		u, err := url.Parse(p.Remote.Endpoints[0])
		if err != nil || p.Remote.Prefix != "" {
			continue // it stands for a part of its upstream only
		}
		if name := sameName(u.Host); !taken[name] {
			p.Names = append(p.Names, name)
			taken[name] = true
		}
	}
}

// declares returns the project of a configuration that a registry was written down for: what to ask
// there says more than the row.
func (h holding) declares(cfg Config, r catalog.Registry) (Project, bool) {
	if !r.Configured {
		return Project{}, false
	}
	for _, row := range h.projects {
		if row.Registry != r.ID || !row.Configured {
			continue
		}
		i := slices.IndexFunc(cfg.Projects, func(p Project) bool { return p.Name == row.Name })
		if i >= 0 {
			return cfg.Projects[i], true
		}
	}
	return Project{}, false
}

// same compares all that a configuration says of a hosted project.
func same(a, b catalog.Project) bool {
	return a.Configured == b.Configured && a.Public == b.Public && a.Quota == b.Quota &&
		slices.Equal(a.Immutable, b.Immutable) && a.Retention.Equal(b.Retention) && a.Schedule == b.Schedule
}

// checkUnused wants nothing to be here of a project that is about to be hosted: what was cached
// under its name is not what somebody has pushed, and would stay for ever.
func checkUnused(ctx context.Context, db *catalog.DB, name string) error {
	repos, err := db.Repositories(ctx, name+"/", 1)
	if err != nil {
		return fmt.Errorf("look for content of project %s: %w", name, err)
	}
	if len(repos) > 0 && strings.HasPrefix(repos[0], name+"/") {
		return fmt.Errorf("there is content of a project %s here that nobody has pushed, such as %s: choose another name, or stop the server and run \"roadstead adopt\" to keep all of it as if it had been pushed", name, repos[0])
	}
	return nil
}

// checkProjectName wants a name that a hosted project can have.
func checkProjectName(name string) error {
	if registry.CheckProject(name) != nil {
		return fmt.Errorf("%q is not the name of a project: write lower-case letters and digits joined by single '.', '_' or '-', such as production", registry.Clip(name))
	}
	if why, reserved := reservedNames[name]; reserved {
		return fmt.Errorf("%q cannot be the name of a project, %s: choose another name", name, why)
	}
	return nil
}
