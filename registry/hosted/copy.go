package hosted

import (
	"context"
	"errors"
	"fmt"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// CopyTag points a tag of a repository to a manifest that the repository has: by its digest, or
// by another tag that points to it now. It is a push of that manifest under the tag, with the same
// rules and the same promise, but for the bytes, which are here. Again is harmless.
func (r *Registry) CopyTag(ctx context.Context, repo registry.Repo, reference, tag string) (registry.Descriptor, error) {
	proj, err := r.project(repo)
	if err != nil {
		return registry.Descriptor{}, err
	}
	d, err := r.referred(ctx, repo, reference)
	if err != nil {
		return registry.Descriptor{}, err
	}
	var m registry.Descriptor
	err = r.bring(ctx, bringing{
		repo: repo, digest: d, tags: []string{tag}, project: proj.ID,
		check: func(ctx context.Context) error {
			held, err := r.catalog.Held(ctx, repo, d)
			if err := asManifest(repo, d, held, err); err != nil {
				return err
			}
			return r.mayTag(ctx, proj, repo, d, []string{tag})
		},
		place: func(ctx context.Context) error {
			// What is not here whole must not get one more name.
			if _, err := r.manifestBytes(ctx, repo, d); err != nil {
				return err
			}
			return r.store.Tag(ctx, repo.String(), tag, d)
		},
		write: func(tx *catalog.Tx, proj *project) error {
			held, err := tx.Held(repo, d) // it may have been deleted since
			if err := asManifest(repo, d, held, err); err != nil {
				return err
			}
			m = registry.Descriptor{MediaType: held.MediaType, Digest: d, Size: held.Size}
			return point(tx, proj, repo, m, []string{tag})
		},
	})
	if err != nil {
		return registry.Descriptor{}, r.refuse(err)
	}
	return m, nil
}

// referred returns the digest that a reference, a tag or itself a digest, stands for.
func (r *Registry) referred(ctx context.Context, repo registry.Repo, reference string) (registry.Digest, error) {
	if d, err := registry.ParseDigest(reference); err == nil {
		return d, nil
	}
	t, err := r.catalog.Tag(ctx, repo, reference)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && (t.Gone || t.Digest == "") {
		return "", fmt.Errorf("%s:%s: %w", repo, registry.Clip(reference), registry.ManifestUnknown)
	}
	return t.Digest, trouble(err)
}

// asManifest says why what the catalog has of a digest is no manifest of the repository, or nil.
func asManifest(repo registry.Repo, d registry.Digest, held catalog.Held, err error) error {
	if errors.Is(err, catalog.ErrNotFound) || err == nil && held.MediaType == "" {
		return fmt.Errorf("%s@%s: %w", repo, d, registry.ManifestUnknown)
	}
	return err
}
