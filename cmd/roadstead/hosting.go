package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// hosting is the hosted projects as the catalog has them. What is said of them there counts: by
// commands, and by the configuration, whose projects settle writes down.
type hosting struct {
	generation int64 // at least as old as the rest
	projects   []catalog.Project
}

// readHosting asks the catalog.
func readHosting(ctx context.Context, db *catalog.DB) (hosting, error) {
	// In this order: what changes in between is seen again at the next look.
	generation, err := db.Generation(ctx)
	if err != nil {
		return hosting{}, err
	}
	projects, err := db.Projects(ctx)
	return hosting{generation, projects}, err
}

// settle writes the hosted projects of a configuration into the catalog and returns all there are
// then. One that the configuration no longer has stays, and is the catalog's alone from then on.
// A name that is hosted here and a proxy there is an error, and nothing is written.
func settle(ctx context.Context, db *catalog.DB, cfg Config) (hosting, error) {
	now, err := readHosting(ctx, db)
	if err != nil {
		return hosting{}, err
	}
	var errs []error
	for _, p := range now.projects {
		if cfg.proxy(p.Name) {
			errs = append(errs, fmt.Errorf("project %s is hosted here, and a proxy in the configuration: give the proxy another name, or remove the hosted one, when it is empty, with \"roadstead project delete %s\"", p.Name, p.Name))
		}
	}
	for _, p := range cfg.hosted() {
		if !now.has(p.Name) {
			errs = append(errs, checkUnused(ctx, db, p.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return hosting{}, err
	}
	changes := now.changes(cfg)
	if len(changes) == 0 {
		return now, nil
	}
	err = db.Durable(ctx, func(tx *catalog.Tx) error {
		for _, p := range changes {
			action := registry.Update
			if !now.has(p.Name) {
				action = registry.Create
			}
			err := errors.Join(tx.PutProject(p), tx.AddAudit(catalog.Entry{
				At: time.Now(), Actor: "(configuration)", Action: action, Kind: "project", Resource: p.Name,
				Outcome: registry.Done, Detail: either(p.Public, "public", "private"),
			}))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return hosting{}, fmt.Errorf("write down the hosted projects of the configuration: %w", err)
	}
	return readHosting(ctx, db)
}

// changes are the projects of the catalog that a configuration makes others.
func (h hosting) changes(cfg Config) []catalog.Project {
	var all []catalog.Project
	wanted := cfg.hosted()
	for _, p := range h.projects {
		i := slices.IndexFunc(wanted, func(w catalog.Project) bool { return w.Name == p.Name })
		switch {
		case i >= 0 && !same(p, wanted[i]):
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

func (h hosting) has(name string) bool {
	return slices.ContainsFunc(h.projects, func(p catalog.Project) bool { return p.Name == name })
}

// equal reports whether the projects are the same, whatever else has changed.
func (h hosting) equal(other hosting) bool {
	return slices.EqualFunc(h.projects, other.projects, func(a, b catalog.Project) bool { return a.Name == b.Name && same(a, b) })
}

// beside are the hosted projects without those whose names a configuration has for proxies.
func (h hosting) beside(cfg Config) []catalog.Project {
	return slices.DeleteFunc(slices.Clone(h.projects), func(p catalog.Project) bool { return cfg.proxy(p.Name) })
}

// same compares all that a configuration says of a project.
func same(a, b catalog.Project) bool {
	return a.Configured == b.Configured && a.Public == b.Public && a.Quota == b.Quota &&
		slices.Equal(a.Immutable, b.Immutable) && a.Retention == b.Retention
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
