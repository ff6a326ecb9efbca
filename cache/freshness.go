package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Freshness is what is known of a cached tag.
type Freshness struct {
	registry.Descriptor           // what it points to, or last did
	CheckedAt           time.Time // when upstream last answered for it
	ChangedAt           time.Time // when it was first seen to point here
	Stale               bool      // the next pull asks upstream before it is answered
	Gone                bool      // upstream has no such tag any more
}

// Freshness says how fresh a cached tag is, and asks nobody. One that was never seen to point to
// anything is ManifestUnknown.
func (c *Cache) Freshness(ctx context.Context, repo registry.Repo, tag string) (Freshness, error) {
	p, err := c.project(repo)
	if err != nil {
		return Freshness{}, err
	}
	r, ok := c.memory.tag(tagKey{repo, tag})
	if !ok {
		r.Tag, err = c.catalog.Tag(ctx, repo, tag)
	}
	if errors.Is(err, catalog.ErrNotFound) || err == nil && (r.Digest == "" || r.Evicted()) {
		return Freshness{}, &registry.Fault{Code: registry.ManifestUnknown, Message: fmt.Sprintf("%s:%s is not cached", repo, tag)}
	}
	if err != nil {
		return Freshness{}, err
	}
	return Freshness{
		Descriptor: r.Descriptor, CheckedAt: r.CheckedAt, ChangedAt: r.ChangedAt,
		Stale: !p.fresh(r, time.Now()), Gone: r.Gone,
	}, nil
}

// Refresh asks upstream now what a tag points to, however fresh it is, and brings the manifest here
// if it is another. Whoever asks the same at the same time, pulls among them, shares the question.
// moved says that the tag points elsewhere than it was known to, or was not known.
//
// An error leaves the record of the tag as it was, unless it says that upstream has no such tag.
func (c *Cache) Refresh(ctx context.Context, repo registry.Repo, tag string) (moved bool, d registry.Descriptor, err error) {
	p, err := c.project(repo)
	if err != nil {
		return false, registry.Descriptor{}, err
	}
	if err := p.rules.permitTag(repo, tag); err != nil {
		p.figures.denied.Add(1)
		return false, registry.Descriptor{}, err
	}
	k := tagKey{repo, tag}
	born := c.forgotten.number.Load()
	old, known, _ := c.tag(ctx, k)
	check, _ := c.refreshes.joinFor(ctx, errand{"check tag", repo, tag}, k, c.work.start, func(span registry.Span) (tagRecord, error) {
		return c.refresh(registry.WithSpan(c.life, span), p, k, old, known, born)
	})
	now, err := check.wait(ctx)
	if err != nil {
		return false, registry.Descriptor{}, err
	}
	return !known || old.Gone || old.Digest != now.Digest, now.Descriptor, nil
}

// Pinned reports whether what a tag leads to is never evicted because of its project's pins.
func (c *Cache) Pinned(repo registry.Repo, tag string) bool {
	p, err := c.project(repo)
	return err == nil && p.rules.pinned(repo.Name, tag)
}

// Permit says why a project's rules keep what a tag or a digest stands for from being served, or nil.
// It counts nothing.
func (c *Cache) Permit(ctx context.Context, repo registry.Repo, tag string, d registry.Digest) error {
	p, err := c.project(repo)
	if err != nil {
		return err
	}
	if d == "" {
		return p.rules.permitTag(repo, tag)
	}
	known, err := c.catalog.Find(ctx, repo, d)
	if err != nil {
		return err
	}
	return p.rules.permitDigest(repo, d, known.Linked)
}

// Ages are for how long a tag of a project is served without a question to upstream, and for how long
// when upstream cannot be asked; zero is without end. ok is false for what is no project here.
func (c *Cache) Ages(project string) (ttl, staleFor time.Duration, ok bool) {
	p, err := c.project(registry.Repo{Project: project})
	if err != nil {
		return 0, 0, false
	}
	return max(p.TTL, 0), p.StaleFor, true
}

// Remembered returns a manifest of a repository that is served from memory. It may still be on its way
// into the store and the catalog.
func (c *Cache) Remembered(repo registry.Repo, d registry.Digest) (registry.Manifest, bool) {
	if l := c.memory.link(contentKey{repo, d}); l == nil || !l.own() {
		return registry.Manifest{}, false
	}
	return c.memory.manifest(d)
}
