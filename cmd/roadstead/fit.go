package main

import (
	"fmt"
	"maps"
	"slices"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/hosted"
	"roadstead/registry/upstream"
	"roadstead/rewrite"
	"roadstead/storage/catalog"
)

// What somebody makes can be served or not only beside all the rest: two projects may mean the same
// registry, or a registry may be changed that five are caches of. So there is one place, fit, that
// says of a whole what in it cannot be served. A change is refused there before it is committed, and
// what is committed nevertheless (by an older version, a command, or beside a configuration that was
// another one then) is left out there, so that the rest is served and can be changed.

// misfits are the projects of a holding that cannot be served, and why. The message of each says what
// to do.
type misfits map[string]*registry.Fault

// names are the projects, in order.
func (m misfits) names() []string { return slices.Sorted(maps.Keys(m)) }

// fit is a holding that knows what in it cannot be served beside a configuration. Who comes first
// stays: what the configuration has, which was tried when it was read, and then the oldest. open
// returns the password of a registry, and try says why a proxy could not be one.
func (h holding) fit(cfg Config, open func(catalog.Registry) (Secret, error), try func(Project) error) holding {
	h.misfits = misfits{}
	served, _ := h.over(cfg, open) // a lost password is no reason not to serve what is public there
	byName := map[string]Project{}
	for _, p := range served.Projects {
		byName[p.Name] = p
	}
	var table []rewrite.Project
	for _, p := range cfg.proxies() {
		if row, there := h.project(p.Name); there && p.Builtin && !row.Configured {
			continue // it makes way
		}
		table = append(table, rewrite.Project{Name: p.Name, Hub: p.Hub, Hosts: p.Names})
	}
	for _, row := range h.byAge() {
		if row.Hosted() {
			if err := hosted.CheckProject(row); err != nil {
				h.misfits.add(row.Name, access.Invalid, "%v: change the project", err)
			} else if !cfg.declaredProxy(row.Name) {
				table = append(table, rewrite.Project{Name: row.Name, Hosted: true})
			}
			continue
		}
		p, ok := byName[row.Name]
		if row.Configured || !ok || cfg.declaredProxy(row.Name) {
			continue
		}
		if err := try(p); err != nil {
			h.misfits.add(row.Name, access.Invalid, "%v: change its registry or the project", err)
		}
		// Its name is its own all the same: what asks for it must not be given what another has.
		table = append(table, rewrite.Project{Name: p.Name, Hub: p.Hub, Hosts: []string{p.Name}})
	}
	for i, err := range rewrite.Misfits(table) {
		if err != nil && h.misfits[table[i].Name] == nil {
			h.misfits.add(table[i].Name, registry.Conflict, "%v: delete either project, or take another name", err)
		}
	}
	return h
}

func (m misfits) add(project string, code registry.Code, format string, args ...any) {
	m[project] = &registry.Fault{Code: code, Message: fmt.Sprintf("project %s cannot be served: %s", project, fmt.Sprintf(format, args...))}
}

// inForce is what is served, for whoever is not Run's goroutine.
type inForce struct {
	cfg     Config
	holding holding
	public  bool // a proxy is for everybody
}

// try says why what a transaction leaves could not be served as a whole, or nil: a project that can
// be now could not be then, or one that is new, or a registry that has changed.
func (h *House) try(tx *catalog.Tx) error {
	var next holding
	var err error
	if next.registries, err = tx.Registries(); err != nil {
		return err
	}
	if next.projects, err = tx.AllProjects(); err != nil {
		return err
	}
	now := h.inForce.Load()
	next = next.fit(now.cfg, h.password, h.upstreams.try)
	for _, name := range next.misfits.names() {
		if now.holding.misfits[name] == nil {
			return next.misfits[name]
		}
	}
	for _, r := range next.registries {
		if before, known := now.holding.registry(r.ID); r.Configured || known && r == before {
			continue
		}
		// No project need be a cache of it yet.
		if err := tryUpstream(madeProxy(catalog.Project{Name: r.Name}, r, "")); err != nil {
			return &registry.Fault{Code: access.Invalid, Message: err.Error()}
		}
	}
	return nil
}

// misfit reports whether a project is one that is not served.
func (h *House) misfit(project string) bool {
	now := h.inForce.Load()
	return now != nil && now.holding.misfits[project] != nil
}

// try says why a proxy could not be one, or nil. It asks nobody. One that is connected already as it
// would be is not tried again: there may be thousands of them.
func (u *upstreams) try(p Project) error {
	u.mu.Lock()
	c, ok := u.current[p.Name]
	u.mu.Unlock()
	if !ok || !c.fits(p) {
		if err := tryUpstream(p); err != nil {
			return err
		}
	}
	return cache.CheckProject(cacheProject(p, new(upstream.Registry))) // which is not asked
}

func tryUpstream(p Project) error {
	u, err := upstream.New(upstreamConfig(p))
	if err != nil {
		return err
	}
	u.Close()
	return nil
}
