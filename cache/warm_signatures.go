package cache

import (
	"context"
	"errors"
	"fmt"

	"roadstead/registry"
	"roadstead/registry/signature"
)

// Signatures are brought with an image where the project looks at them, and where somebody asks for it: so
// they are here for a time without upstream, and are carried to where there is none.

// signatures brings those of a manifest or, of an index that has none, those of what is brought of it:
// who signs an index signs what is in it.
func (w *warming) signatures(ctx context.Context, d registry.Digest) error {
	found, err := w.signaturesOf(ctx, d)
	if found || err != nil {
		return err
	}
	m, err := here{w.cache}.Manifest(ctx, w.repo, d)
	if err != nil {
		return nil // it has just been brought, and is going again
	}
	_, refs, err := registry.ParseManifest(m.MediaType, d, m.Bytes)
	if err != nil {
		return err
	}
	for _, child := range refs.Manifests {
		if !w.seen[child.Digest] {
			continue
		}
		if _, err := w.signaturesOf(ctx, child.Digest); err != nil {
			return err
		}
	}
	return nil
}

// signaturesOf brings those of one manifest, and says whether there are any. What is wrong with one is
// noted; only that upstream is in trouble ends it.
func (w *warming) signaturesOf(ctx context.Context, d registry.Digest) (found bool, err error) {
	var all []registry.Digest
	tag, err := w.cache.Resolve(ctx, w.repo, signature.Tag(d))
	if err == nil {
		all = append(all, tag.Digest)
	}
	if err := w.passed(ctx, err); err != nil {
		return false, err
	}
	list, err := w.cache.Referrers(ctx, w.repo, d, "")
	if err := w.passed(ctx, err); err != nil {
		return false, err
	}
	for _, referrer := range list {
		if signature.IsBundle(referrer.ArtifactType) && len(all) < mostReferrers {
			all = append(all, referrer.Digest)
		}
	}
	w.apart = true
	defer func() { w.apart = false }()
	for _, one := range all {
		if err := w.passed(ctx, w.manifest(ctx, one, &registry.Trace{})); err != nil {
			return false, err
		}
	}
	return len(all) > 0, nil
}

// passed notes what is wrong with a signature, unless there is none or it may not be had, and returns what
// is wrong with all.
func (w *warming) passed(ctx context.Context, err error) error {
	switch {
	case err == nil || registry.Unknown(err) || errors.Is(err, registry.Denied):
		return nil
	case ctx.Err() != nil || errors.Is(err, registry.TooLarge) || registry.Passing(err):
		return fmt.Errorf("signatures: %w", err)
	}
	w.fail(err)
	return nil
}
