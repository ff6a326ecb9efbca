package hosted

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"roadstead/registry"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
)

// What is deleted goes first from the catalog, which in the same transaction notes the links of
// the layout that have to follow, and then from the layout. A crash between the two leaves the
// notes, and finish brings the removal to its end: a stock registry on our directory sees the
// same, and no adoption brings back what was deleted. The other way round a crash would leave a
// row for what the layout does not have, of a deletion that nobody was told of.
//
// The content itself stays until a collection finds that no repository has it.

// DeleteTag removes a tag.
func (r *Registry) DeleteTag(ctx context.Context, repo registry.Repo, tag string) error {
	if _, err := r.project(repo); err != nil {
		return err
	}
	defer r.locks.tags(repo, []string{tag})()
	return r.delete(ctx, repo, func(tx *catalog.Tx, proj *project) ([]catalog.Unlinked, error) {
		if proj.fixed(repo, tag) {
			if _, err := tx.Tag(repo, tag); err == nil {
				return nil, fixed(repo, tag)
			}
		}
		gone, err := tx.Untag(repo, tag)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil, fmt.Errorf("%s:%s: %w", repo, tag, registry.ManifestUnknown)
		}
		return []catalog.Unlinked{gone}, err
	})
}

// DeleteManifest removes a manifest and the tags that point to it.
func (r *Registry) DeleteManifest(ctx context.Context, repo registry.Repo, d registry.Digest) error {
	if _, err := r.project(repo); err != nil {
		return err
	}
	release, err := r.ownWithTags(ctx, repo, d)
	if err != nil {
		return trouble(err)
	}
	defer release()
	return r.delete(ctx, repo, func(tx *catalog.Tx, proj *project) ([]catalog.Unlinked, error) {
		held, err := tx.Held(repo, d)
		if err := asManifest(repo, d, held, err); err != nil {
			return nil, err
		}
		tag, err := fixedAbove(tx, proj, repo, d)
		if err == nil && tag != "" {
			err = fixed(repo, tag)
		}
		if err != nil {
			return nil, err
		}
		return tx.Unlink(repo, d)
	})
}

// DeleteBlob removes a blob that no manifest of the repository is made of. A manifest is no blob
// here, or deleting it as one would go round the rules for its tags.
func (r *Registry) DeleteBlob(ctx context.Context, repo registry.Repo, d registry.Digest) error {
	if _, err := r.project(repo); err != nil {
		return err
	}
	defer r.locks.own(repo, d)()
	return r.delete(ctx, repo, func(tx *catalog.Tx, _ *project) ([]catalog.Unlinked, error) {
		held, err := tx.Held(repo, d)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && held.MediaType != "" {
			return nil, fmt.Errorf("%s@%s: %w", repo, d, registry.BlobUnknown)
		}
		if err != nil {
			return nil, err
		}
		if !held.Loose {
			return nil, &registry.Fault{Code: registry.Denied, Message: fmt.Sprintf("a manifest of %s is made of %s: delete that first", repo, d)}
		}
		return tx.Unlink(repo, d)
	})
}

// ownWithTags holds a digest in a repository alone, and the tags that point to it. As long as it
// is held, no others come to point there.
func (r *Registry) ownWithTags(ctx context.Context, repo registry.Repo, d registry.Digest) (release func(), err error) {
	digest := r.locks.own(repo, d)
	tags, err := r.catalog.TagsOf(ctx, repo, d)
	if err != nil {
		digest()
		return nil, err
	}
	all := r.locks.tags(repo, tags)
	return func() {
		all()
		digest()
	}, nil
}

// delete has the catalog forget something and removes the links that it names. The caller holds
// their locks.
func (r *Registry) delete(ctx context.Context, repo registry.Repo, forget func(*catalog.Tx, *project) ([]catalog.Unlinked, error)) error {
	var gone []catalog.Unlinked
	err := r.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		proj, err := ruled(tx, repo)
		if err != nil {
			return err
		}
		gone, err = forget(tx, proj)
		return err
	})
	if err != nil {
		return r.refuse(trouble(err))
	}
	if len(gone) == 0 {
		return nil
	}
	r.totals.deleted.Add(1)
	r.step("delete: forgotten")
	if err := r.unlink(ctx, gone); err != nil {
		// It is deleted all the same. What is left of it goes with the next collection.
		r.fault("remove the links of what is deleted", err, "repo", repo.String())
	}
	return nil
}

// unlink removes links that the catalog has forgotten, and notes that. What could not be removed is
// still listed, and finish tries again.
func (r *Registry) unlink(ctx context.Context, all []catalog.Unlinked) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	for _, u := range all {
		var err error
		if u.Tag != "" {
			err = r.untag(ctx, u)
		} else {
			err = r.store.Unlink(ctx, u.Repo.String(), u.Digest)
		}
		if err != nil {
			return err
		}
		r.step("delete: unlinked")
	}
	// Not synced: what is lost is done again and finds nothing to do.
	return accord.Relink(ctx, r.store, r.catalog, all, true)
}

// untag removes a tag that the catalog has forgotten; the caller holds its lock. When there is none by
// that name it goes whatever it points to: a push that a crash has cut short before its row may have
// moved it in the layout.
func (r *Registry) untag(ctx context.Context, u catalog.Unlinked) error {
	_, err := r.catalog.Tag(ctx, u.Repo, u.Tag)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return r.store.Untag(ctx, u.Repo.String(), u.Tag)
	case err != nil:
		return err
	}
	return r.store.UntagFrom(ctx, u.Repo.String(), u.Tag, u.Digest)
}

// finishUnlinks brings to their end the deletions that were cut short. Those of proxy projects are the
// cache's, which knows what is on its way into them.
func (r *Registry) finishUnlinks(ctx context.Context) error {
	projects, err := r.catalog.Projects(ctx)
	if err != nil {
		return err
	}
	return r.catalog.Unlinks(ctx, func(u catalog.Unlinked) error {
		if !slices.ContainsFunc(projects, func(p catalog.Project) bool { return p.Name == u.Repo.Project }) {
			return nil
		}
		if u.Tag != "" {
			defer r.locks.tags(u.Repo, []string{u.Tag})()
		} else {
			defer r.locks.own(u.Repo, u.Digest)()
		}
		if r.catalog.Shared() {
			return accord.Relink(ctx, r.store, r.catalog, []catalog.Unlinked{u}, false)
		}
		wanted, err := r.wanted(ctx, u)
		if err != nil {
			return err
		}
		if !wanted {
			return r.unlink(ctx, []catalog.Unlinked{u})
		}
		return r.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.Relinked(u) })
	})
}

// wanted reports whether a link has been pushed again since it was forgotten.
func (r *Registry) wanted(ctx context.Context, u catalog.Unlinked) (bool, error) {
	var err error
	if u.Tag != "" {
		var t catalog.Tag
		t, err = r.catalog.Tag(ctx, u.Repo, u.Tag)
		if err == nil && t.Digest != u.Digest {
			return false, nil // UntagFrom leaves it alone
		}
	} else {
		_, err = r.catalog.Held(ctx, u.Repo, u.Digest)
	}
	if errors.Is(err, catalog.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func fixed(repo registry.Repo, tag string) error {
	return &registry.Fault{
		Code:    registry.Denied,
		Message: fmt.Sprintf("tag %s of %s is immutable: neither it nor what it points to can be deleted", tag, repo),
	}
}

// fixedAbove returns an immutable tag that points to a manifest, or to an index of the repository
// that it is part of, or "".
func fixedAbove(tx *catalog.Tx, proj *project, repo registry.Repo, d registry.Digest) (string, error) {
	if len(proj.immutable) == 0 {
		return "", nil
	}
	seen := map[registry.Digest]bool{d: true}
	for next := []registry.Digest{d}; len(next) > 0; next = next[1:] {
		tags, err := tx.TagsOf(repo, next[0])
		if err != nil {
			return "", err
		}
		if i := slices.IndexFunc(tags, func(tag string) bool { return proj.fixed(repo, tag) }); i >= 0 {
			return tags[i], nil
		}
		parents, err := tx.Parents(repo, next[0])
		if err != nil {
			return "", err
		}
		for _, p := range parents {
			if !seen[p] {
				seen[p] = true
				next = append(next, p)
			}
		}
	}
	return "", nil
}
