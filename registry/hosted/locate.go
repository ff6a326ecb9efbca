package hosted

import (
	"context"
	"errors"
	"time"

	"roadstead/registry"
	"roadstead/storage"
)

// Locate returns a URL at which a client can fetch a blob by itself, good for as long as ttl says; ""
// when Blob is to answer: what is shorter than least, and what the repository does not have or is not
// stored as it should be.
func (r *Registry) Locate(ctx context.Context, repo registry.Repo, d registry.Digest, least int64, ttl time.Duration) string {
	held, err := r.held(ctx, repo, d, registry.BlobUnknown)
	if err != nil || held.Size < least {
		return ""
	}
	url, size, err := r.store.Locate(ctx, d, ttl)
	if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, errors.ErrUnsupported) {
		r.fault("locate a stored blob", err, "repo", repo.String(), "digest", d)
	}
	if err != nil || size != held.Size {
		return ""
	}
	return url
}
