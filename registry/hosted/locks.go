package hosted

import (
	"slices"
	"sync"

	"roadstead/registry"
)

// locks keep the layout's link of a name and its row in the catalog the same: whoever changes the
// one and then the other holds the name's lock over both. A name is a digest in a repository,
// which those who bring it share, or a tag.
//
// The order is: digests first, in byte order, then tags, in byte order; and storage.Traffic behind
// them. Nobody but DeleteRepository holds two digests.
type locks struct {
	mu    sync.Mutex
	names map[name]*lock
}

type name struct {
	repo   registry.Repo
	tag    string
	digest registry.Digest
}

type lock struct {
	sync.RWMutex
	users int // who has it or waits for it; locks.mu guards it
}

// share holds a digest in a repository together with others who bring it.
func (l *locks) share(repo registry.Repo, d registry.Digest) (release func()) {
	n := name{repo: repo, digest: d}
	own := l.join(n)
	own.RLock()
	return func() {
		own.RUnlock()
		l.leave(n, own)
	}
}

// own holds a digest in a repository alone.
func (l *locks) own(repo registry.Repo, d registry.Digest) (release func()) {
	return l.hold(name{repo: repo, digest: d})
}

// tags holds some tags of a repository.
func (l *locks) tags(repo registry.Repo, tags []string) (release func()) {
	var all []func()
	for _, tag := range slices.Compact(slices.Sorted(slices.Values(tags))) {
		all = append(all, l.hold(name{repo: repo, tag: tag}))
	}
	return func() {
		for _, release := range all {
			release()
		}
	}
}

func (l *locks) hold(n name) (release func()) {
	own := l.join(n)
	own.Lock()
	return func() {
		own.Unlock()
		l.leave(n, own)
	}
}

func (l *locks) join(n name) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[name]*lock{}
	}
	own := l.names[n]
	if own == nil {
		own = &lock{}
		l.names[n] = own
	}
	own.users++
	return own
}

func (l *locks) leave(n name, own *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(l.names, n)
	}
}
