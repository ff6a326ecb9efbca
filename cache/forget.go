package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// An administrator's removals follow the order of an eviction: the catalog notes what goes, then
// the links go from the layout, then from the disk what no other repository has. A crash in between
// leaves what finishRemovals brings to its end. What is on its way in is barred from being written
// down, unless it stays because something else leads to it; and who is reading reads on.

// Forget removes what a repository has cached under a digest: the tags on it, what it is made of,
// and what refers to it, as far as no other manifest is made of that and no tag leads there. The
// next pull asks upstream. What a pin holds is Denied, what is just being brought is Conflict, and
// what is not here NameUnknown or ManifestUnknown.
func (c *Cache) Forget(ctx context.Context, repo registry.Repo, d registry.Digest) error {
	p, err := c.project(repo)
	if err != nil {
		return err
	}
	if err := c.arrived(ctx, only(repo)); err != nil {
		return err
	}
	tags, err := c.leads(ctx, repo, d)
	if err != nil {
		return err
	}
	if err := c.bar(ctx, repo, append(tags, string(d))...); err != nil {
		return err
	}
	gone, err := c.leave(ctx, d)
	if err != nil {
		return err
	}
	f := &forgetting{cache: c, project: p, repo: repo}
	n, err := f.forget(ctx, []leaving{{d, gone}}, f.unpinned)
	if err == nil && n == 0 {
		err = c.unknown(ctx, repo, "@"+string(d))
	}
	if err != nil {
		return err
	}
	return f.rest(ctx)
}

// ForgetTag removes a tag, and of what it leads to what nothing else in the repository leads to,
// as Forget does.
func (c *Cache) ForgetTag(ctx context.Context, repo registry.Repo, tag string) error {
	p, err := c.project(repo)
	if err != nil {
		return err
	}
	if p.rules.pinned(repo.Name, tag) {
		return pinned(repo, tag)
	}
	if err := c.arrived(ctx, only(repo)); err != nil {
		return err
	}
	f := &forgetting{cache: c, project: p, repo: repo}
	if err := f.tag(ctx, tag); err != nil {
		return err
	}
	return f.rest(ctx)
}

// ForgetRepository removes all that a repository has cached, and its tags. A pin on anything in it
// is Denied, and then nothing has gone. It goes page by page and may be ended by ctx at any time;
// what was being brought meanwhile stays and is told of as Conflict.
func (c *Cache) ForgetRepository(ctx context.Context, repo registry.Repo) error {
	p, err := c.project(repo)
	if err != nil {
		return err
	}
	if err := c.arrived(ctx, only(repo)); err != nil {
		return err
	}
	has, err := c.catalog.HasRepository(ctx, repo)
	if err != nil {
		return err
	}
	if !has {
		return &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf("nothing of %s is cached", repo)}
	}
	f := &forgetting{cache: c, project: p, repo: repo}
	if err := f.pins(ctx); err != nil {
		return err
	}
	if err := c.bar(ctx, repo, ""); err != nil {
		return err
	}
	if err := f.all(ctx); err != nil {
		return err
	}
	c.memory.forgetRepository(repo)
	if f.busy > 0 {
		return &registry.Fault{Code: registry.Conflict, Message: fmt.Sprintf("%d pieces of %s were just being brought and stay, the rest is forgotten: try again when the pulls have ended", f.busy, repo)}
	}
	return nil
}

func pinned(repo registry.Repo, tag string) error {
	what := repo.String()
	if tag != "" {
		what += ":" + tag
	}
	return &registry.Fault{Code: registry.Denied, Message: fmt.Sprintf("%s is pinned in project %s: take it off the pin list first", what, repo.Project)}
}

// unknown is what is not here.
func (c *Cache) unknown(ctx context.Context, repo registry.Repo, reference string) error {
	has, err := c.catalog.HasRepository(ctx, repo)
	if err != nil {
		return err
	}
	if !has {
		return &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf("nothing of %s is cached", repo)}
	}
	return &registry.Fault{Code: registry.ManifestUnknown, Message: fmt.Sprintf("%s%s is not cached", repo, reference)}
}

// leads returns the tags on what is to be forgotten, or why it cannot be. What is refused here has
// barred nothing.
func (c *Cache) leads(ctx context.Context, repo registry.Repo, d registry.Digest) ([]string, error) {
	gone, err := c.leave(ctx, d)
	if err != nil {
		return nil, err
	}
	gone() // whoever writes down that it is here has to be able to, until it is barred
	found, err := c.catalog.Find(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	if !found.Direct {
		return nil, c.unknown(ctx, repo, "@"+string(d))
	}
	return c.catalog.TagsOf(ctx, repo, d)
}

// arrived waits until the manifests and tags of some repositories that are on their way into the store
// are there, and until the catalog has heard of what is there: a client has its answer before that,
// and may ask for the removal next.
func (c *Cache) arrived(ctx context.Context, of func(registry.Repo) bool) error {
	for _, keep := range c.keeps.matching(func(k contentKey) bool { return of(k.repo) }) {
		keep.wait(ctx) // whether it could be kept is not asked here
	}
	for late := time.Now().Add(awayPatience); c.saves.busy(of) && time.Now().Before(late) && ctx.Err() == nil; {
		time.Sleep(glance)
	}
	patience, cancel := context.WithTimeout(ctx, catalogPatience)
	defer cancel()
	if err := c.flush(patience); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// only is the repository itself.
func only(repo registry.Repo) func(registry.Repo) bool {
	return func(r registry.Repo) bool { return r == repo }
}

// leave is Traffic.Leave for somebody who waits for a while until content has come.
func (c *Cache) leave(ctx context.Context, d registry.Digest) (gone func(), err error) {
	for late := time.Now().Add(awayPatience); ; {
		gone, ok := c.store.Traffic.Leave(d)
		if ok {
			return gone, nil
		}
		if time.Now().After(late) {
			return nil, &registry.Fault{Code: registry.Conflict, Message: fmt.Sprintf("%s is just being brought: try again when the pull has ended", d), RetryAfter: awayPatience}
		}
		select {
		case <-time.After(glance):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// forgetting is one removal in a repository.
type forgetting struct {
	cache   *Cache
	project *project
	repo    registry.Repo
	next    []registry.Digest // that may have lost what led to them
	busy    int               // pieces that could not go because they were coming
}

// leaving is content that nobody brings until gone is called.
type leaving struct {
	digest registry.Digest
	gone   func()
}

// atOnce is how many pieces share a transaction.
const atOnce = 64

// rest removes what has lost its last lead, and what loses it by that.
func (f *forgetting) rest(ctx context.Context) error {
	for len(f.next) > 0 {
		n := min(len(f.next), atOnce)
		page := f.next[:n]
		f.next = f.next[n:]
		stray, err := f.strays(ctx, page)
		if err != nil {
			return err
		}
		if err := f.cache.bar(ctx, f.repo, stray...); err != nil {
			return err
		}
		if err := f.some(ctx, page, f.loose); err != nil {
			return err
		}
	}
	return nil
}

// strays are those of some content to which nothing in the repository leads any more, be it here or
// still on its way.
func (f *forgetting) strays(ctx context.Context, digests []registry.Digest) (all []string, err error) {
	err = f.cache.catalog.Update(ctx, func(tx *catalog.Tx) error {
		all = nil // it may run twice
		for _, d := range digests {
			parents, err := tx.Parents(f.repo, d)
			if err != nil {
				return err
			}
			free, err := f.untagged(tx, d)
			if err != nil {
				return err
			}
			if free && len(parents) == 0 {
				all = append(all, string(d))
			}
		}
		return nil
	})
	return all, err
}

// some removes those of some content that may go and that nobody is bringing.
func (f *forgetting) some(ctx context.Context, digests []registry.Digest, may func(*catalog.Tx, registry.Digest) (bool, error)) error {
	var all []leaving
	seen := map[registry.Digest]bool{}
	for _, d := range digests {
		if seen[d] {
			continue
		}
		seen[d] = true
		if gone, ok := f.cache.store.Traffic.Leave(d); ok {
			all = append(all, leaving{d, gone})
		} else {
			f.busy++
		}
	}
	_, err := f.forget(ctx, all, may)
	return err
}

// forget removes what may go, and lets all of it come again. It returns how much went.
func (f *forgetting) forget(ctx context.Context, all []leaving, may func(*catalog.Tx, registry.Digest) (bool, error)) (int, error) {
	defer func() {
		for _, l := range all {
			l.gone()
		}
	}()
	c := f.cache
	var parted []catalog.Parted
	var near map[registry.Digest][]registry.Digest
	err := c.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		parted, near = nil, map[registry.Digest][]registry.Digest{} // it may run twice
		for _, l := range all {
			ok, err := may(tx, l.digest)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			parts, partsErr := tx.Parts(l.digest)
			about, aboutErr := tx.About(f.repo, l.digest)
			one, ok, err := tx.ForgetIn(f.repo, l.digest)
			if err := errors.Join(partsErr, aboutErr, err); err != nil {
				return err
			}
			if ok {
				parted = append(parted, one)
				near[l.digest] = append(parts, about...)
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("forget content of %s: %w", f.repo, err)
	}
	c.step("forget: noted")
	for _, one := range parted {
		if err := c.part(f.repo, one); err != nil {
			// It is forgotten all the same. What is left of it goes with the next look.
			c.fault("remove what is forgotten", err, "repo", f.repo.String(), "digest", one.Digest)
		}
		c.memory.unlink(f.repo, append(near[one.Digest], one.Digest))
		f.next = append(f.next, near[one.Digest]...)
		c.step("forget: removed")
	}
	return len(parted), nil
}

// part removes the files of what the catalog has forgotten.
func (c *Cache) part(repo registry.Repo, one catalog.Parted) error {
	ctx, cancel := c.keeping() // outlives its caller: it is noted already
	defer cancel()
	if one.Removal != nil {
		return c.clear(ctx, *one.Removal)
	}
	for _, u := range one.Unlinked {
		if u.Tag != "" {
			c.memory.untag(tagKey{repo, u.Tag}, u.Digest)
		}
	}
	return c.unlink(ctx, one.Unlinked)
}

// unpinned says that content may go, unless a pin holds it: on the repository, or on a tag of it
// that leads there, be it through an index.
func (f *forgetting) unpinned(tx *catalog.Tx, d registry.Digest) (bool, error) {
	rules := f.project.rules
	if len(rules.pin) == 0 {
		return true, nil
	}
	if rules.pinnedWhole(f.repo.Name) {
		return false, pinned(f.repo, "")
	}
	seen := map[registry.Digest]bool{d: true}
	for next := []registry.Digest{d}; len(next) > 0; next = next[1:] {
		tags, err := tx.EverTagged(f.repo, next[0])
		if err != nil {
			return false, err
		}
		if i := slices.IndexFunc(tags, func(tag string) bool { return rules.pinned(f.repo.Name, tag) }); i >= 0 {
			return false, pinned(f.repo, tags[i])
		}
		parents, err := tx.Parents(f.repo, next[0])
		if err != nil {
			return false, err
		}
		for _, above := range parents {
			if !seen[above] {
				seen[above] = true
				next = append(next, above)
			}
		}
	}
	return true, nil
}

// loose says whether nothing in the repository leads to content any more: no manifest is made of it,
// and there is no tag on it, nor a pinned one that upstream has thrown away.
func (f *forgetting) loose(tx *catalog.Tx, d registry.Digest) (bool, error) {
	has, err := tx.Held(f.repo, d)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && !has.Loose {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return f.untagged(tx, d)
}

// untagged says whether there is no tag on content, nor a pinned one that upstream has thrown away.
func (f *forgetting) untagged(tx *catalog.Tx, d registry.Digest) (bool, error) {
	if tags, err := tx.TagsOf(f.repo, d); err != nil || len(tags) > 0 {
		return false, err
	}
	rules := f.project.rules
	if rules.pinnedWhole(f.repo.Name) {
		return false, nil
	}
	ever, err := tx.EverTagged(f.repo, d)
	held := slices.ContainsFunc(ever, func(tag string) bool { return rules.pinned(f.repo.Name, tag) })
	return err == nil && !held, err
}
