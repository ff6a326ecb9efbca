package hosted

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

// Retired is what the rules of a project have retired, or would: a tag, or a manifest without one.
type Retired struct {
	Repo   registry.Repo
	Tag    string // empty for a manifest
	Digest registry.Digest
}

// Retain retires, in each repository of a project, the tags that none of its rules keeps, and
// then the manifests that this leaves without a tag, unless they are part of an index that stays or
// refer to something that stays. What refers to a manifest that goes, goes with it, and so do
// cosign's tags, which are named after an image. Immutable tags stay, and all that they lead to.
//
// A manifest that has had no tag before stays for the time of grace, because whoever pushes an
// index pushes its manifests first; and as long as it is pulled by its digest, if pulls count.
// Dry it only says what would go. A project without rules keeps everything, and so does a repository
// that none of them is about.
func (r *Registry) Retain(ctx context.Context, project string, dry bool) ([]Retired, error) {
	p, err := r.project(registry.Repo{Project: project})
	if err != nil {
		return nil, err
	}
	if p.Retention.None() {
		return nil, nil
	}
	return r.retain(ctx, p, dry)
}

// retain is Retain by rules that need not be those of the project.
func (r *Registry) retain(ctx context.Context, p *project, dry bool) ([]Retired, error) {
	project := p.Name
	if err := r.writePulls(ctx); err != nil {
		return nil, fmt.Errorf("retain the tags of project %s: note what was pulled: %w", project, err)
	}
	var all []Retired
	err := r.catalog.ProjectRepositories(ctx, project, func(repo registry.Repo) error {
		t := &retention{registry: r, project: p, repo: repo, rules: p.retention(repo), now: time.Now()}
		if t.rules.None() {
			return nil
		}
		if err := t.read(ctx); err != nil {
			return err
		}
		if err := t.choose(ctx); err != nil {
			return err
		}
		if dry {
			all = append(all, t.chosen()...)
			return nil
		}
		err := t.retire(ctx)
		all = append(all, t.done...)
		return err
	})
	if !dry && len(all) > 0 {
		r.totals.retired.Add(int64(len(all)))
		r.log.Info("retired", "project", project, "tags and manifests", len(all))
	}
	if err != nil {
		return all, fmt.Errorf("retain the tags of project %s: %w", project, err)
	}
	return all, nil
}

// retention is what is to stay in one repository.
type retention struct {
	registry *Registry
	project  *project
	repo     registry.Repo
	rules    catalog.Retention
	now      time.Time

	tags      []tagged
	manifests []catalog.Revision
	here      map[registry.Digest]bool // the manifests
	keep      map[registry.Digest]bool // manifests and blobs
	done      []Retired
}

type tagged struct {
	name string
	catalog.Tag
	image registry.Digest // what it stays and goes with, such as what it is named after; "" for most
	keep  bool
}

func (t *retention) read(ctx context.Context) error {
	err := t.registry.catalog.RepositoryTags(ctx, t.repo, func(name string, tag catalog.Tag) error {
		t.tags = append(t.tags, tagged{name: name, Tag: tag, image: namesake(name)})
		return nil
	})
	if err != nil {
		return err
	}
	t.here = map[registry.Digest]bool{}
	err = t.registry.catalog.Revisions(ctx, t.repo, func(m catalog.Revision) error {
		t.manifests, t.here[m.Digest] = append(t.manifests, m), true
		return nil
	})
	if len(t.rules.Rules) > 0 {
		t.tie()
	}
	return err
}

// tie has the tags of what refers to something here stay and go with that, which is how Harbor's
// rules look at it.
func (t *retention) tie() {
	subjects := map[registry.Digest]registry.Digest{}
	for _, m := range t.manifests {
		if t.here[m.Subject] {
			subjects[m.Digest] = m.Subject
		}
	}
	for i := range t.tags {
		if tag := &t.tags[i]; tag.image == "" {
			tag.image = subjects[tag.Digest]
		}
	}
}

// namesake returns the image that a tag of cosign's, or of a client that keeps referrers under a tag,
// is named after, or "": sha256-<hex>, perhaps with .sig, .att or .sbom behind it.
func namesake(tag string) registry.Digest {
	base, _, _ := strings.Cut(tag, ".")
	algorithm, hex, ok := strings.Cut(base, "-")
	d, err := registry.ParseDigest(algorithm + ":" + hex)
	if !ok || err != nil {
		return ""
	}
	return d
}

// choose decides what stays.
func (t *retention) choose(ctx context.Context) error {
	roots := t.keepCandidates()
	for _, tag := range t.keepTags() {
		roots = append(roots, tag.Digest)
	}
	loses := map[registry.Digest]bool{} // a tag
	for _, tag := range t.tags {
		loses[tag.Digest] = true
	}
	for _, m := range t.manifests {
		young := !loses[m.Digest] && within(t.now, m.LinkedAt, t.registry.grace)
		if young || within(t.now, m.UsedAt, t.rules.Pulled) {
			roots = append(roots, m.Digest)
		}
	}
	t.keep = map[registry.Digest]bool{}
	for len(roots) > 0 {
		all, err := t.registry.catalog.Closure(ctx, roots)
		if err != nil {
			return err
		}
		for d := range all {
			t.keep[d] = true
		}
		roots = t.follow()
	}
	return nil
}

// keepTags marks and returns the tags that a rule keeps.
func (t *retention) keepTags() []tagged {
	byPush := make([]*tagged, 0, len(t.tags))
	for i := range t.tags {
		tag := &t.tags[i]
		tag.keep = tag.keep || t.project.fixed(t.repo, tag.name)
		if tag.image != "" {
			// It may have been pushed before its image.
			tag.keep = tag.keep || within(t.now, tag.CheckedAt, t.registry.grace)
			continue
		}
		pulled := t.rules.Pulled
		tag.keep = tag.keep || within(t.now, tag.CheckedAt, pulled) || within(t.now, tag.PulledAt, pulled)
		byPush = append(byPush, tag)
	}
	slices.SortStableFunc(byPush, func(a, b *tagged) int { return b.CheckedAt.Compare(a.CheckedAt) })
	for _, tag := range byPush[:min(len(byPush), t.rules.Newest)] {
		tag.keep = true
	}
	var kept []tagged
	for _, tag := range t.tags {
		if tag.keep {
			kept = append(kept, tag)
		}
	}
	return kept
}

// follow returns what stays because of what is known to stay: what refers to it, and what the tags
// lead to that are named after it.
func (t *retention) follow() (more []registry.Digest) {
	for _, m := range t.manifests {
		if !t.keep[m.Digest] && m.Subject != "" && t.keep[m.Subject] {
			more = append(more, m.Digest)
		}
	}
	for i := range t.tags {
		tag := &t.tags[i]
		if !tag.keep && tag.image != "" && t.keep[tag.image] {
			tag.keep = true
			more = append(more, tag.Digest)
		}
	}
	return more
}

// chosen lists what would go.
func (t *retention) chosen() []Retired {
	var all []Retired
	for _, tag := range t.tags {
		if !tag.keep {
			all = append(all, Retired{t.repo, tag.name, tag.Digest})
		}
	}
	for _, m := range t.manifests {
		if !t.keep[m.Digest] {
			all = append(all, Retired{t.repo, "", m.Digest})
		}
	}
	return all
}

func (t *retention) retire(ctx context.Context) error {
	for _, tag := range t.tags {
		if tag.keep {
			continue
		}
		t.registry.step("retain: chosen")
		if err := t.retireTag(ctx, tag); err != nil {
			return err
		}
	}
	// An index goes before its manifests, of which it is made as long as it is here.
	for left := t.manifests; ; {
		var next []catalog.Revision
		for _, m := range left {
			if t.keep[m.Digest] {
				continue
			}
			gone, err := t.retireManifest(ctx, m)
			if err != nil {
				return err
			}
			if !gone {
				next = append(next, m)
			}
		}
		if len(next) == 0 || len(next) == len(left) {
			return nil
		}
		left = next
	}
}

// countsPulls reports whether it matters when something was pulled.
func (t *retention) countsPulls() bool {
	return t.rules.Pulled > 0 || slices.ContainsFunc(t.rules.Rules, func(r catalog.Rule) bool { return r.Pulled > 0 || r.LastPulled > 0 })
}

// retireTag removes a tag if nobody has pushed or pulled it since.
func (t *retention) retireTag(ctx context.Context, tag tagged) error {
	r := t.registry
	defer r.locks.tags(t.repo, []string{tag.name})()
	if t.countsPulls() && r.pulls.waits(t.repo, tag.name) {
		return nil
	}
	return t.forget(ctx, Retired{t.repo, tag.name, tag.Digest}, func(tx *catalog.Tx, proj *project) ([]catalog.Unlinked, error) {
		now, err := tx.Tag(t.repo, tag.name)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		same := now.Digest == tag.Digest && now.CheckedAt.Equal(tag.CheckedAt) && now.PulledAt.Equal(tag.PulledAt)
		if !same || proj.fixed(t.repo, tag.name) {
			return nil, nil
		}
		gone, err := tx.Untag(t.repo, tag.name)
		return []catalog.Unlinked{gone}, err
	})
}

// retireManifest removes a manifest, if it is as it was and has neither a tag nor an index above it,
// and reports whether it is gone.
func (t *retention) retireManifest(ctx context.Context, m catalog.Revision) (bool, error) {
	release, err := t.registry.ownWithTags(ctx, t.repo, m.Digest)
	if err != nil {
		return false, err
	}
	defer release()
	before := len(t.done)
	err = t.forget(ctx, Retired{t.repo, "", m.Digest}, func(tx *catalog.Tx, proj *project) ([]catalog.Unlinked, error) {
		held, err := tx.Held(t.repo, m.Digest)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && (!held.Loose || !held.LinkedAt.Equal(m.LinkedAt)) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if tags, err := tx.TagsOf(t.repo, m.Digest); err != nil || len(tags) > 0 {
			return nil, err
		}
		return tx.Unlink(t.repo, m.Digest)
	})
	return len(t.done) > before, err
}

// forget has the catalog forget something and removes the links that it names. The caller holds
// their locks.
func (t *retention) forget(ctx context.Context, what Retired, forget func(*catalog.Tx, *project) ([]catalog.Unlinked, error)) error {
	var gone []catalog.Unlinked
	err := t.registry.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		proj, err := ruled(tx, t.repo)
		if err != nil {
			return err
		}
		gone, err = forget(tx, proj)
		return err
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	t.done = append(t.done, what)
	return t.registry.unlink(ctx, gone)
}
