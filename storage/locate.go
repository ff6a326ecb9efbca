package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// Locate makes a URL at which anybody can read content without asking us, for as long as ttl says,
// and says how long the content is: ErrNotFound when there is none, errors.ErrUnsupported where content
// has no URL. Whoever writes such a URL into a log gives the content away.
func (s *Store) Locate(ctx context.Context, d digest.Digest, ttl time.Duration) (url string, size int64, err error) {
	r, _ := s.tree.(*remote)
	if r == nil {
		return "", 0, errors.ErrUnsupported
	}
	signer, ok := r.driver.(interface {
		Presign(ctx context.Context, method, path string, ttl time.Duration) (string, error)
	})
	if !ok {
		return "", 0, errors.ErrUnsupported
	}
	if size, err = s.Stat(ctx, d); err != nil {
		return "", 0, err
	}
	name, err := blobPath(d)
	if err != nil {
		return "", 0, err
	}
	if url, err = signer.Presign(ctx, "GET", "/"+name, ttl); err != nil {
		return "", 0, fmt.Errorf("locate %s: %w", d, driverError(err))
	}
	return url, size, nil
}
