package cache

import (
	"sync"
	"time"

	"roadstead/registry"
)

// traffic keeps those who bring a piece of content, or write down that it is here, apart from
// those who take it away. Without it an eviction could remove what has just come again, and the
// row that says so would be written afterwards, for content that is gone.
type traffic struct {
	mu      sync.Mutex
	coming  map[registry.Digest]int           // how many bring it, until their row is written
	leaving map[registry.Digest]chan struct{} // closed when it is gone
}

// awayPatience is how long content that is leaving is waited for. A removal takes milliseconds;
// one that does not hangs on its disk, and that is not the client's trouble. At worst a row then
// stands for content that is gone, which the next pull heals.
const awayPatience = 5 * time.Second

// come announces content and waits while it is leaving. Each come is followed by one came.
func (t *traffic) come(d registry.Digest) {
	var late <-chan time.Time
	for {
		t.mu.Lock()
		away := t.leaving[d]
		if away == nil {
			break
		}
		t.mu.Unlock()
		if late == nil {
			late = time.After(awayPatience)
		}
		select {
		case <-away:
			continue
		case <-late:
		}
		t.mu.Lock()
		break
	}
	defer t.mu.Unlock()
	if t.coming == nil {
		t.coming = map[registry.Digest]int{}
	}
	t.coming[d]++
}

// came says that what was announced is here and written down, or will not come.
func (t *traffic) came(d registry.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.coming[d]--; t.coming[d] == 0 {
		delete(t.coming, d)
	}
}

// leave lets somebody take content away, unless it is coming or leaving already. He calls gone
// when it is.
func (t *traffic) leave(d registry.Digest) (gone func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.coming[d] > 0 || t.leaving[d] != nil {
		return nil, false
	}
	if t.leaving == nil {
		t.leaving = map[registry.Digest]chan struct{}{}
	}
	away := make(chan struct{})
	t.leaving[d] = away
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.leaving, d)
		close(away)
	}, true
}
