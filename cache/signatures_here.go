package cache

import (
	"context"

	"roadstead/registry"
)

// here is what is kept of a repository, as a place to look for signatures in: an image was carried across
// an air gap with them, or brought by a warm-up. A signature proves itself, wherever it comes from.
type here struct{ cache *Cache }

// Resolve says what a tag is known to point to, however old that is: more signatures may have come since,
// and the old ones are as good as they were.
func (h here) Resolve(ctx context.Context, repo registry.Repo, tag string) (registry.Descriptor, error) {
	k := tagKey{repo, tag}
	r, known, trouble := h.cache.tag(ctx, k)
	if trouble {
		r, known = h.cache.tagLaidOut(ctx, k)
	}
	if !known || r.Gone {
		return registry.Descriptor{}, registry.ManifestUnknown
	}
	return r.Descriptor, nil
}

func (h here) Manifest(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	k := contentKey{repo, d}
	if l := h.cache.find(ctx, k); l != nil {
		if m, ok := h.cache.manifestHere(ctx, k, l); ok {
			return m, nil
		}
	}
	return registry.Manifest{}, registry.ManifestUnknown
}

func (h here) Blob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	if h.cache.find(ctx, contentKey{repo, d}) == nil {
		return registry.Blob{}, registry.BlobUnknown
	}
	content, err := h.cache.store.Open(ctx, d)
	if err != nil {
		return registry.Blob{}, registry.BlobUnknown // it is damaged, or going
	}
	return registry.Blob{ReadSeekCloser: content, Size: content.Size}, nil
}

// Referrers lists those that are here. A catalog in trouble knows of none: the layout does not say what a
// manifest is about.
func (h here) Referrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string) (all []registry.Descriptor, err error) {
	err = h.cache.consult(ctx, func(ctx context.Context) (err error) {
		all, err = h.cache.catalog.Referrers(ctx, repo, d, artifactType)
		return err
	})
	if err != nil {
		h.cache.fault("list the referrers that are here", err, "repo", repo.String(), "digest", d)
		return nil, registry.ManifestUnknown
	}
	return all, nil
}
