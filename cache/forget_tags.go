package cache

import (
	"context"
	"errors"
	"fmt"

	"roadstead/registry"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
)

// tries is how often a tag that moves while it is being forgotten is looked at.
const tries = 3

// tag removes a tag, and notes what it led to for the rest.
func (f *forgetting) tag(ctx context.Context, tag string) error {
	for range tries {
		t, err := f.cache.catalog.Tag(ctx, f.repo, tag)
		if errors.Is(err, catalog.ErrNotFound) {
			return f.cache.unknown(ctx, f.repo, ":"+tag)
		}
		if err != nil {
			return err
		}
		if err := f.cache.bar(ctx, f.repo, tag); err != nil {
			return err
		}
		there, err := f.untag(ctx, tag, t.Digest)
		if there || err != nil {
			return err
		}
	}
	return &registry.Fault{Code: registry.Conflict, Message: fmt.Sprintf("%s:%s is just moving: try again", f.repo, tag)}
}

// untag removes a tag that points to d, and says whether there was one.
func (f *forgetting) untag(ctx context.Context, tag string, d registry.Digest) (there bool, err error) {
	c := f.cache
	var all []catalog.Unlinked
	note := func(tx *catalog.Tx) error {
		all, there = nil, false // it may run twice
		t, err := tx.Tag(f.repo, tag)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && t.Digest != d {
			return nil
		}
		if err != nil {
			return err
		}
		there = true
		if d == "" {
			return tx.DeleteTag(f.repo, tag)
		}
		u, err := tx.Untag(f.repo, tag)
		all = append(all, u)
		return err
	}
	if d != "" {
		// Nobody points it to the same again before its link is gone.
		gone, err := c.leave(ctx, d)
		if err != nil {
			return false, err
		}
		defer gone()
		f.next = append(f.next, d)
	}
	if err := c.catalog.Durable(ctx, note); err != nil {
		return false, fmt.Errorf("forget tag %s:%s: %w", f.repo, tag, err)
	}
	if !there {
		return false, nil
	}
	c.step("forget: noted")
	c.memory.untag(tagKey{f.repo, tag}, d)
	ctx, cancel := c.keeping()
	defer cancel()
	if err := c.unlink(ctx, all); err != nil {
		c.fault("remove the link of a tag that is forgotten", err, "repo", f.repo.String(), "tag", tag)
	}
	c.step("forget: removed")
	return true, nil
}

// pins says what is pinned in the repository.
func (f *forgetting) pins(ctx context.Context) error {
	rules := f.project.rules
	if rules.pinnedWhole(f.repo.Name) {
		return pinned(f.repo, "")
	}
	if len(rules.pin) == 0 {
		return nil
	}
	return f.cache.catalog.RepositoryTags(ctx, f.repo, func(tag string, _ catalog.Tag) error {
		if rules.pinned(f.repo.Name, tag) {
			return pinned(f.repo, tag)
		}
		return nil
	})
}

// all removes everything in the repository: the content with the tags on it, then the tags that are
// left, on what upstream has thrown away or is not here.
func (f *forgetting) all(ctx context.Context) error {
	var page []registry.Digest
	flush := func() error {
		some := page
		page = nil
		err := f.some(ctx, some, f.unpinned)
		f.next = nil // the walk comes to all of it
		return err
	}
	err := f.cache.catalog.RepositoryContent(ctx, f.repo, func(d registry.Digest) error {
		if page = append(page, d); len(page) < atOnce {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	return f.cache.catalog.RepositoryTags(ctx, f.repo, func(tag string, t catalog.Tag) error {
		if t.Digest != "" && f.cache.has(ctx, f.repo, t.Digest) {
			return nil // it came again meanwhile, or could not go
		}
		_, err := f.untag(ctx, tag, t.Digest)
		return err
	})
}

// has reports whether a repository has a digest directly. A catalog in trouble says no.
func (c *Cache) has(ctx context.Context, repo registry.Repo, d registry.Digest) bool {
	found, err := c.catalog.Find(ctx, repo, d)
	return err == nil && found.Direct
}

// unlink removes links that the catalog has forgotten while others have the content, and notes that.
func (c *Cache) unlink(ctx context.Context, all []catalog.Unlinked) error {
	for _, u := range all {
		var err error
		if u.Tag != "" {
			err = c.store.UntagFrom(ctx, u.Repo.String(), u.Tag, u.Digest)
		} else {
			err = c.store.Unlink(ctx, u.Repo.String(), u.Digest)
		}
		if err != nil {
			return err
		}
	}
	return accord.Relink(ctx, c.store, c.catalog, all, true)
}

// finishUnlinks brings to their end the removals of links that were cut short. Those of hosted
// projects are not the cache's.
func (c *Cache) finishUnlinks(ctx context.Context) error {
	projects, err := c.catalog.Projects(ctx)
	if err != nil {
		return err
	}
	hosted := map[string]bool{}
	for _, p := range projects {
		hosted[p.Name] = true
	}
	var errs []error
	err = c.catalog.Unlinks(ctx, func(u catalog.Unlinked) error {
		if !hosted[u.Repo.Project] {
			errs = append(errs, c.finishUnlink(ctx, u))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

func (c *Cache) finishUnlink(ctx context.Context, u catalog.Unlinked) error {
	gone, ok := c.store.Traffic.Leave(u.Digest)
	if !ok {
		return nil
	}
	defer gone()
	if c.catalog.Shared() {
		return accord.Relink(ctx, c.store, c.catalog, []catalog.Unlinked{u}, false)
	}
	// It may be wanted again.
	if u.Tag != "" {
		t, err := c.catalog.Tag(ctx, u.Repo, u.Tag)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		ok = err == nil && !t.Gone && t.Digest == u.Digest
	} else {
		found, err := c.catalog.Find(ctx, u.Repo, u.Digest)
		if err != nil {
			return err
		}
		ok = found.Direct
	}
	if !ok {
		return c.unlink(ctx, []catalog.Unlinked{u})
	}
	return c.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.Relinked(u) })
}
