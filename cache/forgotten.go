package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roadstead/registry"
)

// forgotten keeps what was begun before something was forgotten from being written down after it: a
// pull that is under way would bring back what an administrator has just seen go. Whoever asks after
// the forgetting brings it back as ever.
//
// Forgettings are counted. Work remembers the number at its beginning, and nothing of it goes into
// layout, catalog or memory when what it is about has been forgotten under a higher one. What is
// lost by that is one question to upstream. A hit takes no lock for it: work begins with a look at
// the number, and while that has not changed nothing has been forgotten.
type forgotten struct {
	number atomic.Uint64 // of the last forgetting

	mu      sync.Mutex
	notes   *simplelru.LRU[mention, uint64] // the last forgetting of each
	lost    uint64                          // up to here notes have been dropped, so older work is barred whatever it is about
	writing map[*writing]struct{}
}

// mention is a tag or a digest in a repository, or with an empty reference all of it.
type mention struct {
	repo      registry.Repo
	reference string
}

// writing is work that is being written down. A forgetting waits for that which began before it.
type writing struct {
	repo       registry.Repo
	references []string
	done       chan struct{}
}

// mostForgotten bounds the notes, to some 200 kB. More forgettings than that while one download
// lasts are a clearing out; then the download is not kept, whoever asked for it.
const mostForgotten = 1 << 10

func (f *forgotten) start() {
	f.writing = map[*writing]struct{}{}
	f.notes = newLRU(mostForgotten, func(_ mention, n uint64) { f.lost = max(f.lost, n) })
}

// since reports whether something has been forgotten since born: the repository, or one of the
// references in it.
func (f *forgotten) since(born uint64, repo registry.Repo, references ...string) bool {
	if f.number.Load() == born {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.barred(born, repo, references)
}

// barred is since; mu is held.
func (f *forgotten) barred(born uint64, repo registry.Repo, references []string) bool {
	after := func(reference string) bool {
		n, _ := f.notes.Peek(mention{repo, reference})
		return n > born
	}
	return born < f.lost || after("") || slices.ContainsFunc(references, after)
}

// enter announces that work which began at born is written down now, unless it is barred. The
// caller calls left when it is in the catalog as well, or will not be.
func (f *forgotten) enter(born uint64, repo registry.Repo, references ...string) (left func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.barred(born, repo, references) {
		return nil, false
	}
	w := &writing{repo, references, make(chan struct{})}
	f.writing[w] = struct{}{}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.writing, w)
		close(w.done)
	}, true
}

// note bars what has begun so far, and returns what is being written of it.
func (f *forgotten) note(repo registry.Repo, references []string) []*writing {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.number.Add(1)
	for _, reference := range references {
		f.notes.Add(mention{repo, reference}, n)
	}
	var under []*writing
	for w := range f.writing {
		if w.repo == repo && (slices.Contains(references, "") || slices.ContainsFunc(w.references, func(r string) bool { return slices.Contains(references, r) })) {
			under = append(under, w)
		}
	}
	return under
}

// bar bars what has begun so far of some references in a repository, or of all of it by "", and
// waits until what is being written of it has been written: so whoever removes it then finds it all.
func (c *Cache) bar(ctx context.Context, repo registry.Repo, references ...string) error {
	if len(references) == 0 {
		return nil
	}
	under := c.barred(repo, references...)
	late := time.NewTimer(awayPatience)
	defer late.Stop()
	for _, w := range under {
		select {
		case <-w.done:
		case <-late.C:
			return &registry.Fault{Code: registry.Conflict, Message: fmt.Sprintf("what was pulled of %s is still being stored: try again when that has ended", repo), RetryAfter: awayPatience}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// barred bars what has begun so far, and returns what is being written of it.
func (c *Cache) barred(repo registry.Repo, references ...string) []*writing {
	under := c.forgotten.note(repo, references)
	about := func(r registry.Repo, reference string) bool {
		return r == repo && (slices.Contains(references, "") || slices.Contains(references, reference))
	}
	// Who asks from now on starts anew, and does not share the answer to a question that is barred.
	c.refreshes.drop(func(k tagKey) bool { return about(k.repo, k.tag) })
	c.fetches.drop(func(k contentKey) bool { return about(k.repo, string(k.digest)) })
	c.keeps.drop(func(k contentKey) bool { return about(k.repo, string(k.digest)) })
	return under
}
