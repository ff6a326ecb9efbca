package hosted

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Resolve says what a tag points to.
func (r *Registry) Resolve(ctx context.Context, repo registry.Repo, tag string) (registry.Descriptor, error) {
	if _, err := r.project(repo); err != nil {
		return registry.Descriptor{}, err
	}
	t, err := r.catalog.Tag(ctx, repo, tag)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && (t.Gone || t.Digest == "") {
		return registry.Descriptor{}, fmt.Errorf("%s:%s: %w", repo, tag, registry.ManifestUnknown)
	}
	if err != nil {
		return registry.Descriptor{}, trouble(err)
	}
	r.pulls.tag(repo, tag, t.PulledAt, time.Now())
	return registry.Descriptor{MediaType: t.MediaType, Digest: t.Digest, Size: t.Size}, nil
}

// Manifest returns a manifest that the repository has.
func (r *Registry) Manifest(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	held, err := r.held(ctx, repo, d, registry.ManifestUnknown)
	if err == nil && held.MediaType == "" {
		err = fmt.Errorf("%s@%s is a blob: %w", repo, d, registry.ManifestUnknown)
	}
	if err != nil {
		return registry.Manifest{}, err
	}
	b, err := r.manifestBytes(ctx, repo, d)
	if err != nil {
		return registry.Manifest{}, err
	}
	r.pulls.manifest(d, time.Now())
	return registry.Manifest{Descriptor: registry.Descriptor{MediaType: held.MediaType, Digest: d, Size: int64(len(b))}, Bytes: b}, nil
}

// manifestBytes reads a manifest that the repository is known to have.
func (r *Registry) manifestBytes(ctx context.Context, repo registry.Repo, d registry.Digest) ([]byte, error) {
	b, err := r.store.Read(ctx, d, registry.MaxManifest)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrDamaged) {
		return nil, r.damaged(repo, d, err)
	}
	return b, trouble(err)
}

// Blob opens a blob that the repository has.
func (r *Registry) Blob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	held, err := r.held(ctx, repo, d, registry.BlobUnknown)
	if err != nil {
		return registry.Blob{}, err
	}
	c, err := r.store.Open(ctx, d)
	if errors.Is(err, storage.ErrNotFound) {
		return registry.Blob{}, r.damaged(repo, d, err)
	}
	if err != nil {
		return registry.Blob{}, trouble(err)
	}
	if c.Size != held.Size {
		c.Close()
		return registry.Blob{}, r.damaged(repo, d, fmt.Errorf("it is %d bytes long instead of %d", c.Size, held.Size))
	}
	return registry.Blob{ReadSeekCloser: c.ReadSeekCloser, Size: c.Size}, nil
}

// StatBlob says how large a blob is. Whoever pushes asks that, and goes on without sending the
// blob if it is here. So what nothing refers to yet is safe from collection from now on for as
// long as if it had been sent. And what is damaged is BlobUnknown, so that it is sent, and heals.
func (r *Registry) StatBlob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Descriptor, error) {
	held, err := r.held(ctx, repo, d, registry.BlobUnknown)
	if err != nil {
		return registry.Descriptor{}, err
	}
	if err := r.whole(ctx, repo, d, held.Size); err != nil {
		return registry.Descriptor{}, err
	}
	// A hundredth of the grace is soon enough: few of these questions cost a write then, and a
	// collection leaves what is that much older.
	if now := time.Now(); held.Loose && now.Sub(held.LinkedAt) > r.grace/renewals {
		var here bool
		err := r.catalog.Durable(ctx, func(tx *catalog.Tx) (err error) {
			here, err = tx.Renew(repo, d, now)
			return err
		})
		if err != nil {
			return registry.Descriptor{}, trouble(err)
		}
		if !here {
			return registry.Descriptor{}, fmt.Errorf("%s@%s: %w", repo, d, registry.BlobUnknown)
		}
	}
	return registry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: held.Size}, nil
}

// renewals is how many times in its grace an unreferenced blob is renewed at most.
const renewals = 100

// whole says whether a blob's file is there as it should be, or BlobUnknown.
func (r *Registry) whole(ctx context.Context, repo registry.Repo, d registry.Digest, size int64) error {
	n, err := r.store.Stat(ctx, d)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return trouble(err)
	case n == size:
		return nil
	default:
		err = fmt.Errorf("it is %d bytes long instead of %d", n, size)
	}
	return fmt.Errorf("%w: %w", registry.BlobUnknown, r.damaged(repo, d, err).Err)
}

// Tags lists tags in byte order.
func (r *Registry) Tags(ctx context.Context, repo registry.Repo, after string, n int) ([]string, error) {
	if _, err := r.project(repo); err != nil {
		return nil, err
	}
	tags, err := r.catalog.Tags(ctx, repo, after, n)
	if err != nil {
		return nil, trouble(err)
	}
	if len(tags) > 0 {
		return tags, nil
	}
	has, err := r.catalog.HasRepository(ctx, repo)
	if err != nil {
		return nil, trouble(err)
	}
	if !has {
		return nil, fmt.Errorf("%s: %w", repo, registry.NameUnknown)
	}
	return nil, nil
}

// Referrers lists the manifests of the repository whose subject is d.
func (r *Registry) Referrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	if _, err := r.project(repo); err != nil {
		return nil, err
	}
	all, err := r.catalog.DirectReferrers(ctx, repo, d, artifactType)
	if err != nil {
		return nil, trouble(err)
	}
	return all, nil
}

// held says what the catalog has of a digest in a repository, or that it is unknown.
func (r *Registry) held(ctx context.Context, repo registry.Repo, d registry.Digest, unknown registry.Code) (catalog.Held, error) {
	if _, err := r.project(repo); err != nil {
		return catalog.Held{}, err
	}
	held, err := r.catalog.Held(ctx, repo, d)
	if errors.Is(err, catalog.ErrNotFound) {
		return catalog.Held{}, fmt.Errorf("%s@%s: %w", repo, d, unknown)
	}
	if err != nil {
		return catalog.Held{}, trouble(err)
	}
	return held, nil
}

// Doubt is told that a blob which was given out could not be read to its end, and why. It is
// reported and stays where it is: nobody else has it, and what can be read of it may be all that
// is left. A copy of it on this node goes: the next who asks gets the content itself.
func (r *Registry) Doubt(repo registry.Repo, d registry.Digest, err error) {
	if r.store.Cool(d) {
		r.log.Warn("a copy of stored content cannot be read and is dropped", "repo", repo.String(), "digest", d, "err", err)
		return
	}
	r.damaged(repo, d, err) // the client has its answer already
}

// damaged reports stored content that is not what it should be.
func (r *Registry) damaged(repo registry.Repo, d registry.Digest, err error) *registry.Fault {
	r.totals.damaged.Add(1)
	r.log.Error("stored content is damaged: push it again to heal it", "repo", repo.String(), "digest", d, "err", err)
	return &registry.Fault{
		Code:    registry.Unavailable,
		Message: fmt.Sprintf("the stored content of %s is damaged: pushing it again heals it", d),
		Err:     err,
	}
}
