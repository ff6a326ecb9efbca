package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// flight brings one blob from upstream into a draft, once, for however many readers. Its
// goroutine belongs to the cache: it goes on when every reader has left, and a slow reader
// slows nobody, because each reads the draft at an offset of its own.
type flight struct {
	cache    *Cache
	project  *project
	key      contentKey // the repository that is asked
	expected int64      // size by a manifest's word, or -1
	since    time.Time
	kept     bool // its coming ends with the row of its content; the flight's goroutine alone knows

	mediaType string // by a manifest's word, or ""

	span registry.Span // of its first reader's request, what the flight is a piece of; nil: nobody traces it

	// ready is closed when the first byte may be read: the size is known, or the flight has
	// failed, or its readers have to help themselves.
	ready chan struct{}

	// done is closed when the flight is over: its content is in the store, or will not be by way of
	// this cache. Another node from which it came may still be storing it, see keptElsewhere.
	done chan struct{}

	mu      sync.Mutex
	size    int64          // of the whole blob; valid once ready
	draft   *storage.Draft // nil until there is one
	written int64          // bytes in the draft
	proved  bool           // all bytes are there and have the digest
	bypass  bool           // the draft could not be kept: readers go to upstream themselves
	err     error          // why there is no more to come
	moved   chan struct{}  // closed at the next change of the above; nil while nobody waits
	holders int            // who still needs the draft's file: the flight and its readers
	born    uint64         // the number of the last forgetting when somebody last asked the flight's repository for it
}

// flight returns the flight of a digest, starting one from the repository of k if there is
// none, and makes the caller a holder who must leave it. It returns nil when the house is
// closing.
func (c *Cache) flight(ctx context.Context, p *project, k contentKey, l *link) (f *flight, joined bool) {
	c.flightsMu.Lock()
	defer c.flightsMu.Unlock()
	if f := c.flights[k.digest]; f != nil {
		f.mu.Lock()
		f.holders++
		if f.key.repo == k.repo {
			f.born = c.forgotten.number.Load() // it is wanted again, whatever was forgotten
		}
		f.mu.Unlock()
		return f, true
	}
	f = &flight{born: c.forgotten.number.Load(), cache: c, project: p, key: k, expected: -1, since: time.Now(), ready: make(chan struct{}), done: make(chan struct{}), size: -1, holders: 2}
	if l != nil {
		f.expected, f.mediaType = l.size, l.mediaType.Value()
	}
	if asked := registry.SpanOf(ctx); asked != nil {
		f.span = asked.Start("fetch blob")
		f.span.Note(registry.About(k.repo, string(k.digest))...)
	}
	c.flights[k.digest] = f
	if !c.work.start(f.run) {
		delete(c.flights, k.digest)
		if f.span != nil {
			f.span.End(errClosing)
		}
		return nil, false
	}
	return f, false
}

// join waits for a flight that somebody else has begun, and is seen to.
func (f *flight) join(ctx context.Context) error {
	ctx, span := registry.StartSpan(ctx, "wait for blob")
	span.Link(f.span)
	err := f.wait(ctx)
	span.End(err)
	return err
}

// wait blocks until the flight can be read from, or has failed before that.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bypass {
		return nil
	}
	return f.err
}

// whole reports whether all bytes are here, and proved, whether they are kept yet or not.
func (f *flight) whole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proved
}

// leave gives up a hold on the draft's file. The last one closes it.
func (f *flight) leave() {
	f.mu.Lock()
	f.holders--
	last := f.holders == 0
	draft := f.draft
	f.mu.Unlock()
	if !last || draft == nil {
		return
	}
	if err := draft.Close(); err != nil {
		f.cache.fault("close a draft", err, "digest", f.key.digest)
	}
}

// run is the flight itself.
func (f *flight) run() {
	c := f.cache
	defer f.leave()
	defer close(f.done)
	c.store.Traffic.Come(f.key.digest, awayPatience)
	defer func() {
		if !f.kept {
			c.store.Traffic.Came(f.key.digest)
		}
	}()
	err := f.fly(registry.WithSpan(c.life, f.span))
	if f.span != nil {
		f.mu.Lock()
		f.span.Note(slog.Int64("bytes", f.written), slog.Bool("passed_through", f.bypass))
		f.mu.Unlock()
		f.span.End(err)
	}
	// From here on who asks finds the content in the store or among the hot copies, or starts anew.
	c.flightsMu.Lock()
	delete(c.flights, f.key.digest)
	c.flightsMu.Unlock()
	if err != nil {
		f.land(err)
	}
}

func (f *flight) fly(ctx context.Context) error {
	c, p := f.cache, f.project
	refused := refusalKey{f.key.repo, string(f.key.digest)}
	if err := c.memory.refusal(refused); err != nil {
		return err
	}
	if f.landed(ctx) {
		return nil
	}
	draft, total, err := f.fetch(ctx)
	if registry.Unknown(err) {
		c.memory.refuse(refused, err, p.Negative)
	}
	if errors.Is(err, errCorrupt) {
		p.figures.corrupt.Add(1)
		err = corrupt(p.Name, f.key.digest, err)
		c.memory.refuse(refused, err, corruptFor)
		c.log.Warn("corrupt content from upstream", "repo", f.key.repo.String(), "digest", f.key.digest, "err", err)
	}
	if draft != nil {
		_, keeping := registry.StartSpan(ctx, "keep blob")
		f.keep(draft, total)
		keeping.End(nil)
	}
	return err
}

// fetch opens the blob at upstream and brings it into a draft. It returns the draft only when
// that is proved, and lets go of upstream before anything is kept.
func (f *flight) fetch(ctx context.Context) (*storage.Draft, int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	src, err := f.project.Upstream.Blob(ctx, f.key.repo, f.key.digest)
	f.project.health.note(err)
	if err != nil {
		return nil, 0, err
	}
	defer src.Close()
	size, err := f.agree(src.Size)
	if err != nil {
		return nil, 0, err
	}
	draft, err := f.reserve(ctx, size)
	if err != nil {
		return nil, 0, f.pass(size, err)
	}
	f.begin(size, draft)
	f.cache.calm.begin()
	defer f.cache.calm.end()
	in := receive(src.ReadSeekCloser)
	defer in.stop(cancel)
	total, err := f.copy(in, size, draft)
	if err != nil {
		return nil, 0, err
	}
	if total < 0 {
		return nil, 0, nil
	}
	f.cache.memory.addProof(f.key, total)
	return draft, total, nil
}

// landed looks once more into the store: another flight of the digest may have ended between
// the caller's look and this flight's start. It serves the readers from there.
func (f *flight) landed(ctx context.Context) bool {
	c := f.cache
	l := c.memory.link(f.key)
	if l == nil || !l.own() && !c.lent(ctx, f.key) {
		return false
	}
	b, ok := c.blobHere(ctx, f.key, l)
	if !ok {
		return false
	}
	b.Close()
	f.mu.Lock()
	f.size, f.bypass = b.Size, true // a reader's own way finds the stored content first
	f.mu.Unlock()
	close(f.ready)
	return true
}

// agree settles the size between upstream's word and the manifest's.
func (f *flight) agree(size int64) (int64, error) {
	switch {
	case size < 0:
		return f.expected, nil
	case f.expected >= 0 && size != f.expected:
		return 0, fmt.Errorf("%w: it is said to be %d bytes long, a manifest says %d", errCorrupt, size, f.expected)
	}
	return size, nil
}

// share gives another repository, whose request has joined a flight, a link of its own once
// the content is here.
func (c *Cache) share(f *flight, k contentKey, l *link) {
	if l == nil || k == f.key || l.direct.Load() {
		return
	}
	c.work.start(func() {
		<-f.done
		ctx, cancel := c.keeping()
		defer cancel()
		if size, err := c.store.Stat(ctx, k.digest); err == nil {
			c.keepLink(k, l, size)
		}
	})
}

// errCorrupt marks content that is not what its digest says.
var errCorrupt = errors.New("corrupt content")

// copy writes the bytes into the draft and proves them. It returns how many there are, or -1
// when the readers have been sent on their own way.
func (f *flight) copy(in *intake, size int64, draft *storage.Draft) (total int64, err error) {
	for p := range in.pieces {
		n := p.n
		if total += int64(n); size >= 0 && total > size {
			p.release()
			return 0, fmt.Errorf("%w: more than the %d bytes that it should have", errCorrupt, size)
		}
		if n > 0 {
			if !p.shared {
				f.project.figures.upstream.Add(int64(n))
			}
			_, err := draft.Write(p.buf[:n])
			p.release()
			if errors.Is(err, storage.ErrFull) {
				f.cache.want(max(size, min(2*total, mostUnsized)))
			}
			if err != nil {
				return -1, f.pass(size, err)
			}
			f.step(total)
		} else {
			p.release()
		}
		if p.err != nil && p.err != io.EOF {
			f.project.health.note(p.err)
			return 0, p.err
		}
	}
	if err := draft.Verify(f.key.digest, size); err != nil {
		return 0, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	f.prove(total)
	return total, nil
}

// pass sends the readers to upstream: this node cannot keep the blob.
func (f *flight) pass(size int64, err error) error {
	c := f.cache
	c.totals.passed.Add(1)
	c.fault("keep a blob", err, "repo", f.key.repo.String(), "digest", f.key.digest)
	if size < 0 {
		return &registry.Fault{Code: registry.Unavailable, Message: "there is no room for a blob of which upstream does not tell the size", Err: err}
	}
	f.mu.Lock()
	f.bypass = true
	begun := f.size >= 0
	if !begun {
		f.size = size
	}
	f.wake()
	f.mu.Unlock()
	if !begun {
		close(f.ready)
	}
	return nil
}

// begin opens the draft to the readers, unless the size is unknown or so small that the blob
// is verified first.
func (f *flight) begin(size int64, draft *storage.Draft) {
	f.mu.Lock()
	f.draft = draft
	early := size > verifyFirst
	if early {
		f.size = size
	}
	f.mu.Unlock()
	if early {
		close(f.ready)
	}
}

// step publishes how far the draft has got.
func (f *flight) step(written int64) {
	f.mu.Lock()
	f.written = written
	f.wake()
	f.mu.Unlock()
}

// prove releases the last byte.
func (f *flight) prove(size int64) {
	f.mu.Lock()
	early := f.size >= 0
	if !early {
		f.size = size // never written once the readers are in, who read it without the lock
	}
	f.written, f.proved = size, true
	f.wake()
	f.mu.Unlock()
	if !early {
		close(f.ready)
	}
}

// land tells the readers that nothing more will come.
func (f *flight) land(err error) {
	f.mu.Lock()
	open := f.size < 0 && !f.bypass
	f.err = err
	f.wake()
	f.mu.Unlock()
	if open {
		close(f.ready)
	}
}

// wake must be called with the lock held.
func (f *flight) wake() {
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

// enter begins to write what the flight has brought, unless it was forgotten since the flight began;
// see [forgotten.enter].
func (f *flight) enter() (left func(), ok bool) {
	f.mu.Lock()
	born := f.born
	f.mu.Unlock()
	return f.cache.forgotten.enter(born, f.key.repo, string(f.key.digest))
}

// keep makes a proved draft durable and known: content, link, row. Where another node does that it
// makes a hot copy, if those are kept, and nothing else. The readers have their last byte by now and
// wait for none of it, nor do those who come while it lasts: the flight serves them.
func (f *flight) keep(draft *storage.Draft, size int64) {
	f.cache.calm.wait(f.cache.life)
	ctx, cancel := f.cache.keeping()
	defer cancel()
	c, k := f.cache, f.key
	left, ok := f.enter()
	if !ok {
		return // those who ask now ask upstream again
	}
	l := c.memory.addLink(k, size)
	l.direct.Store(true)
	defer c.absent.end(k.digest)
	if f.project.keptElsewhere(k.digest) {
		if err := draft.KeepHot(); err != nil {
			c.fault("keep a copy of a blob", err, "repo", k.repo.String(), "digest", k.digest)
		}
		left()
		f.assure(draft, l, size)
		return // one write of it is enough for all nodes
	}
	f.kept = true
	err := draft.Commit(ctx)
	if err == nil {
		err = c.store.LinkBlob(ctx, k.repo.String(), k.digest)
	}
	if err != nil {
		c.linkEnded(k, l, false, left)
		c.totals.passed.Add(1)
		c.fault("commit a blob", err, "repo", k.repo.String(), "digest", k.digest)
		return
	}
	a := arrival{
		write: func(tx *catalog.Tx) error { return tx.AddBlob(k.repo, k.digest, size) },
		ended: func(written bool) { c.linkEnded(k, l, written, left) },
	}
	if c.catalog.Shared() {
		f.mu.Lock()
		f.holders++ // the bytes may have to be put once more
		f.mu.Unlock()
		a.again = func(ctx context.Context) error { return draft.Again(ctx, k.repo.String()) }
		a.ended = func(written bool) {
			c.linkEnded(k, l, written, left)
			f.leave()
		}
	}
	c.linked(k, a)
}
