package storage

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Traffic keeps those who bring a piece of content, or write down that it is here, apart from
// those who take it away. Without it a removal could take what has just come again, and the row
// that says so would be written afterwards, for content that is gone.
//
// It holds for everybody who uses the same Store. The zero value is ready.
type Traffic struct {
	mu      sync.Mutex
	coming  map[digest.Digest]int           // how many bring it, until their row is written
	leaving map[digest.Digest]chan struct{} // closed when it is gone
}

// Come announces content, and waits while it is leaving, as long as patience lasts. A removal
// takes milliseconds; one that does not hangs on its disk. It reports whether the content is
// free to come: if not, it is announced all the same and a row written now may stand for
// nothing. Each Come is followed by one Came.
func (t *Traffic) Come(d digest.Digest, patience time.Duration) bool {
	var late <-chan time.Time
	free := true
	for {
		t.mu.Lock()
		away := t.leaving[d]
		if away == nil || !free {
			break
		}
		t.mu.Unlock()
		if late == nil {
			late = time.After(patience)
		}
		select {
		case <-away:
		case <-late:
			free = false
		}
	}
	defer t.mu.Unlock()
	if t.coming == nil {
		t.coming = map[digest.Digest]int{}
	}
	t.coming[d]++
	return free || t.leaving[d] == nil
}

// Came says that what was announced is here and written down, or will not come.
func (t *Traffic) Came(d digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.coming[d]--; t.coming[d] == 0 {
		delete(t.coming, d)
	}
}

// Leave lets somebody take content away, unless it is coming or leaving already. He calls gone
// when it is.
func (t *Traffic) Leave(d digest.Digest) (gone func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.coming[d] > 0 || t.leaving[d] != nil {
		return nil, false
	}
	if t.leaving == nil {
		t.leaving = map[digest.Digest]chan struct{}{}
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
