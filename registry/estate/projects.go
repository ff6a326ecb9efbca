package estate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/hosted"
	"roadstead/storage/catalog"
)

// Project is a project as it is shown and written.
type Project struct {
	catalog.Project
	RegistryName string   // of a proxy, when it is shown
	Host         string   // of what it is a cache of, as images are called by it: "docker.io"
	Names        []string // the registries that it stands for where clients name one of them
	Usage        catalog.Usage
	Repositories int64
	Artifacts    int64
}

// Ref names a project by its number or, when that is 0, by its name.
type Ref struct {
	ID   int64
	Name string
}

// Projects lists the projects that somebody may look at, in the order of their names.
func (e *Estate) Projects(ctx context.Context, p registry.Principal) ([]Project, error) {
	rows, err := e.catalog.AllProjects(ctx)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(row catalog.Project) bool { return e.may(p, registry.Read, Projects, row.Name) != nil })
	return e.dress(ctx, rows)
}

// dress adds what other tables say of projects.
func (e *Estate) dress(ctx context.Context, rows []catalog.Project) ([]Project, error) {
	registries, err := e.catalog.Registries(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[int64]catalog.Registry{}
	for _, r := range registries {
		byID[r.ID] = r
	}
	used, err := e.catalog.Summaries(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Project, len(rows))
	for i, row := range rows {
		has := used[row.Name]
		all[i] = Project{Project: row, Usage: catalog.Usage{Bytes: has.Bytes}, Repositories: has.Repositories, Artifacts: has.Artifacts}
		if r, ok := byID[row.Registry]; ok {
			all[i].RegistryName, all[i].Host = r.Name, HostOf(r.URL)
			if e.config.Names != nil {
				all[i].Names = e.config.Names(row.Name)
			}
		}
	}
	return all, nil
}

// Project returns one of them.
func (e *Estate) Project(ctx context.Context, p registry.Principal, ref Ref) (Project, error) {
	row, err := e.find(ctx, p, registry.Read, Projects, ref)
	if err != nil {
		return Project{}, err
	}
	all, err := e.dress(ctx, []catalog.Project{row})
	if err != nil {
		return Project{}, err
	}
	return all[0], nil
}

// find finds a project and says whether somebody may do something to it, or to what it has of a kind.
// Which of a number and a name is unknown, and which is not to be known, is not told apart.
func (e *Estate) find(ctx context.Context, p registry.Principal, action registry.Action, kind registry.Kind, ref Ref) (catalog.Project, error) {
	row, err := e.lookup(ctx, ref)
	if errors.Is(err, registry.NameUnknown) {
		// Whoever may do it to all of them is told that there is none.
		if err := e.may(p, action, kind, "no project is called this "); err != nil {
			return catalog.Project{}, err
		}
	}
	if err != nil {
		return catalog.Project{}, err
	}
	if err := e.may(p, action, kind, row.Name); err != nil {
		return catalog.Project{}, err
	}
	return row, nil
}

// lookup finds a project, whoever asks.
func (e *Estate) lookup(ctx context.Context, ref Ref) (catalog.Project, error) {
	rows, err := e.catalog.AllProjects(ctx)
	if err != nil {
		return catalog.Project{}, err
	}
	i := slices.IndexFunc(rows, func(row catalog.Project) bool {
		return ref.ID != 0 && row.ID == ref.ID || ref.ID == 0 && row.Name == ref.Name
	})
	if i < 0 {
		return catalog.Project{}, ref.unknown()
	}
	return rows[i], nil
}

func (ref Ref) unknown() error {
	if ref.ID != 0 {
		return unknown("project.number", "there is no project %d", ref.ID)
	}
	return unknown("project.unknown", "there is no project %s", registry.Clip(ref.Name))
}

// AddProject makes a project: with a Registry a proxy, else one that people push to.
func (e *Estate) AddProject(ctx context.Context, p registry.Principal, next catalog.Project) (id int64, err error) {
	if err := e.mayCreate(p, next); err != nil {
		return 0, err
	}
	if err := e.config.CheckName(next.Name); err != nil {
		return 0, Wrong("name", "project.name", "%v", err)
	}
	next.Configured = false
	if err := e.checkProject(ctx, next); err != nil {
		return 0, err
	}
	// What a project that is there already has is its own: that there is one is said below.
	was, err := e.lookup(ctx, Ref{Name: next.Name})
	if next.Hosted() && (err != nil || was.Configured && e.config.Builtin(was.Name)) {
		if err := e.unused(ctx, next.Name); err != nil {
			return 0, err
		}
	}
	err = e.change(ctx, deed{p, registry.Create, Projects, next.Name, reach(next)}, func(tx *catalog.Tx) error {
		was, err := tx.AnyProject(next.Name)
		if errors.Is(err, catalog.ErrNotFound) {
			err = tx.PutProject(next)
		} else if err == nil {
			err = e.replaceBuiltin(tx, was, next)
		}
		if err != nil {
			return err
		}
		now, err := tx.AnyProject(next.Name)
		if err != nil {
			return err
		}
		id = now.ID
		return e.settle(tx, p, next.Name)
	})
	return id, err
}

// settle gives a project that is new to whoever has made it, unless all are his anyway.
func (e *Estate) settle(tx *catalog.Tx, p registry.Principal, project string) error {
	name, user, admin, _ := e.access.Describe(p)
	if user == nil || admin {
		return nil
	}
	return tx.PutMember(catalog.Member{Project: project, Name: name, Role: string(access.ProjectAdmin)})
}

// replaceBuiltin has a built-in project make way, and the registry that was written down for it.
func (e *Estate) replaceBuiltin(tx *catalog.Tx, was, next catalog.Project) error {
	if !was.Configured || !e.config.Builtin(next.Name) {
		return catalog.ErrExists
	}
	if err := tx.DropProject(was.Name); err != nil {
		return err
	}
	if err := tx.PutProject(next); err != nil {
		return err
	}
	if err := tx.DeleteRegistry(was.Registry); !errors.Is(err, catalog.ErrNotEmpty) {
		return err
	}
	return nil // somebody's project is a cache of it
}

// ChangeProject has fn change a project. What a proxy has cached is forgotten when it asks elsewhere
// then.
func (e *Estate) ChangeProject(ctx context.Context, p registry.Principal, ref Ref, fn func(*catalog.Project) error) error {
	var was, is catalog.Project
	err := e.alter(ctx, p, registry.Update, Projects, ref, func(next *catalog.Project) error {
		was = *next
		if err := fn(next); err != nil {
			return err
		}
		if is = *next; elsewhere(was, is) {
			if err := e.mayPoint(p, is); err != nil {
				return err
			}
		}
		if is.Quota != was.Quota {
			return e.may(p, registry.Update, access.Quotas, "") // see SetQuota
		}
		return nil
	})
	if err != nil || was.Hosted() || !elsewhere(was, is) {
		return err
	}
	// To the end, whoever waits for it no longer: the same tags are others now.
	return e.config.Cache.ForgetProject(context.WithoutCancel(ctx), was.Name)
}

// alter is ChangeProject by whoever may do something to what the project has of a kind.
func (e *Estate) alter(ctx context.Context, p registry.Principal, action registry.Action, kind registry.Kind, ref Ref, fn func(*catalog.Project) error) error {
	was, err := e.find(ctx, p, action, kind, ref)
	if err != nil {
		return err
	}
	return e.write(ctx, p, was, action, kind, fn)
}

// write has fn change a project that was found.
func (e *Estate) write(ctx context.Context, p registry.Principal, was catalog.Project, action registry.Action, kind registry.Kind, fn func(*catalog.Project) error) error {
	if was.Configured {
		return e.declaredProject(was.Name)
	}
	next := was
	next.Immutable, next.Policy, next.Metadata = slices.Clone(was.Immutable), clone(was.Policy), maps.Clone(was.Metadata)
	if err := fn(&next); err != nil {
		return err
	}
	if next.Hosted() != was.Hosted() {
		return invalid("project.kind", "a project of one kind cannot become one of the other: make another project")
	}
	next.ID, next.Name, next.Configured = was.ID, was.Name, false
	if err := e.checkProject(ctx, next); err != nil {
		return err
	}
	detail := reach(next)
	if kind == access.Retention && next.Hosted() {
		detail = keeps(next.Retention)
	}
	return e.change(ctx, deed{p, action, kind, next.Name, detail}, func(tx *catalog.Tx) error {
		now, err := tx.AnyProject(next.Name)
		if err != nil {
			return err
		}
		if !now.UpdatedAt.Equal(was.UpdatedAt) {
			return refuse(registry.Conflict, "project.changed", "somebody else has just changed project %s: look at it again", was.Name)
		}
		return tx.PutProject(next)
	})
}

// Deletable says why a project cannot be deleted, or nil.
func (e *Estate) Deletable(p Project) error {
	switch {
	case p.Configured:
		return e.declaredProject(p.Name)
	case p.Repositories > 0 && (!p.Hosted() || p.Artifacts > 0):
		return refuse(InUse, "project.full", "project %s has repositories: delete them first", p.Name)
	}
	return nil
}

// DeleteProject removes a project that has nothing in it which could be pulled, its members and its
// robots.
func (e *Estate) DeleteProject(ctx context.Context, p registry.Principal, ref Ref) error {
	was, err := e.find(ctx, p, registry.Delete, Projects, ref)
	if err != nil {
		return err
	}
	if was.Configured {
		return e.declaredProject(was.Name)
	}
	if was.Hosted() {
		if err := e.deleteHalves(ctx, was); err != nil {
			return err
		}
	}
	return e.change(ctx, deed{p, registry.Delete, Projects, was.Name, ""}, func(tx *catalog.Tx) error {
		return tx.DeleteProject(was.Name)
	})
}

// deleteHalves removes what was pushed of images whose manifests never came, if that is all that there is
// of a project: to its people it is empty.
func (e *Estate) deleteHalves(ctx context.Context, row catalog.Project) error {
	has, err := e.catalog.Summary(ctx, row.Name)
	if err != nil || has.Repositories == 0 || has.Artifacts > 0 {
		return err
	}
	const most = 1000 // who has more half of images has a client that goes on pushing
	all, _, err := e.catalog.BrowseRepositories(ctx, catalog.RepositoryFilter{Projects: []string{row.Name}}, catalog.Page{Limit: most})
	for _, r := range all {
		if err == nil {
			err = e.config.Hosted.DeleteRepository(ctx, r.Repo)
		}
	}
	return err
}

// unused wants nothing to be here of a project that is about to be hosted: what was cached under its
// name is not what somebody has pushed, and would stay for ever.
func (e *Estate) unused(ctx context.Context, name string) error {
	repos, err := e.catalog.Repositories(ctx, name+"/", 1)
	if err != nil {
		return err
	}
	if len(repos) > 0 && strings.HasPrefix(repos[0], name+"/") {
		return Wrong("name", "project.stray", "there is content of a project %s here that nobody has pushed, such as %s: choose another name", name, repos[0])
	}
	return nil
}

func reach(p catalog.Project) string {
	if p.Public {
		return "public"
	}
	return "private"
}

// keeps says in short what a retention does.
func keeps(r catalog.Retention) string {
	if r.None() {
		return "keeps everything"
	}
	return fmt.Sprintf("keeps by %d rules", len(r.Rules)+min(r.Newest, 1)+int(min(r.Pulled, 1)))
}

const (
	maxGlobs = 100

	// What others keep with a project, of which nothing reads more than the names.
	maxMetadata = 100
	maxValue    = 16 << 10 // a policy of Harbor's with a dozen rules has some KiB
)

// checkProject says what of a project cannot be.
func (e *Estate) checkProject(ctx context.Context, p catalog.Project) error {
	for f, globs := range map[string][]string{"immutable": p.Immutable, "allow": p.Policy.Allow, "deny": p.Policy.Deny, "pin": p.Policy.Pin} {
		if len(globs) > maxGlobs {
			return Wrong(f, "globs.many", "%d patterns are more than the %d that are looked at for each request: join some with {a,b}", len(globs), maxGlobs)
		}
		for _, glob := range globs {
			if _, err := registry.ParsePattern(glob); err != nil {
				return Wrong(f, "glob.wrong", "%v", err)
			}
		}
	}
	for key, value := range p.Metadata {
		if len(p.Metadata) > maxMetadata || key == "" || len(key) > maxName || !plain(key) || len(value) > maxValue || !text(value) {
			return invalid("metadata.wrong", "the metadata of a project are at most %d values of %d bytes, with names of %d", maxMetadata, maxValue, maxName)
		}
	}
	if p.Schedule != "" && p.Schedule != hosted.Never {
		if _, err := hosted.ParseSchedule(p.Schedule); err != nil {
			return invalid("plan.wrong", "%v", err)
		}
	}
	switch {
	case p.Quota < 0:
		return Wrong("quota", "quota.wrong", "a quota is a number of bytes, or -1 for none")
	case p.Retention.Newest < 0 || p.Retention.Pulled < 0:
		return Wrong("retention", "retention.wrong", "a retention keeps 0 or more tags, or a time")
	case len(p.Retention.Rules) > maxGlobs:
		return Wrong("retention", "rules.many", "%d rules of retention are more than the %d that there may be", len(p.Retention.Rules), maxGlobs)
	}
	for _, rule := range p.Retention.Rules {
		if rule.Newest < 0 || rule.LastPulled < 0 || rule.Pushed < 0 || rule.Pulled < 0 {
			return Wrong("retention", "retention.wrong", "a retention keeps 0 or more tags, or a time")
		}
		for _, glob := range []string{rule.Repositories.Glob, rule.Tags.Glob} {
			if err := registry.Glob(glob).Check(); err != nil {
				return Wrong("retention", "glob.wrong", "%v", err)
			}
		}
	}
	for f, d := range map[string]*time.Duration{"ttl": p.Policy.TTL, "stale_for": p.Policy.StaleFor, "keep": p.Policy.Keep, "cooldown": p.Policy.Cooldown} {
		if d != nil && *d < 0 {
			return Wrong(f, "time.negative", "a time cannot be less than nothing")
		}
	}
	if err := checkVerify(p.Policy.Verify); err != nil {
		return err
	}
	if p.Hosted() {
		return nil
	}
	if p.Quota > 0 || len(p.Immutable) > 0 || !p.Retention.None() {
		return invalid("proxy.rules", "a proxy has neither a quota nor rules for tags: what it keeps is evicted when room is needed")
	}
	if _, err := e.findRegistry(ctx, p.Registry); err != nil {
		return Wrong("registry", "project.registry", "there is no registry %d to be a cache of: make it first", p.Registry)
	}
	return nil
}

// clone copies what a change must not write through to.
func clone(p catalog.Policy) catalog.Policy {
	p.Allow, p.Deny, p.Pin = slices.Clone(p.Allow), slices.Clone(p.Deny), slices.Clone(p.Pin)
	if p.Verify != nil {
		p.Verify = &catalog.Verify{Mode: p.Verify.Mode, Keys: slices.Clone(p.Verify.Keys)}
	}
	return p
}
