package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Projects are the commands about projects that people push to.
type Projects struct {
	Create ProjectCreate `cmd:"" help:"Make a project that people push to."`
	List   ProjectList   `cmd:"" help:"List all projects, the proxies among them."`
	Show   ProjectShow   `cmd:"" help:"Say all that there is to know of a project."`
	Set    ProjectSet    `cmd:"" help:"Change what a project allows and keeps."`
	Delete ProjectDelete `cmd:"" help:"Remove an empty project, with its members and robots."`
	Retain ProjectRetain `cmd:"" help:"Retire tags by the rules of a project."`
	Member Members       `cmd:"" help:"Say who has which role in a project."`
}

// rules are the flags that say what a project allows and keeps. What is not given stays.
type rules struct {
	Public     *bool         `negatable:"" help:"Anybody may pull from it."`
	Quota      *sizeFlag     `placeholder:"SIZE" help:"Most of stored content, such as 10GiB. 0: no limit."`
	Immutable  []string      `sep:"none" placeholder:"GLOB" help:"Tags that never move and never go, \"repository:tag\" such as \"**:v*\". Can be given again; \"\": none."`
	KeepNewest *int          `placeholder:"N" help:"Keep so many tags of each repository, the last pushed. 0: not by number."`
	KeepPulled *durationFlag `placeholder:"TIME" help:"Keep tags that were pulled or pushed within this time, such as 30d. 0s: not by time."`
}

// over lays what is given over a project.
func (r rules) over(p *catalog.Project) error {
	if r.Public != nil {
		p.Public = *r.Public
	}
	if r.Quota != nil {
		p.Quota = int64(*r.Quota)
	}
	if r.KeepNewest != nil {
		if p.Retention.Newest = *r.KeepNewest; p.Retention.Newest < 0 {
			return fmt.Errorf("--keep-newest=%d is no number of tags; write 0 or more", *r.KeepNewest)
		}
	}
	if r.KeepPulled != nil {
		p.Retention.Pulled = time.Duration(*r.KeepPulled)
	}
	if r.Immutable == nil {
		return nil
	}
	p.Immutable = nil
	for _, glob := range r.Immutable {
		if glob == "" {
			continue
		}
		if rest, foreign := strings.CutPrefix(glob, p.Name+"/"); foreign {
			return fmt.Errorf("--immutable=%q begins with the project's name; write %q: patterns are below the project", glob, rest)
		}
		if _, err := registry.ParsePattern(glob); err != nil {
			return fmt.Errorf("--immutable=%w", err)
		}
		p.Immutable = append(p.Immutable, glob)
	}
	return nil
}

// ProjectCreate is the command of that name.
type ProjectCreate struct {
	onCatalog
	Name string `arg:"" help:"What its repositories begin with: production in registry.example.com/production/web."`
	rules
}

// Run makes a project.
func (c *ProjectCreate) Run(std streams) error {
	return c.with(func(ctx context.Context, cfg Config, data *Data) error {
		if err := checkProjectName(c.Name); err != nil {
			return err
		}
		if cfg.proxy(c.Name) {
			return fmt.Errorf("project %s is a proxy in %s: choose another name, or remove it there", c.Name, fileOf(cfg))
		}
		p := catalog.Project{Name: c.Name}
		if err := c.over(&p); err != nil {
			return err
		}
		if err := checkUnused(ctx, data.Catalog, c.Name); err != nil {
			return err
		}
		err := changeProject(ctx, data.Catalog, registry.Create, c.Name, func(tx *catalog.Tx) error {
			_, err := tx.AnyProject(c.Name)
			if err == nil {
				return fmt.Errorf("there is a project %s already; \"roadstead project show %s\" says how it is, and \"project set\" changes it", c.Name, c.Name)
			}
			if !errors.Is(err, catalog.ErrNotFound) {
				return err
			}
			return tx.PutProject(p)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "project %s is there, %s; its members, and robots, push to it: \"roadstead project member add %s NAME --role developer\", \"roadstead robot add NAME --project %s\"\n",
			c.Name, either(p.Public, "public", "private"), c.Name, c.Name)
		return nil
	})
}

// fileOf is what to call where a configuration was read.
func fileOf(cfg Config) string {
	if cfg.File == "" {
		return "the built-in configuration"
	}
	return cfg.File
}

// changeProject does something to a project and notes it in the audit log, or neither.
func changeProject(ctx context.Context, db *catalog.DB, action registry.Action, name string, fn func(*catalog.Tx) error) error {
	return db.Durable(ctx, func(tx *catalog.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return tx.AddAudit(catalog.Entry{At: time.Now(), Actor: actor, Action: action, Kind: "project", Resource: name, Outcome: registry.Done})
	})
}

// ProjectList is the command of that name.
type ProjectList struct {
	onCatalog
}

// Run lists projects.
func (c *ProjectList) Run(std streams) error {
	return c.with(func(ctx context.Context, cfg Config, data *Data) error {
		holding, err := readHolding(ctx, data.Catalog)
		if err != nil {
			return err
		}
		used, err := data.Catalog.ByProject(ctx)
		if err != nil {
			return err
		}
		rows := map[string]string{}
		for _, p := range cfg.proxies() {
			rows[p.Name] = fmt.Sprintf("%s\tproxy\t%s\t%s\t\t", p.Name, either(p.Public, "public", "private"), bytesText(used[p.Name].Bytes))
		}
		for _, p := range holding.projects {
			if !p.Hosted() {
				if !p.Configured {
					r, _ := holding.registry(p.Registry)
					rows[p.Name] = fmt.Sprintf("%s\tproxy\t%s\t%s\t\tof %s", p.Name, either(p.Public, "public", "private"), bytesText(used[p.Name].Bytes), r.Name)
				}
				continue
			}
			notes := append(ruleNotes(p), strings.Fields(either(p.Configured, "configured", ""))...)
			rows[p.Name] = fmt.Sprintf("%s\thosted\t%s\t%s\t%s\t%s", p.Name, either(p.Public, "public", "private"),
				bytesText(used[p.Name].Bytes), quotaText(p.Quota), strings.Join(notes, ", "))
		}
		return aligned(std.out, func(row func(string, ...any)) {
			row("PROJECT\tKIND\tACCESS\tUSED\tQUOTA\tNOTES")
			for _, name := range slices.Sorted(maps.Keys(rows)) {
				row("%s", rows[name])
			}
		})
	})
}

// ruleNotes say what a project keeps.
func ruleNotes(p catalog.Project) []string {
	var all []string
	if len(p.Immutable) > 0 {
		all = append(all, "immutable "+strings.Join(p.Immutable, " "))
	}
	return append(all, retention(madeHosted(p).Retain)...)
}

func quotaText(quota int64) string {
	if quota == 0 {
		return "none"
	}
	return bytesText(quota)
}

// ProjectShow is the command of that name.
type ProjectShow struct {
	onCatalog
	Name string `arg:"" help:"Of a project that people push to."`
}

// Run shows a project.
func (c *ProjectShow) Run(std streams) error {
	return c.with(func(ctx context.Context, cfg Config, data *Data) error {
		holding, err := readHolding(ctx, data.Catalog)
		if err != nil {
			return err
		}
		p, ok := holding.project(c.Name)
		if !ok || !p.Hosted() {
			return noProject(cfg, c.Name)
		}
		used, err := data.Catalog.ByProject(ctx)
		if err != nil {
			return err
		}
		repos, err := repositoriesOf(ctx, data.Catalog, p.Name)
		if err != nil {
			return err
		}
		members, err := data.Catalog.Members(ctx, p.Name)
		if err != nil {
			return err
		}
		return aligned(std.out, func(row func(string, ...any)) {
			row("project\t%s", p.Name)
			row("access\t%s", either(p.Public, "public", "private"))
			row("used\t%s in %d repositories", bytesText(used[p.Name].Bytes), len(repos))
			row("quota\t%s", quotaText(p.Quota))
			row("immutable\t%s", either(len(p.Immutable) > 0, strings.Join(p.Immutable, " "), "nothing"))
			row("tags\t%s", either(p.Retention.None(), "keeps all of them", strings.Join(retention(madeHosted(p).Retain), ", ")))
			row("made\t%s UTC, %s", timeText(p.CreatedAt, "-"), either(p.Configured, "by the configuration, which says the rest", "by a command"))
			for _, m := range members {
				row("member\t%s%s, %s", either(m.Group, "group ", ""), m.Name, m.Role)
			}
		})
	})
}

// noProject says that a hosted project is not there, and what to do.
func noProject(cfg Config, name string) error {
	if cfg.proxy(name) {
		return fmt.Errorf("project %s is a proxy: what it allows and keeps is in %s, and \"roadstead check\" says what that means", name, fileOf(cfg))
	}
	return fmt.Errorf("there is no project %s; \"roadstead project list\" lists them", name)
}

// repositoriesOf lists the repositories of a project.
func repositoriesOf(ctx context.Context, db *catalog.DB, project string) ([]string, error) {
	var all []string
	for after := project + "/"; ; after = all[len(all)-1] {
		names, err := db.Repositories(ctx, after, registry.MaxPage)
		if err != nil {
			return nil, err
		}
		ours := slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, project+"/") })
		all = append(all, ours...)
		if len(ours) < registry.MaxPage {
			return all, nil
		}
	}
}

// ProjectSet is the command of that name.
type ProjectSet struct {
	onCatalog
	Name string `arg:"" help:"Of a project that people push to."`
	rules
}

// Run changes a project.
func (c *ProjectSet) Run(std streams) error {
	return c.with(func(ctx context.Context, cfg Config, data *Data) error {
		if (c.rules.Public == nil) && c.Quota == nil && c.Immutable == nil && c.KeepNewest == nil && c.KeepPulled == nil {
			return errors.New("nothing to set is given; \"roadstead project set --help\" lists what can be")
		}
		var p catalog.Project
		err := changeProject(ctx, data.Catalog, registry.Update, c.Name, func(tx *catalog.Tx) error {
			var err error
			p, err = tx.Project(c.Name)
			switch {
			case errors.Is(err, catalog.ErrNotFound):
				return noProject(cfg, c.Name)
			case err != nil:
				return err
			case p.Configured:
				return fmt.Errorf("project %s is in the configuration, which says all of it: change it there and send the server a SIGHUP", c.Name)
			}
			if err := c.over(&p); err != nil {
				return err
			}
			return tx.PutProject(p)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "project %s is %s\n", p.Name, strings.Join(append([]string{either(p.Public, "public", "private"),
			either(p.Quota > 0, "has at most "+bytesText(p.Quota), "has no quota")}, ruleNotes(p)...), ", "))
		return nil
	})
}

// ProjectDelete is the command of that name.
type ProjectDelete struct {
	onCatalog
	Name string `arg:"" help:"Of a project that people push to, and that is empty."`
}

// Run deletes a project.
func (c *ProjectDelete) Run(std streams) error {
	return c.with(func(ctx context.Context, cfg Config, data *Data) error {
		if slices.ContainsFunc(cfg.Projects, func(p Project) bool { return p.Hosted && p.Name == c.Name }) {
			return fmt.Errorf("project %s is in %s, and would be there again: remove it there first", c.Name, fileOf(cfg))
		}
		err := changeProject(ctx, data.Catalog, registry.Delete, c.Name, func(tx *catalog.Tx) error {
			p, err := tx.AnyProject(c.Name)
			if err == nil && p.Configured && !p.Hosted() {
				return noProject(cfg, c.Name)
			}
			return tx.DeleteProject(c.Name)
		})
		switch {
		case errors.Is(err, catalog.ErrNotFound):
			return noProject(cfg, c.Name)
		case errors.Is(err, catalog.ErrNotEmpty):
			repos, listErr := repositoriesOf(ctx, data.Catalog, c.Name)
			if listErr != nil || len(repos) == 0 {
				return err
			}
			return fmt.Errorf("project %s has %d repositories, such as %s: delete what is in them first, for example with \"regctl tag rm\" and \"regctl manifest rm\", and let the server collect it", c.Name, len(repos), repos[0])
		case err != nil:
			return err
		}
		fmt.Fprintf(std.out, "project %s is gone\n", c.Name)
		return nil
	})
}
