package storage

import (
	"container/list"
	"time"

	"github.com/opencontainers/go-digest"
)

// shelf knows which copies there are, in the order of their last use. It takes about 300 bytes for
// each. What is not on it may still be there: it is put there when it is found.
type shelf struct {
	order *list.List // of *standing, the last used first
	all   map[digest.Digest]*list.Element
	bytes int64
}

// standing is a copy on the shelf.
type standing struct {
	digest  digest.Digest
	size    int64
	stamped time.Time // what its file says of its last use
	checked time.Time // when its bytes were last compared with the digest; zero: by an earlier process
}

// block is what a file takes at least, and in steps of which it grows.
const block = 4 << 10

// cost is what a copy takes of the disk, near enough.
func cost(size int64) int64 { return (size + block - 1) / block * block }

func (s *shelf) start() { s.order, s.all = list.New(), map[digest.Digest]*list.Element{} }

// use puts a copy in front, and says how it stands.
func (s *shelf) use(d digest.Digest, size int64) *standing {
	e := s.all[d]
	if e == nil {
		e = s.order.PushFront(&standing{digest: d})
		s.all[d] = e
	}
	s.order.MoveToFront(e)
	one := e.Value.(*standing)
	s.bytes += cost(size) - cost(one.size)
	one.size = size
	return one
}

// append puts a copy at the end, unless it is there already.
func (s *shelf) append(one *standing) {
	if s.all[one.digest] == nil {
		s.all[one.digest] = s.order.PushBack(one)
		s.bytes += cost(one.size)
	}
}

// remove forgets a copy and reports whether it was there.
func (s *shelf) remove(d digest.Digest) bool {
	e := s.all[d]
	if e == nil {
		return false
	}
	delete(s.all, d)
	s.bytes -= cost(s.order.Remove(e).(*standing).size)
	return true
}

// last takes away the copy whose last use is longest ago.
func (s *shelf) last() *standing {
	e := s.order.Back()
	if e == nil {
		return nil
	}
	one := e.Value.(*standing)
	s.remove(one.digest)
	return one
}

// stampEvery is how often the file of a copy that is used is told so. Recency need not be exact to
// evict well; an hour saves almost every write.
const stampEvery = time.Hour

// used notes that a copy is used, and now and then has its file say so to the next process.
func (h *hot) used(d digest.Digest, size int64, name string) {
	now := time.Now()
	h.mu.Lock()
	one := h.shelf.use(d, size)
	stamp := now.Sub(one.stamped) > stampEvery
	if stamp {
		one.stamped = now
	}
	h.mu.Unlock()
	if stamp {
		// If that fails it is evicted before its time, after the next start.
		h.disk.call("stamp", name, func() error { return touch(name, now, time.Time{}) })
	}
}

// lost forgets a copy that is not where it was.
func (h *hot) lost(d digest.Digest) {
	h.mu.Lock()
	h.shelf.remove(d)
	h.mu.Unlock()
}

// trim has the least recently used copies go, behind whoever has brought one, until the others and
// those that are just coming have no more bytes than they may.
//
// Before it is known what earlier processes have left nothing goes but for want of room for drafts:
// what is on the shelf then is what is in use. So for that time, a few seconds, there may be more.
func (h *hot) trim() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trimming || h.closed || h.excess() <= 0 {
		return
	}
	h.trimming = true
	h.work.Go(func() {
		for {
			h.mu.Lock()
			n := h.excess()
			if n <= 0 || h.closed {
				h.trimming = false
				h.mu.Unlock()
				return
			}
			h.mu.Unlock()
			if h.evict(n) == 0 {
				h.mu.Lock()
				h.trimming = false // who brings the next one tries again
				h.mu.Unlock()
				return
			}
		}
	})
}

// excess is how many bytes are too much. The caller holds the lock.
func (h *hot) excess() int64 {
	if !h.walked {
		return 0
	}
	return h.shelf.bytes + h.filling - h.most
}

// evict removes the least recently used copies until n bytes are gone, and says how many are.
func (h *hot) evict(n int64) (gone int64) {
	for gone < n {
		h.mu.Lock()
		one := h.shelf.last()
		h.mu.Unlock()
		if one == nil {
			break
		}
		if err := h.disk.remove(h.path(one.digest)); err != nil {
			h.note(err)
			h.mu.Lock()
			h.shelf.append(one)
			h.mu.Unlock()
			break
		}
		gone += cost(one.size)
		h.counts.evicted.Add(1)
		h.counts.evictedBytes.Add(one.size)
	}
	return gone
}

// yield makes room for n bytes of somebody who needs them more, or does nothing when there are not
// as many, and reports whether it has.
func (h *hot) yield(n int64) bool {
	h.mu.Lock()
	enough := h.shelf.bytes >= n
	h.mu.Unlock()
	return enough && h.evict(n) > 0
}
