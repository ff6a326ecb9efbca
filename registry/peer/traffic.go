package peer

import (
	"sync"

	"roadstead/registry"
)

// traffic keeps two nodes that each take the other for the owner from waiting for each other. What
// this node is asking another for, it does not answer third ones for; and while it answers for
// something, it counts itself as the owner.
type traffic struct {
	mu        sync.Mutex
	asking    map[registry.Digest]int
	serving   map[registry.Digest]int
	inquiring map[registry.Digest]int // what upstream is being asked for, and has not begun to answer
}

// ask begins to ask another node, unless this one is answering for the digest.
func (t *traffic) ask(d registry.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return count(&t.asking, d, t.serving[d] == 0)
}

// serve begins to answer another node, unless this one is asking for the digest itself.
func (t *traffic) serve(d registry.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return count(&t.serving, d, t.asking[d] == 0)
}

// inquire begins to ask upstream, until done is called.
func (t *traffic) inquire(d registry.Digest) (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count(&t.inquiring, d, true)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		discount(t.inquiring, d)
	}
}

// inquires reports whether upstream is what is waited for.
func (t *traffic) inquires(d registry.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inquiring[d] > 0
}

func (t *traffic) asked(d registry.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	discount(t.asking, d)
}

func (t *traffic) served(d registry.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	discount(t.serving, d)
}

func count(m *map[registry.Digest]int, d registry.Digest, ok bool) bool {
	if !ok {
		return false
	}
	if *m == nil {
		*m = map[registry.Digest]int{}
	}
	(*m)[d]++
	return true
}

func discount(m map[registry.Digest]int, d registry.Digest) {
	if m[d]--; m[d] == 0 {
		delete(m, d)
	}
}
