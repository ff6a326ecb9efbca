package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/opencontainers/go-digest"
)

// fill brings one piece of content from where it is kept into the hot directory, once, for however
// many read it meanwhile: they read behind it, from the copy that grows. The last byte is theirs
// when all are compared with the digest, so that what has rotted where it is kept never leaves as a
// whole answer, and never gets a name among the copies.
//
// It exists from when the first of them opens the content, and begins when one of them reads the
// first byte. Who only wants what is in the middle reads that from where it is kept, and ten
// gigabytes are not fetched for the index at their end. It belongs to the store and not to who began
// it; when all have left it goes on if that is worth it.
type fill struct {
	hot    *hot
	digest digest.Digest
	name   string
	ctx    context.Context // of the source
	cancel context.CancelFunc
	opened chan struct{} // closed when size is known, or failed

	mu      sync.Mutex
	source  *remoteReader // nil: not open yet, or somebody has taken it
	model   remoteReader  // what another source looks like
	failed  error         // why it could not be opened, or whose bytes are not those of the digest
	readers int
	doomed  bool // the copy is not to be kept
	begun   bool
	running bool
	draft   *Draft
	size    int64
	written int64
	proved  bool          // all bytes are there and have the digest
	over    bool          // no more comes: readers help themselves
	moved   chan struct{} // closed at the next change of these; nil while nobody waits
}

// cold opens content of which there is no copy.
func (h *hot) cold(ctx context.Context, d digest.Digest, name string) (Content, error) {
	f := h.join(d, name)
	if f == nil {
		return h.remote.open(ctx, name)
	}
	select {
	case <-f.opened:
	case <-ctx.Done():
		f.leave()
		return Content{}, context.Cause(ctx)
	}
	f.mu.Lock()
	size, err := f.size, f.failed
	f.mu.Unlock()
	if err != nil {
		f.leave()
		return Content{}, err
	}
	return Content{ReadSeekCloser: &behind{ctx: ctx, fill: f, size: size}, Size: size}, nil
}

// join returns the fill of d, making one if there is none, and makes the caller a reader of it who
// must leave it. It returns nil when the store is closing.
func (h *hot) join(d digest.Digest, name string) *fill {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.fills[d]; f != nil {
		f.mu.Lock()
		f.readers++
		f.mu.Unlock()
		return f
	}
	if h.closed {
		return nil
	}
	f := &fill{hot: h, digest: d, name: name, opened: make(chan struct{}), readers: 1}
	f.ctx, f.cancel = context.WithCancel(h.life)
	h.fills[d] = f
	h.work.Go(f.open)
	return f
}

// open asks for the content once, for all who have come by then.
func (f *fill) open() {
	source, err := f.reopen()
	if err != nil {
		f.hot.forget(f) // who comes now asks again
	}
	f.mu.Lock()
	if f.failed = err; err == nil {
		f.source, f.model, f.size = source, *source, source.size
		f.model.body = nil
	}
	left := f.readers == 0
	f.mu.Unlock()
	close(f.opened)
	if err == nil && left {
		f.abandon()
	}
}

func (f *fill) reopen() (*remoteReader, error) {
	c, err := f.hot.remote.open(f.ctx, f.name)
	if err != nil {
		return nil, err
	}
	return c.ReadSeekCloser.(*remoteReader), nil
}

// begin begins to copy, unless that has begun or cannot be.
func (f *fill) begin() {
	f.mu.Lock()
	first := !f.begun
	f.begun = true
	f.mu.Unlock()
	if !first {
		return
	}
	draft := f.hot.admit(f.digest, f.size)
	f.hot.mu.Lock()
	defer f.hot.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if draft != nil && f.hot.closed {
		draft.Close()
		<-f.hot.slots
		draft = nil
	}
	if f.draft = draft; draft == nil {
		f.over = true
	} else {
		f.running = true
		f.hot.filling += cost(f.size)
		f.hot.work.Go(f.run)
	}
	f.wake()
}

// admit returns a draft for a copy, and keeps a slot for it; nil where there is to be none.
func (h *hot) admit(d digest.Digest, size int64) *Draft {
	if size > h.most/2 || h.resting() {
		h.counts.passed.Add(1)
		return nil
	}
	select {
	case h.slots <- struct{}{}:
	default:
		h.counts.passed.Add(1)
		return nil
	}
	draft, err := h.within.Draft(d.Algorithm(), size)
	if err != nil {
		<-h.slots
		h.refused(err)
		return nil
	}
	draft.pushed = math.MaxInt64 // nobody waits for its sync, and somebody may for the next byte
	return draft
}

// refused notes why something is not copied. That there is no room is no trouble.
func (h *hot) refused(err error) {
	h.counts.passed.Add(1)
	if !errors.Is(err, ErrFull) && !errors.Is(err, context.Canceled) {
		h.note(err)
	}
}

// run is the fill itself.
func (f *fill) run() {
	h := f.hot
	h.trim()
	err := f.copy()
	if err == nil && !f.isDoomed() {
		if err = h.keep(f.draft, f.digest, f.size); err != nil {
			h.refused(err)
		} else if f.isDoomed() {
			h.drop(f.digest)
		}
	}
	h.forget(f)
	h.mu.Lock()
	h.filling -= cost(f.size)
	h.mu.Unlock()
	f.mu.Lock()
	f.over, f.running = true, false
	last := f.readers == 0
	f.wake()
	f.mu.Unlock()
	f.cancel()
	<-h.slots
	if last {
		f.draft.Close()
	}
}

// piece is how much is read at a time, in bytes: enough to be hashed while it is written.
const piece = 256 << 10

// copy brings all bytes into the draft and proves them. The error is already noted.
func (f *fill) copy() error {
	f.mu.Lock()
	source := f.source
	f.source = nil
	f.mu.Unlock()
	if source == nil {
		var err error
		if source, err = f.reopen(); err != nil {
			return err // of the driver: readers ask it themselves and hear the same
		}
	}
	pieces := make(chan part, 1)
	f.hot.work.Go(func() { f.receive(source, pieces) })
	var err error
	for p := range pieces {
		if len(p.b) > 0 && err == nil {
			if _, err = f.draft.Write(p.b); err != nil {
				f.hot.refused(err)
				f.cancel()
			} else {
				f.step(int64(len(p.b)))
			}
		}
		p.free()
		if p.err != nil && p.err != io.EOF && err == nil {
			err = p.err
		}
	}
	if err != nil {
		return err
	}
	err = f.draft.Verify(f.digest, f.size)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, ErrMismatch):
		f.hot.counts.rotten.Add(1)
		err = fmt.Errorf("read %s: %w: %w", f.name, ErrDamaged, err)
		f.failed = err
	case err != nil:
		f.hot.refused(err)
	default:
		f.proved = true
	}
	f.wake()
	return err
}

// part is some bytes of a source, or why there are no more of them, or both.
type part struct {
	b    []byte
	err  error
	free func()
}

// receive reads a source, while the part before is written and hashed, and closes both.
func (f *fill) receive(source *remoteReader, to chan<- part) {
	defer close(to)
	defer source.Close()
	for {
		buf := f.hot.buffers.Get().(*[piece]byte)
		n, err := source.Read(buf[:])
		to <- part{buf[:n], err, func() { f.hot.buffers.Put(buf) }}
		if err != nil {
			return
		}
	}
}

func (f *fill) step(n int64) {
	f.mu.Lock()
	f.written += n
	f.wake()
	f.mu.Unlock()
}

// wake must be called with the lock held.
func (f *fill) wake() {
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

func (f *fill) doom() {
	f.mu.Lock()
	f.doomed = true
	f.mu.Unlock()
}

func (f *fill) isDoomed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.doomed
}

// forget has nobody join a fill any more.
func (h *hot) forget(f *fill) {
	h.mu.Lock()
	if h.fills[f.digest] == f {
		delete(h.fills, f.digest)
	}
	h.mu.Unlock()
}

// little is how much of a fill that nobody reads any more may be missing, in bytes, for it to go on
// whatever it has cost so far.
const little = 64 << 20

// leave ends the part of a reader. When it was the last one, the fill goes on if a little is missing
// or half has come: whoever broke off comes back, as a rule. A look at the beginning of something
// large does not bring all of it.
func (f *fill) leave() {
	h := f.hot
	h.mu.Lock()
	f.mu.Lock()
	f.readers--
	last := f.readers == 0
	goes := f.running && (f.proved || f.size-f.written <= h.little || f.written >= f.size/2)
	over := f.draft != nil && !f.running
	if last && !goes && h.fills[f.digest] == f {
		delete(h.fills, f.digest)
	}
	f.mu.Unlock()
	h.mu.Unlock()
	switch {
	case !last || goes:
	case over:
		f.draft.Close()
	default:
		f.abandon()
	}
}

// abandon ends what nobody reads.
func (f *fill) abandon() {
	f.hot.forget(f)
	f.cancel() // which ends run too, if it is running
	f.mu.Lock()
	source := f.source
	if f.source = nil; f.running {
		source = nil // run's own
	}
	f.mu.Unlock()
	if source != nil {
		source.Close()
	}
}
