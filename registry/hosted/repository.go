package hosted

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// atOneGo is how many manifests or blobs of a repository are deleted in one transaction: enough
// that its sync is a small part of the work, few enough that pushes beside it do not wait for long.
const atOneGo = 64

// DeleteRepository removes all that a repository has: its manifests and tags, and its links to the
// blobs that nothing is made of then. Their content goes with the next collection, if no other
// repository has it. One that is not there is NameUnknown.
//
// With an immutable tag in it nothing is deleted: that is looked for before anything else. The
// deletion itself goes page by page, each page as whole as the deletion of one manifest; so what
// is cut short, by ctx or a crash, leaves whole images, and an index goes before its manifests.
// What is pushed meanwhile stays, with what it is made of; a push that has sent its blobs and not
// yet its manifest may have to send them again.
func (r *Registry) DeleteRepository(ctx context.Context, repo registry.Repo) error {
	proj, err := r.project(repo)
	if err != nil {
		return err
	}
	has, err := r.catalog.HasRepository(ctx, repo)
	if err != nil {
		return trouble(err)
	}
	if !has {
		return fmt.Errorf("%s: %w", repo, registry.NameUnknown)
	}
	began := time.Now()
	err = r.catalog.RepositoryTags(ctx, repo, func(tag string, t catalog.Tag) error {
		if proj.fixed(repo, tag) {
			return r.refuse(fixed(repo, tag))
		}
		began = later(began, t.CheckedAt) // by the clock of the node that it was pushed to
		return nil
	})
	if err == nil && r.catalog.Shared() {
		err = r.catalog.Revisions(ctx, repo, func(m catalog.Revision) error {
			began = later(began, m.LinkedAt)
			return nil
		})
	}
	for _, part := range []func(context.Context, registry.Repo, time.Time) error{r.deleteManifests, r.deleteTags, r.deleteLoose} {
		if err == nil {
			err = part(ctx, repo, began)
		}
	}
	return trouble(err)
}

// deleteManifests deletes the manifests of a repository that were pushed before it began. One that
// an index of the repository is made of goes once that is gone.
func (r *Registry) deleteManifests(ctx context.Context, repo registry.Repo, began time.Time) error {
	for {
		p := pageOf[catalog.Revision]{
			fn: func(all []catalog.Revision) (int, error) { return r.deleteRevisions(ctx, repo, all) },
		}
		err := r.catalog.Revisions(ctx, repo, func(m catalog.Revision) error {
			if m.LinkedAt.After(began) {
				return nil
			}
			return p.add(m)
		})
		if err == nil {
			err = p.flush()
		}
		if err != nil || p.done == 0 {
			return err
		}
	}
}

func (r *Registry) deleteRevisions(ctx context.Context, repo registry.Repo, all []catalog.Revision) (int, error) {
	linked := map[registry.Digest]time.Time{}
	digests := make([]registry.Digest, len(all))
	for i, m := range all {
		digests[i], linked[m.Digest] = m.Digest, m.LinkedAt
	}
	return r.deleteAll(ctx, repo, digests, func(tx *catalog.Tx, proj *project, d registry.Digest) ([]catalog.Unlinked, error) {
		held, err := tx.Held(repo, d)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && (!held.Loose || !held.LinkedAt.Equal(linked[d])) {
			return nil, nil // it is gone, part of an index that stays so far, or was pushed again
		}
		if err != nil {
			return nil, err
		}
		tag, err := fixedAbove(tx, proj, repo, d)
		if err == nil && tag != "" {
			err = fixed(repo, tag) // which came after the look for one
		}
		if err != nil {
			return nil, err
		}
		return tx.Unlink(repo, d)
	})
}

// deleteTags deletes the tags that are left: on manifests that something pushed meanwhile is made of.
func (r *Registry) deleteTags(ctx context.Context, repo registry.Repo, began time.Time) error {
	return r.catalog.RepositoryTags(ctx, repo, func(tag string, t catalog.Tag) error {
		if t.CheckedAt.After(began) {
			return nil
		}
		defer r.locks.tags(repo, []string{tag})()
		return r.delete(ctx, repo, func(tx *catalog.Tx, proj *project) ([]catalog.Unlinked, error) {
			now, err := tx.Tag(repo, tag)
			if errors.Is(err, catalog.ErrNotFound) || err == nil && !now.CheckedAt.Equal(t.CheckedAt) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			if proj.fixed(repo, tag) {
				return nil, fixed(repo, tag)
			}
			gone, err := tx.Untag(repo, tag)
			return []catalog.Unlinked{gone}, err
		})
	})
}

// deleteLoose deletes the blobs that no manifest of the repository is made of, however new: the
// deletion of that manifest has begun their grace anew, and a repository that is deleted is not to
// be listed for another day.
func (r *Registry) deleteLoose(ctx context.Context, repo registry.Repo, _ time.Time) error {
	always := time.Now().Add(defaultAge)
	p := pageOf[registry.Digest]{fn: func(all []registry.Digest) (int, error) {
		return r.deleteAll(ctx, repo, all, func(tx *catalog.Tx, _ *project, d registry.Digest) ([]catalog.Unlinked, error) {
			return tx.ForgetLoose(repo, d, always)
		})
	}}
	err := r.catalog.RepositoryLooseBlobs(ctx, repo, always, func(l catalog.Loose) error { return p.add(l.Digest) })
	if err == nil {
		err = p.flush()
	}
	return err
}

// deleteAll is delete for several digests of a repository, with the tags that point to them. It
// returns how many of them forget has found to be deleted.
func (r *Registry) deleteAll(ctx context.Context, repo registry.Repo, digests []registry.Digest, forget func(*catalog.Tx, *project, registry.Digest) ([]catalog.Unlinked, error)) (int, error) {
	release, err := r.ownAllWithTags(ctx, repo, digests)
	if err != nil {
		return 0, err
	}
	defer release()
	n := 0
	err = r.delete(ctx, repo, func(tx *catalog.Tx, proj *project) (all []catalog.Unlinked, err error) {
		n = 0
		for _, d := range digests {
			gone, err := forget(tx, proj, d)
			if err != nil {
				return nil, err
			}
			if len(gone) > 0 {
				n++
			}
			all = append(all, gone...)
		}
		return all, nil
	})
	if err == nil && n > 0 {
		r.totals.deleted.Add(int64(n) - 1) // one is counted
	}
	return n, err
}

// ownAllWithTags is ownWithTags for several digests.
func (r *Registry) ownAllWithTags(ctx context.Context, repo registry.Repo, digests []registry.Digest) (release func(), err error) {
	var held []func()
	release = func() {
		for _, let := range slices.Backward(held) {
			let()
		}
	}
	for _, d := range slices.Compact(slices.Sorted(slices.Values(digests))) {
		held = append(held, r.locks.own(repo, d))
	}
	var tags []string
	for _, d := range digests {
		of, err := r.catalog.TagsOf(ctx, repo, d)
		if err != nil {
			release()
			return nil, err
		}
		tags = append(tags, of...)
	}
	held = append(held, r.locks.tags(repo, tags))
	return release, nil
}

// pageOf hands things on, as many as go at once, and counts what fn says was done of them.
type pageOf[T any] struct {
	fn      func([]T) (int, error)
	waiting []T
	done    int
}

func (p *pageOf[T]) add(x T) error {
	p.waiting = append(p.waiting, x)
	if len(p.waiting) < atOneGo {
		return nil
	}
	return p.flush()
}

func (p *pageOf[T]) flush() error {
	if len(p.waiting) == 0 {
		return nil
	}
	n, err := p.fn(p.waiting)
	p.done += n
	p.waiting = nil
	return err
}
