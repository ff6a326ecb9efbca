package cache

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"roadstead/registry"
)

// Warmed says what a warm-up has done.
type Warmed struct {
	Digest registry.Digest // what the reference led to
	Images int             // images that are here whole now
	Blobs  int             // that were fetched
	Bytes  int64           // of the blobs and manifests that were fetched
}

const (
	// warmers is how many blobs a warm-up brings at once, as many as a client does: it competes
	// with the pulls of people who wait.
	warmers = 3

	// mostWarmed bounds what one warm-up keeps in mind. An index of all platforms names some
	// hundred pieces; one made to hurt could name a billion.
	mostWarmed = 100_000

	// mostNamed is how many pieces an error names.
	mostNamed = 5
)

// errBringsNothing is the answer to whoever wants something brought that nobody is asked for.
var errBringsNothing error = &registry.Fault{Code: registry.Unavailable, Message: "this server is offline and brings nothing: import an archive of what is wanted", Answered: true}

// Warm brings an image here as a pull by its tag or digest would, by the same rules and flights:
// manifest, configuration and layers, and of an index the images of some platforms,
// "linux/amd64" or "linux/arm64/v8"; none: all of them. What is here already costs nothing.
//
// progress, unless nil, is told how many bytes of the blobs are here of those that there are in
// all, by one goroutine at a time and often. Nothing of the image is evicted before Warm returns.
// An error names what could not be brought, and what could be brought stays.
func (c *Cache) Warm(ctx context.Context, repo registry.Repo, reference string, platforms []string, progress func(done, total int64)) (Warmed, error) {
	p, err := c.permitted(repo)
	if err != nil {
		return Warmed{}, err
	}
	if p.Offline {
		return Warmed{}, errBringsNothing
	}
	w := &warming{cache: c, repo: repo, progress: progress, signed: p.Verify.Mode != "", blobs: map[registry.Digest]*warmBlob{}, seen: map[registry.Digest]bool{}}
	defer w.release()
	for _, text := range platforms {
		want, err := parsePlatform(text)
		if err != nil {
			return Warmed{}, err
		}
		w.platforms = append(w.platforms, want)
	}
	if err := w.resolve(ctx, reference); err != nil {
		return w.done, err
	}
	w.bring(ctx)
	w.settle(ctx)
	return w.done, w.verdict(ctx)
}

// resolve brings the manifests, and notes the blobs.
func (w *warming) resolve(ctx context.Context, reference string) error {
	var trace registry.Trace // of the tag and its manifest, which come in one request
	d, err := registry.ParseDigest(reference)
	if err != nil {
		desc, err := w.cache.Resolve(registry.WithTrace(ctx, &trace), w.repo, reference)
		if err != nil {
			return fmt.Errorf("warm %s:%s: %w", w.repo, reference, err)
		}
		d = desc.Digest
	}
	w.done.Digest = d
	err = w.manifest(ctx, d, &trace)
	if err == nil && w.signed {
		err = w.signatures(ctx, d)
	}
	if err != nil {
		return fmt.Errorf("warm %s: %w", w.repo, err)
	}
	return nil
}

// warming is one warm-up.
type warming struct {
	cache     *Cache
	repo      registry.Repo
	platforms []platform
	signed    bool                     // signatures are brought too
	apart     bool                     // what is noted now is a signature and no image
	seen      map[registry.Digest]bool // manifests
	blobs     map[registry.Digest]*warmBlob
	order     []*warmBlob       // in which they are brought, each once
	images    [][]*warmBlob     // what each is made of
	held      []registry.Digest // announced to storage.Traffic, which keeps them from being removed

	mu       sync.Mutex // guards what follows
	here     int64
	total    int64
	done     Warmed
	failed   []error
	halted   bool // upstream is in trouble, or has had enough of us: what is left is not asked for
	progress func(done, total int64)
	stepped  func(*warmBlob) // told of each step of a blob, with mu held; nil: nobody is
}

// warmBlob is a blob of some image. Its fields are guarded by warming.mu.
type warmBlob struct {
	registry.Descriptor
	written int64 // as far as it counts in here
	whole   bool  // nothing is missing of it
	fetched bool  // it was not here
}

// hold keeps content from being removed until the warm-up ends.
func (w *warming) hold(d registry.Digest) {
	w.cache.store.Traffic.Come(d, awayPatience)
	w.held = append(w.held, d)
}

func (w *warming) release() {
	for _, d := range w.held {
		w.cache.store.Traffic.Came(d)
	}
}

// bring brings the blobs.
func (w *warming) bring(ctx context.Context) {
	next := make(chan *warmBlob)
	var all sync.WaitGroup
	for range min(warmers, len(w.order)) {
		all.Go(func() {
			for b := range next {
				if w.stopped(ctx) {
					continue
				}
				if err := w.blob(ctx, b); err != nil {
					w.fail(fmt.Errorf("blob %s: %w", b.Digest, err))
				}
			}
		})
	}
	for _, b := range w.order {
		next <- b
	}
	close(next)
	all.Wait()
}

func (w *warming) stopped(ctx context.Context) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.halted || ctx.Err() != nil
}

// blob brings one blob, unless it is here.
func (w *warming) blob(ctx context.Context, b *warmBlob) error {
	if w.found(ctx, b) {
		return nil
	}
	c := w.cache
	var trace registry.Trace
	open, err := c.Blob(registry.WithTrace(ctx, &trace), w.repo, b.Digest)
	if len(b.URLs) > 0 && registry.Unknown(err) {
		w.whole(b, 0) // it lives elsewhere for good, and no pull asks for it here
		return nil
	}
	if err != nil {
		return err
	}
	defer open.Close()
	if r, ok := open.ReadSeekCloser.(*follower); ok {
		if err := r.flight.await(ctx, func(written int64) { w.step(b, written) }); err != nil {
			return err
		}
	}
	if _, err := c.store.Stat(ctx, b.Digest); err != nil {
		return fmt.Errorf("it could not be kept: %w", err)
	}
	if !fetched(&trace) {
		open.Size = 0
	}
	w.whole(b, open.Size)
	return nil
}

// found reports whether a blob is here, and notes that.
func (w *warming) found(ctx context.Context, b *warmBlob) bool {
	c, k := w.cache, contentKey{w.repo, b.Digest}
	l := c.find(ctx, k)
	if l == nil {
		return false
	}
	size, err := c.store.Stat(ctx, b.Digest)
	if err != nil || l.size >= 0 && l.size != size {
		return false
	}
	c.keepLink(k, l, size)
	c.touch(l, b.Digest, time.Now())
	w.whole(b, 0)
	return true
}

// spared notes a blob as here that a warm-up would not download: also one that another repository has
// brought, where upstream says that this one has it too, as Blob asks. The error is that upstream could not
// be asked for that.
func (w *warming) spared(ctx context.Context, b *warmBlob) error {
	c, k := w.cache, contentKey{w.repo, b.Digest}
	p, err := c.permitted(w.repo)
	if err != nil || w.found(ctx, b) || p.Offline || !c.here(ctx, b.Digest) {
		return err
	}
	if _, err := c.prove(ctx, p, k); err != nil {
		if registry.Passing(err) {
			return err
		}
		return nil // it is not here, and why it cannot be had a warm-up says
	}
	w.found(ctx, b)
	return nil
}

// await waits until a flight is over, and tells how many bytes it has brought.
func (f *flight) await(ctx context.Context, step func(written int64)) error {
	for {
		f.mu.Lock()
		if f.moved == nil {
			f.moved = make(chan struct{})
		}
		written, err, moved := f.written, f.err, f.moved
		f.mu.Unlock()
		if err != nil {
			return err
		}
		step(written)
		select {
		case <-moved:
		case <-f.done:
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// step notes how much of a blob is here.
func (w *warming) step(b *warmBlob, written int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(b, written)
}

// note is step; mu is held.
func (w *warming) note(b *warmBlob, written int64) {
	w.here += written - b.written
	b.written = written
	if w.progress != nil {
		w.progress(w.here, w.total)
	}
	if w.stepped != nil {
		w.stepped(b)
	}
}

// whole notes that a blob is here, and how many bytes of it were fetched.
func (w *warming) whole(b *warmBlob, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.whole, b.fetched = true, b.fetched || bytes > 0
	if bytes > 0 {
		w.done.Blobs++
		w.done.Bytes += bytes
	}
	w.note(b, b.Size)
}

func (w *warming) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = append(w.failed, err)
	w.halted = w.halted || registry.Passing(err)
}

// settle waits until the manifests are stored, and counts the images that are whole.
func (w *warming) settle(ctx context.Context) {
	keeps := w.cache.keeps.matching(func(k contentKey) bool { return k.repo == w.repo && w.seen[k.digest] })
	for _, keep := range keeps {
		if _, err := keep.wait(ctx); err != nil && ctx.Err() == nil {
			w.fail(fmt.Errorf("a manifest could not be kept: %w", err))
		}
	}
	for _, image := range w.images {
		if !slices.ContainsFunc(image, func(b *warmBlob) bool { return !b.whole }) {
			w.done.Images++
		}
	}
}

// verdict names what could not be brought.
func (w *warming) verdict(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("warm %s: %w", w.repo, err)
	}
	if len(w.failed) == 0 {
		return nil
	}
	var named []any
	for _, err := range w.failed[:min(len(w.failed), mostNamed)] {
		named = append(named, err)
	}
	text := "warm " + w.repo.String() + ": %w" + strings.Repeat("; %w", len(named)-1)
	if more := len(w.failed) - len(named); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	if w.halted {
		text += "; the rest was not tried"
	}
	return fmt.Errorf(text, named...)
}
