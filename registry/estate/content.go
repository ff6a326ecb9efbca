package estate

import (
	"context"
	"encoding/json"
	"errors"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Content is what projects of one kind have in them, to be taken out. Of a proxy that is what is
// cached, which comes again when somebody pulls it.
type Content interface {
	DeleteRepository(context.Context, registry.Repo) error
	DeleteManifest(context.Context, registry.Repo, registry.Digest) error
	DeleteTag(ctx context.Context, repo registry.Repo, tag string) error
}

// Hosted is the content of projects that people push to.
type Hosted interface {
	Content
	CopyTag(ctx context.Context, repo registry.Repo, reference, tag string) (registry.Descriptor, error)
}

// within finds a repository's project and says whether somebody may do something to what is in it.
func (e *Estate) within(ctx context.Context, p registry.Principal, action registry.Action, kind registry.Kind, ref Ref, name string) (registry.Repo, catalog.Project, error) {
	row, err := e.find(ctx, p, action, kind, ref)
	if err != nil {
		return registry.Repo{}, row, err
	}
	repo := registry.Repo{Project: row.Name, Name: name}
	if registry.CheckName(repo.String()) != nil {
		return registry.Repo{}, row, unknown("repository.unknown", "there is no repository %s", registry.Clip(name))
	}
	return repo, row, nil
}

// missing tells of what the catalog does not have.
func missing(err error, key, format string, args ...any) error {
	if errors.Is(err, catalog.ErrNotFound) {
		return unknown(key, format, args...)
	}
	return err
}

// Repositories lists a page of the repositories of a project, and how many there are.
func (e *Estate) Repositories(ctx context.Context, p registry.Principal, ref Ref, f catalog.RepositoryFilter, page catalog.Page) ([]catalog.Repository, int, error) {
	row, err := e.find(ctx, p, registry.List, registry.Repository, ref)
	if err != nil {
		return nil, 0, err
	}
	f.Projects = []string{row.Name}
	return e.catalog.BrowseRepositories(ctx, f, page)
}

// AllRepositories is Repositories of all projects that somebody may look into.
func (e *Estate) AllRepositories(ctx context.Context, p registry.Principal, f catalog.RepositoryFilter, page catalog.Page) ([]catalog.Repository, int, error) {
	names, err := e.seen(ctx, p)
	if err != nil {
		return nil, 0, err
	}
	f.Projects = names
	return e.catalog.BrowseRepositories(ctx, f, page)
}

// seen are the names of the projects whose repositories somebody may list.
func (e *Estate) seen(ctx context.Context, p registry.Principal) ([]string, error) {
	rows, err := e.catalog.AllProjects(ctx)
	names := []string{}
	for _, row := range rows {
		if e.may(p, registry.List, registry.Repository, row.Name) == nil {
			names = append(names, row.Name)
		}
	}
	return names, err
}

// Repository returns a repository.
func (e *Estate) Repository(ctx context.Context, p registry.Principal, ref Ref, name string) (catalog.Repository, error) {
	repo, _, err := e.within(ctx, p, registry.Read, registry.Repository, ref, name)
	if err != nil {
		return catalog.Repository{}, err
	}
	r, err := e.catalog.Repository(ctx, repo)
	return r, missing(err, "repository.unknown", "there is no repository %s", repo)
}

// CountArtifacts has repositories that somebody was shown say how many artifacts they have for
// themselves: what images are made of and what refers to them is not counted, as it is not listed.
func (e *Estate) CountArtifacts(ctx context.Context, repos []catalog.Repository) error {
	ids := make([]int64, len(repos))
	for i, r := range repos {
		ids[i] = r.ID
	}
	counts, err := e.catalog.CountArtifacts(ctx, ids)
	for i := range repos {
		repos[i].Artifacts = counts[repos[i].ID]
	}
	return err
}

// Describe says what a repository is for.
func (e *Estate) Describe(ctx context.Context, p registry.Principal, ref Ref, name, description string) error {
	repo, _, err := e.within(ctx, p, registry.Update, registry.Repository, ref, name)
	if err != nil {
		return err
	}
	const most = 32 << 10
	if len(description) > most || !text(description) {
		return invalid("description.wrong", "the description is longer than %d bytes or has control characters", most)
	}
	return e.access.Audited(ctx, p.Name(), registry.Update, registry.Repository, repo.String(), "description", func(tx *catalog.Tx) error {
		return tx.SetDescription(repo, description)
	})
}

// deletion is what is taken out of a project, and by whom.
type deletion struct {
	by     registry.Principal
	remote string
	kind   registry.Kind
	repo   registry.Repo
	name   string // a tag or a digest; "" for the whole
	row    catalog.Project
}

// do takes it out and records that. What leaves the cache of a proxy comes again.
func (e *Estate) do(d deletion, fn func(Content) error) error {
	from := e.config.Cached
	if d.row.Hosted() {
		from = e.config.Hosted
	}
	err := fn(from)
	outcome := registry.Done
	if err != nil {
		outcome = registry.Failed
	}
	e.access.Record(registry.Event{
		Principal: d.by, Action: registry.Delete, Resource: registry.Resource{Kind: d.kind, Repo: d.repo}, Reference: d.name, Remote: d.remote, Outcome: outcome,
	})
	return err
}

// deletable finds what somebody may take out of a repository.
func (e *Estate) deletable(ctx context.Context, p registry.Principal, kind registry.Kind, ref Ref, name string) (registry.Repo, catalog.Project, error) {
	// Which right it takes depends on what the project is, which is not for everybody to know.
	if row, err := e.lookup(ctx, ref); err == nil && !row.Hosted() {
		kind = access.Cache
	}
	return e.within(ctx, p, registry.Delete, kind, ref, name)
}

// DeleteRepository removes all that a repository has.
func (e *Estate) DeleteRepository(ctx context.Context, p registry.Principal, ref Ref, name, remote string) error {
	repo, row, err := e.deletable(ctx, p, registry.Repository, ref, name)
	if err != nil {
		return err
	}
	return e.do(deletion{p, remote, registry.Repository, repo, "", row}, func(c Content) error { return c.DeleteRepository(ctx, repo) })
}

// Artifacts lists a page of what a repository has, and how much there is. Who pulled it is for whoever
// may read the log of the project: everybody else learns when that was.
func (e *Estate) Artifacts(ctx context.Context, p registry.Principal, ref Ref, name string, f catalog.ArtifactFilter, page catalog.Page) ([]catalog.Artifact, int, error) {
	repo, _, err := e.within(ctx, p, registry.List, registry.Artifact, ref, name)
	if err != nil {
		return nil, 0, err
	}
	all, total, err := e.catalog.BrowseArtifacts(ctx, repo, f, page)
	if e.may(p, registry.List, access.Log, repo.Project) != nil {
		for i := range all {
			all[i].LastPull = catalog.LastPull{}
		}
	}
	return all, total, missing(err, "repository.unknown", "there is no repository %s", repo)
}

// Artifact returns what a tag or a digest stands for, to whom Artifacts would show it.
func (e *Estate) Artifact(ctx context.Context, p registry.Principal, ref Ref, name, reference string) (catalog.Artifact, error) {
	repo, _, err := e.within(ctx, p, registry.Read, registry.Artifact, ref, name)
	if err != nil {
		return catalog.Artifact{}, err
	}
	return e.artifactFor(ctx, p, repo, reference)
}

// artifactFor is artifact without what only some may know.
func (e *Estate) artifactFor(ctx context.Context, p registry.Principal, repo registry.Repo, reference string) (catalog.Artifact, error) {
	a, err := e.artifact(ctx, repo, reference)
	if e.may(p, registry.List, access.Log, repo.Project) != nil {
		a.LastPull = catalog.LastPull{}
	}
	return a, err
}

func (e *Estate) artifact(ctx context.Context, repo registry.Repo, reference string) (catalog.Artifact, error) {
	_, notDigest := registry.ParseDigest(reference)
	if notDigest != nil && registry.CheckTag(reference) != nil {
		return catalog.Artifact{}, unknown("artifact.unknown", "there is no artifact %s in %s", registry.Clip(reference), repo)
	}
	a, err := e.catalog.Artifact(ctx, repo, reference)
	return a, missing(err, "artifact.unknown", "there is no artifact %s in %s", registry.Clip(reference), repo)
}

// Look is what an artifact's manifest and configuration say of it.
type Look struct {
	registry.Config
	ConfigType string                // the media type of the configuration; "" for an index
	Children   []registry.Descriptor // that an index is made of, with their platforms
	Chart      map[string]any        // what a Helm chart says of itself (Chart.yaml), its configuration
}

// Look reads the manifest and the configuration of an artifact, as far as they are here: nobody
// upstream is asked for that, and it counts as no pull. What cannot be read says nothing.
func (e *Estate) Look(ctx context.Context, repo registry.Repo, a catalog.Artifact) Look {
	select {
	case e.looks <- struct{}{}:
		defer func() { <-e.looks }()
	case <-ctx.Done():
		return Look{}
	}
	body := e.read(ctx, repo, a.Digest, registry.MaxManifest)
	_, refs, err := registry.ParseManifest(a.MediaType, a.Digest, body)
	if err != nil {
		return Look{}
	}
	look := Look{Children: refs.Manifests}
	var config []byte
	if refs.Config != nil {
		look.ConfigType = refs.Config.MediaType
		if registry.IsImageConfig(look.ConfigType) {
			config = e.read(ctx, repo, refs.Config.Digest, maxConfig)
		}
		if look.ConfigType == HelmConfig {
			_ = json.Unmarshal(e.read(ctx, repo, refs.Config.Digest, maxChart), &look.Chart) // what is no JSON says nothing
		}
	}
	look.Config, _ = registry.ParseConfig(refs, config) // what it could not read is not there
	look.Image = look.Image && config != nil
	return look
}

// HelmConfig is the media type of the configuration of a Helm chart.
const HelmConfig = "application/vnd.cncf.helm.config.v1+json"

// maxChart bounds what of a chart is shown in each list that it is in, in bytes.
const maxChart = 64 << 10

// maxConfig bounds the configurations that are read, in bytes; those of real images have some KiB.
const maxConfig = 1 << 20

// read returns content that a repository has by a link of its own and that is in the store, or nil: a
// manifest that names what another repository has does not make it readable here.
func (e *Estate) read(ctx context.Context, repo registry.Repo, d registry.Digest, most int64) []byte {
	found, err := e.catalog.Find(ctx, repo, d)
	if err != nil || !found.Direct || !found.Stored || found.Size > most {
		return nil
	}
	if !found.Direct {
		// In a hosted project a manifest may name what others have, and that is no right to read it.
		if row, err := e.lookup(ctx, Ref{Name: repo.Project}); err != nil || row.Hosted() {
			return nil
		}
	}
	text, err := e.config.Read(ctx, d, most)
	if err != nil {
		return nil
	}
	return text
}

// DeleteArtifact removes an artifact with all its tags.
func (e *Estate) DeleteArtifact(ctx context.Context, p registry.Principal, ref Ref, name, reference, remote string) error {
	repo, row, err := e.deletable(ctx, p, registry.Artifact, ref, name)
	if err != nil {
		return err
	}
	a, err := e.artifact(ctx, repo, reference)
	if err != nil {
		return err
	}
	return e.do(deletion{p, remote, registry.Artifact, repo, a.Digest.String(), row}, func(c Content) error { return c.DeleteManifest(ctx, repo, a.Digest) })
}

// AddTag gives an artifact of a hosted project another tag.
func (e *Estate) AddTag(ctx context.Context, p registry.Principal, ref Ref, name, reference, tag, remote string) error {
	repo, row, err := e.within(ctx, p, registry.Create, registry.Tags, ref, name)
	if err != nil {
		return err
	}
	if !row.Hosted() {
		return refuse(registry.Denied, "tag.proxy", "project %s is a proxy cache: its tags are those of its upstream", row.Name)
	}
	if registry.CheckTag(tag) != nil {
		return Wrong("name", "tag.wrong", "%q cannot be a tag", registry.Clip(tag))
	}
	a, err := e.artifact(ctx, repo, reference)
	if err != nil {
		return err
	}
	if _, err := e.catalog.Tag(ctx, repo, tag); err == nil {
		return refuse(registry.Conflict, "tag.taken", "there is a tag %s already", tag)
	}
	d, err := e.config.Hosted.CopyTag(ctx, repo, a.Digest.String(), tag)
	if err != nil {
		return err
	}
	e.access.Record(registry.Event{
		Principal: p, Action: registry.Create, Resource: registry.Resource{Kind: registry.Tags, Repo: repo}, Reference: tag, Digest: d.Digest, Remote: remote, Outcome: registry.Done,
	})
	return nil
}

// DeleteTag removes a tag of an artifact, which stays.
func (e *Estate) DeleteTag(ctx context.Context, p registry.Principal, ref Ref, name, reference, tag, remote string) error {
	repo, row, err := e.deletable(ctx, p, registry.Tags, ref, name)
	if err != nil {
		return err
	}
	a, err := e.artifact(ctx, repo, reference)
	if err != nil {
		return err
	}
	is, err := e.artifact(ctx, repo, tag)
	if err != nil || is.Digest != a.Digest || tag == a.Digest.String() {
		return unknown("tag.unknown", "there is no tag %s at that artifact", registry.Clip(tag))
	}
	return e.do(deletion{p, remote, registry.Tags, repo, tag, row}, func(c Content) error { return c.DeleteTag(ctx, repo, tag) })
}

// Search finds projects and repositories by a part of their names, at most n of each, among those
// that somebody may see.
func (e *Estate) Search(ctx context.Context, p registry.Principal, text string, n int) ([]catalog.Repository, error) {
	names, err := e.seen(ctx, p)
	if err != nil {
		return nil, err
	}
	return e.catalog.SearchRepositories(ctx, names, text, n)
}

// AuditLog lists a page of the whole log, the newest record first, and how many there are.
func (e *Estate) AuditLog(ctx context.Context, p registry.Principal, f catalog.AuditFilter, page catalog.Page) ([]catalog.Entry, int, error) {
	if err := e.may(p, registry.List, access.Log, ""); err != nil {
		return nil, 0, err
	}
	return e.catalog.BrowseAudit(ctx, f, page)
}

// ProjectLog is the part of the log that is about a project.
func (e *Estate) ProjectLog(ctx context.Context, p registry.Principal, ref Ref, f catalog.AuditFilter, page catalog.Page) ([]catalog.Entry, int, error) {
	row, err := e.find(ctx, p, registry.List, access.Log, ref)
	if err != nil {
		return nil, 0, err
	}
	// What one of its name has been before is not for those who are in it now.
	if f.Since.Before(row.CreatedAt) {
		f.Since = row.CreatedAt
	}
	f.Under = row.Name
	f.Kinds = []registry.Kind{
		registry.Repository, registry.Artifact, registry.Tags, Projects, access.Members, access.Retention, access.Immutable, access.Quotas, access.Cache,
	}
	return e.catalog.BrowseAudit(ctx, f, page)
}

// Totals are all content together.
func (e *Estate) Totals(ctx context.Context, p registry.Principal) (catalog.Summary, error) {
	if err := e.may(p, registry.Read, access.Statistics, ""); err != nil {
		return catalog.Summary{}, err
	}
	return e.catalog.Total(ctx)
}
