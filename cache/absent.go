package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
)

// absence remembers for a moment what a bucket has said that it does not have. A miss looks there more
// than once, before and after it has found that nobody else brings the blob, and each look is a request
// that the client waits for. A directory is asked for nothing.
//
// What another node stores in that moment is brought from that node, which is where it would be asked
// for anyway.
type absence struct {
	mu  sync.Mutex
	all map[digest.Digest]time.Time
}

const (
	absentFor  = 2 * time.Second
	mostAbsent = 4096
)

func (a *absence) recent(d digest.Digest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	since, ok := a.all[d]
	return ok && time.Since(since) < absentFor
}

func (a *absence) note(d digest.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil || len(a.all) >= mostAbsent {
		a.all = map[digest.Digest]time.Time{}
	}
	a.all[d] = time.Now()
}

func (a *absence) end(d digest.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, d)
}

// statStored is the store's Stat, for whoever can do without content that has come just now.
func (c *Cache) statStored(ctx context.Context, d digest.Digest) (int64, error) {
	if c.absent.recent(d) {
		return 0, storage.ErrNotFound
	}
	size, err := c.store.Stat(ctx, d)
	c.missed(d, err)
	return size, err
}

// openStored is the store's Open in the same way.
func (c *Cache) openStored(ctx context.Context, d digest.Digest) (storage.Content, error) {
	if c.absent.recent(d) {
		return storage.Content{}, storage.ErrNotFound
	}
	content, err := c.store.Open(ctx, d)
	c.missed(d, err)
	return content, err
}

// openLent is openStored for content that only a manifest names. A copy on this node may have outlived
// it, where the news that it was taken away has not come: then it is dropped, because no row says that
// it may answer.
func (c *Cache) openLent(ctx context.Context, d registry.Digest) (storage.Content, error) {
	if _, copies := c.store.Hot(); copies {
		if _, err := c.statStored(ctx, d); errors.Is(err, storage.ErrNotFound) {
			c.store.Cool(d)
			return storage.Content{}, err
		}
	}
	return c.openStored(ctx, d)
}

func (c *Cache) missed(d digest.Digest, err error) {
	if errors.Is(err, storage.ErrNotFound) && !c.store.Together() {
		c.absent.note(d)
	}
}
