package cache

import (
	"context"
	"errors"
	"time"

	"roadstead/registry"
	"roadstead/storage"
)

// Locate returns a URL at which a client can fetch a blob by itself, good for as long as ttl says; ""
// when Blob is to answer: what is shorter than least, what the repository is not known to have by more
// than a manifest's word, what is just coming, and what is not stored as it should be. To whoever reads the figures it is a hit.
func (c *Cache) Locate(ctx context.Context, repo registry.Repo, d registry.Digest, least int64, ttl time.Duration) string {
	p, err := c.project(repo)
	if err != nil || p.rules.permitRepo(repo) != nil {
		return "" // Blob says so
	}
	c.flightsMu.Lock()
	f := c.flights[d]
	c.flightsMu.Unlock()
	if f != nil {
		return ""
	}
	k := contentKey{repo, d}
	if c.vouchBlob(ctx, p, k) != nil {
		return "" // the same
	}
	l := c.find(ctx, k)
	if l == nil || l.size >= 0 && l.size < least || !l.own() && !c.recall(ctx, k, l) {
		return ""
	}
	url, size, err := c.store.Locate(ctx, d, ttl)
	if err != nil {
		if !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, errors.ErrUnsupported) {
			c.fault("locate a stored blob", err, "repo", repo.String(), "digest", d)
		}
		return ""
	}
	if size < least || l.size >= 0 && l.size != size {
		return ""
	}
	c.keepLink(k, l, size)
	c.touch(l, d, time.Now())
	p.figures.count(ctx, registry.Hit)
	return url
}
