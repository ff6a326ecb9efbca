package cache

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// recorder writes to the catalog behind the requests. What it is told late or never costs one
// more question to upstream: the layout, written first, has the content, and memory the news.
type recorder struct {
	mu      sync.Mutex
	closed  bool
	queue   chan row
	flushed chan chan struct{}
	touched map[registry.Digest]time.Time // uses that are to be written
	writing map[registry.Digest]time.Time // and those that are being written
}

// row is one write. ended is called when it has been made, or will not be: then whoever uses
// what it is about tries again.
type row struct {
	write func(*catalog.Tx) error
	ended func(written bool)
}

const (
	// queued is how many writes may wait, some MB of them. A catalog that is that far behind is
	// away for long, and waiting for it would make its trouble the clients'.
	queued = 8192

	// batch is how many writes share a transaction: enough to make its cost small, few
	// enough that a failing one takes little with it.
	batch = 256

	// writePatience bounds one transaction.
	writePatience = 30 * time.Second

	// touchEvery is how often recency goes to the catalog. Recency need not be exact to
	// evict well; an hour's grain and a minute's delay save almost every write.
	touchEvery = time.Minute

	// touchBatch is how many uses share a transaction. Whoever writes has the only turn there is, in a
	// cluster that of all nodes; so many take some milliseconds of it.
	touchBatch = 1000

	// mostTouched bounds the uses that wait for a catalog in trouble, to some 20 MB.
	mostTouched = 1 << 17
)

func newRecorder() recorder {
	return recorder{
		queue:   make(chan row, queued),
		flushed: make(chan chan struct{}),
		touched: map[registry.Digest]time.Time{},
		writing: map[registry.Digest]time.Time{},
	}
}

// later queues one write. When the queue is full the write is dropped and counted.
func (c *Cache) later(write func(*catalog.Tx) error, ended func(written bool)) {
	if !c.recorder.take(row{write, ended}) {
		c.totals.dropped.Add(1)
		ended(false)
	}
}

// take queues a row if there is room.
func (r *recorder) take(next row) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	select {
	case r.queue <- next:
		return true
	default:
		return false
	}
}

// touch notes that content was used, at most once an hour for each link.
func (c *Cache) touch(l *link, d registry.Digest, now time.Time) {
	hour := now.Unix() / 3600
	if at := l.touchedAt.Load(); at == hour || !l.touchedAt.CompareAndSwap(at, hour) {
		return
	}
	c.recorder.mu.Lock()
	defer c.recorder.mu.Unlock()
	c.recorder.touched[d] = now
}

// usedAt is when content was last used, as far as the catalog may not know it yet.
func (r *recorder) usedAt(d registry.Digest) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.touched[d]; ok {
		return at
	}
	return r.writing[d]
}

// startTouches returns the uses that are to be written.
func (r *recorder) startTouches() map[registry.Digest]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	touched := r.touched
	r.touched = map[registry.Digest]time.Time{}
	maps.Copy(r.writing, touched)
	return touched
}

// endTouches says that some of these are written, or could not be. Then they wait for the next time: on a
// full disk an eviction begins with them, and must not take what was used just now.
func (r *recorder) endTouches(touched map[registry.Digest]time.Time, some []registry.Digest, written bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range some {
		at := touched[d]
		if r.writing[d].Equal(at) {
			delete(r.writing, d)
		}
		if _, newer := r.touched[d]; !written && !newer && len(r.touched) < mostTouched {
			r.touched[d] = at
		}
	}
}

func (r *recorder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	close(r.queue)
}

// record writes until the recorder is closed and the queue is empty.
func (c *Cache) record() {
	touch := time.NewTicker(touchEvery)
	defer touch.Stop()
	for {
		select {
		case next, open := <-c.recorder.queue:
			if !open {
				c.writeTouches()
				return
			}
			c.write(c.gather(next))
			c.press() // what has been written counts from now on
		case <-touch.C:
			c.writeTouches()
		case done := <-c.recorder.flushed:
			for len(c.recorder.queue) > 0 {
				c.write(c.gather())
			}
			c.writeTouches()
			close(done)
		}
	}
}

// gather takes what else is waiting, up to a batch.
func (c *Cache) gather(rows ...row) []row {
	for len(rows) < batch {
		select {
		case next, open := <-c.recorder.queue:
			if !open {
				return rows
			}
			rows = append(rows, next)
		default:
			return rows
		}
	}
	return rows
}

// write makes a batch of writes in one transaction. When that fails each is tried alone, so
// that one which cannot be made takes no other with it.
func (c *Cache) write(rows []row) {
	err := c.patiently(func(tx *catalog.Tx) error {
		for _, r := range rows {
			if err := r.write(tx); err != nil {
				return err
			}
		}
		return nil
	})
	failed, why := 0, err
	for _, r := range rows {
		if err != nil && len(rows) > 1 && !errors.Is(err, catalog.ErrUnavailable) {
			why = c.update(r.write)
		}
		if why != nil {
			failed++
			c.totals.dropped.Add(1)
		}
		r.ended(why == nil)
	}
	if failed > 0 {
		c.fault("write to the catalog", err, "writes", failed)
	}
}

func (c *Cache) update(write func(*catalog.Tx) error) error {
	// Outlives the requests that caused it, and the cache's own life: what was learnt before
	// the end is still written.
	ctx, cancel := context.WithTimeout(context.Background(), writePatience)
	defer cancel()
	return c.catalog.Update(ctx, write)
}

func (c *Cache) writeTouches() {
	touched := c.recorder.startTouches()
	if len(touched) == 0 {
		return
	}
	// One time for all: they lie within a minute of each other.
	var latest time.Time
	for _, at := range touched {
		if at.After(latest) {
			latest = at
		}
	}
	var err error
	for digests := range slices.Chunk(slices.Collect(maps.Keys(touched)), touchBatch) {
		if err == nil { // what has failed once waits for the next time, all the rest with it
			err = c.update(func(tx *catalog.Tx) error { return tx.Touch(digests, latest) })
		}
		c.recorder.endTouches(touched, digests, err == nil)
	}
	if err != nil {
		c.fault("write recency to the catalog", err, "digests", len(touched))
	}
}

// flush waits until all that has been queued is written. It needs Run to be running.
func (c *Cache) flush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case c.recorder.flushed <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
