package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"roadstead/registry"
)

// Target is an image that is to be here: a tag or a digest of a proxy.
type Target struct {
	Repo      registry.Repo
	Reference string
}

// Batch is a warm-up of many images, see [Cache.Warm]. A few manifests come at once and a few blobs,
// and what several images are made of comes once. One image that cannot be brought keeps no other one
// from coming.
type Batch struct {
	cache      *Cache
	platforms  []platform
	dry        bool
	signatures bool

	// mu is locked after a warming's, never before it.
	mu      sync.Mutex
	images  []*batchImage
	ended   []*batchImage // in that order
	pieces  map[registry.Digest]*batchPiece
	ready   []*batchBlob // to be brought, the first one next
	more    sync.Cond    // there is more in ready, or nothing more will be; or fewer are noted
	closed  bool         // nothing more will be
	noted   int          // blobs of images that nobody has looked at yet, those in ready among them
	most    int          // of these, before images have to wait
	trouble map[string]*trouble
	failed  int
	open    int // images of which it is not known what they are made of
	blobs   int
	done    int64
	found   int64
	total   int64
}

// batchImage is an image of a batch. What is below left is guarded by the batch's mu.
type batchImage struct {
	Target
	w *warming

	left    int // blobs that nobody has looked at yet
	state   ImageState
	ordinal int // of those that have ended, from 1
	digest  registry.Digest
	done    int64
	total   int64
	err     error
}

// batchBlob is a blob of one of the images.
type batchBlob struct {
	image *batchImage
	blob  *warmBlob
}

// batchPiece is a blob, of however many images.
type batchPiece struct {
	repo    registry.Repo // that it is asked for in
	size    int64
	written int64
	fetched bool
	found   bool
	since   time.Time // when it was begun with; zero: it is not under way
	waiting []*batchBlob
}

// trouble is what a project's upstream gives.
type trouble struct {
	inRow int
	err   error // why it is asked no more
}

// ImageState is how an image of a batch stands.
type ImageState string

// The states.
const (
	ImageWaiting ImageState = "waiting"
	ImageRunning ImageState = "running"
	ImageHere    ImageState = "here"
	ImageMissing ImageState = "missing" // what a dry run finds
	ImageFailed  ImageState = "failed"
)

const (
	// batchManifests is how many images are looked up at once. They are small, and as long as not
	// all are here nobody knows how much there is to bring.
	batchManifests = 4

	// batchBlobs is how many blobs come at once: as many as two clients bring.
	batchBlobs = 2 * warmers

	// mostPieces bounds what a batch keeps in mind: ten thousand images of some dozen layers each.
	mostPieces = 500_000

	// mostNoted bounds what is in mind of the images that are under way. Blobs that many of them are made of
	// count for each, and a list made to hurt could have a billion. What is on real lists is less.
	mostNoted = 200_000

	// mostInRow is how many images in a row may fail at an upstream that does not answer, before it is
	// not asked for any more of them.
	mostInRow = 3
)

// BatchOrder is what a batch is to bring.
type BatchOrder struct {
	Targets    []Target
	Platforms  []string // none: all
	Dry        bool     // manifests are brought, by which is found what is missing, and no blob; upstream is asked whether it has those that others have brought
	Signatures bool     // also where the project does not look at them
}

// NewBatch returns a warm-up of images.
func (c *Cache) NewBatch(o BatchOrder) (*Batch, error) {
	b := &Batch{cache: c, dry: o.Dry, signatures: o.Signatures, most: mostNoted, pieces: map[registry.Digest]*batchPiece{}, trouble: map[string]*trouble{}, open: len(o.Targets)}
	b.more.L = &b.mu
	for _, text := range o.Platforms {
		want, err := parsePlatform(text)
		if err != nil {
			return nil, err
		}
		b.platforms = append(b.platforms, want)
	}
	for _, t := range o.Targets {
		b.images = append(b.images, &batchImage{Target: t, state: ImageWaiting})
	}
	return b, nil
}

// Run brings the images. It returns when all are here or cannot be brought, with the error of ctx if
// that has ended before: what is wrong with an image, Look says. step is told as in [Cache.Warm].
func (b *Batch) Run(ctx context.Context, step func(done, total int64)) error {
	images := make(chan *batchImage)
	var resolving, bringing sync.WaitGroup
	for range batchManifests {
		resolving.Go(func() {
			for i := range images {
				b.resolve(ctx, i)
			}
		})
	}
	for range batchBlobs {
		bringing.Go(func() {
			for next := b.take(); next != nil; next = b.take() {
				b.bring(ctx, next, step)
			}
		})
	}
	for _, i := range b.images {
		images <- i
	}
	close(images)
	resolving.Wait()
	b.mu.Lock()
	b.closed = true
	b.more.Broadcast()
	b.mu.Unlock()
	bringing.Wait()
	return context.Cause(ctx)
}

// resolve finds out what an image is made of.
func (b *Batch) resolve(ctx context.Context, i *batchImage) {
	w := &warming{cache: b.cache, repo: i.Repo, platforms: b.platforms, blobs: map[registry.Digest]*warmBlob{}, seen: map[registry.Digest]bool{}}
	w.stepped = func(blob *warmBlob) { b.step(i, blob) }
	i.w = w
	b.mu.Lock()
	i.state = ImageRunning
	b.mu.Unlock()
	err := b.halted(i.Repo.Project)
	if err == nil && ctx.Err() == nil {
		var p *project
		if p, err = b.cache.permitted(i.Repo); err == nil && p.Offline && !b.dry {
			err = errBringsNothing
		}
		if err == nil {
			w.signed = (b.signatures || p.Verify.Mode != "") && !p.Offline
			err = w.resolve(ctx, i.Reference)
		}
	}
	if err = b.add(i, err); err != nil || len(w.order) == 0 {
		b.end(ctx, i, err)
	}
}

// add adds the blobs of an image to those that are to be brought. err is why it is not known which they
// are. It waits until enough of the others have been brought.
func (b *Batch) add(i *batchImage, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for err == nil && b.noted > 0 && b.noted+len(i.w.order) > b.most {
		b.more.Wait()
	}
	b.open--
	i.digest = i.w.done.Digest
	if err != nil {
		return err
	}
	i.total = i.w.total
	if len(b.pieces)+len(i.w.order) > mostPieces {
		return &registry.Fault{Code: registry.TooLarge, Message: fmt.Sprintf("the list is made of more than %d blobs: make two of it", mostPieces)}
	}
	i.left = len(i.w.order)
	b.noted += i.left
	for _, blob := range i.w.order {
		if b.pieces[blob.Digest] == nil {
			b.pieces[blob.Digest] = &batchPiece{repo: i.Repo, size: blob.Size}
			b.total += blob.Size
		}
		b.ready = append(b.ready, &batchBlob{i, blob})
	}
	b.more.Broadcast()
	return nil
}

// take returns the next blob to be brought, or nil when there will be none. One whose bytes are on
// their way for another image waits for them elsewhere: it would keep others from coming.
func (b *Batch) take() *batchBlob {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for len(b.ready) == 0 && !b.closed {
			b.more.Wait()
		}
		if len(b.ready) == 0 {
			return nil
		}
		next := b.ready[0]
		b.ready = b.ready[1:]
		p := b.pieces[next.blob.Digest]
		if p.since.IsZero() {
			p.since = time.Now()
			return next
		}
		p.waiting = append(p.waiting, next)
	}
}

// bring brings a blob, and what has waited for it.
func (b *Batch) bring(ctx context.Context, next *batchBlob, step func(done, total int64)) {
	for next != nil {
		i, w := next.image, next.image.w
		switch why := b.halted(i.Repo.Project); {
		case w.stopped(ctx):
		case b.dry:
			if err := w.spared(ctx, next.blob); err != nil {
				w.fail(fmt.Errorf("blob %s: %w", next.blob.Digest, err))
			}
		case why != nil && !w.found(ctx, next.blob):
			w.fail(why)
		case why == nil:
			if err := w.blob(ctx, next.blob); err != nil {
				w.fail(fmt.Errorf("blob %s: %w", next.blob.Digest, err))
			}
		}
		b.mu.Lock()
		i.left--
		if b.noted--; b.noted <= b.most {
			b.more.Broadcast()
		}
		last := i.left == 0
		done, total := b.done, b.total
		b.mu.Unlock()
		if step != nil {
			step(done, total)
		}
		if last {
			b.end(ctx, i, nil)
		}
		next = b.after(next)
	}
}

// after returns one that has waited for the bytes of another, or nil when there is none.
func (b *Batch) after(one *batchBlob) *batchBlob {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pieces[one.blob.Digest]
	if len(p.waiting) == 0 {
		p.since = time.Time{}
		return nil
	}
	next := p.waiting[0]
	p.waiting = p.waiting[1:]
	return next
}

// step notes how much of a blob is here; the image's warming is locked.
func (b *Batch) step(i *batchImage, blob *warmBlob) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i.done = i.w.here
	p := b.pieces[blob.Digest]
	b.done += max(p.written, blob.written) - p.written
	p.written = max(p.written, blob.written)
	switch {
	case blob.whole && blob.fetched && !p.fetched:
		p.fetched = true
		b.blobs++
	case blob.whole && !p.fetched && !p.found:
		p.found = true
		b.found += p.size
	}
}

// end notes what has come of an image. err is why it was not even looked for.
func (b *Batch) end(ctx context.Context, i *batchImage, err error) {
	w := i.w
	if err == nil {
		w.settle(ctx)
		err = w.verdict(ctx)
	}
	w.release()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		i.state, i.err = ImageFailed, err
		b.failed++
	case b.dry && i.done < i.total:
		i.state = ImageMissing
	default:
		i.state = ImageHere
	}
	b.ended = append(b.ended, i)
	i.ordinal = len(b.ended)
	i.w = nil // ten thousand of them are some memory
	b.judge(i.Repo.Project, err)
}

// judge decides whether a project's upstream is asked for more; b.mu is held.
func (b *Batch) judge(project string, err error) {
	t := b.trouble[project]
	if t == nil {
		t = &trouble{}
		b.trouble[project] = t
	}
	switch {
	case t.err != nil:
	case !registry.Passing(err):
		t.inRow = 0
	default:
		if t.inRow++; t.inRow >= mostInRow || errors.Is(err, registry.Throttled) {
			t.err = fmt.Errorf("not tried, because the upstream of %s gave no others: %w", project, err)
		}
	}
}

// halted says why a project's upstream is asked no more, or nil.
func (b *Batch) halted(project string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.trouble[project]; t != nil {
		return t.err
	}
	return nil
}

// oldest orders the layers under way.
func oldest(x, y LayerProgress) int {
	return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.Digest, y.Digest))
}

// Look says how far a batch is. Of the images it has those that have ended after the first so many, in
// the order in which they have, or with a number below zero all, in the order of the list.
func (b *Batch) Look(after int) Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	images := b.images
	if after >= 0 {
		images = b.ended[min(after, len(b.ended)):]
	}
	p := Progress{Done: b.done, Total: b.total, Fetched: b.done - b.found, Blobs: b.blobs, Open: b.open, Ended: len(b.ended), Failed: b.failed, Count: len(b.images)}
	for _, i := range images {
		p.Images = append(p.Images, ImageProgress{i.Target, i.state, i.ordinal, i.digest, i.done, i.total, i.err})
	}
	for d, one := range b.pieces {
		if !one.since.IsZero() {
			p.Layers = append(p.Layers, LayerProgress{one.repo, d, one.size, one.written, one.since})
		}
	}
	slices.SortFunc(p.Layers, oldest)
	return p
}

// Progress is how far a batch is. Bytes are those of blobs, each counted once.
type Progress struct {
	Count   int // of all images
	Ended   int // of those that are here or cannot be brought
	Failed  int
	Open    int // of those of which it is not known what they are made of: Total grows with them
	Images  []ImageProgress
	Layers  []LayerProgress // under way, the oldest first
	Done    int64           // bytes that are here
	Total   int64
	Fetched int64 // bytes of Done that were not here before
	Blobs   int   // that were fetched
}

// ImageProgress is how far an image is.
type ImageProgress struct {
	Target
	State   ImageState
	Ordinal int             // of those that have ended, from 1; zero: it has not
	Digest  registry.Digest // what the reference leads to; "": that is not known yet
	Done    int64           // bytes of its blobs
	Total   int64
	Err     error
}

// LayerProgress is how far a blob is.
type LayerProgress struct {
	Repo    registry.Repo // that it is asked for in
	Digest  registry.Digest
	Size    int64
	Written int64
	Since   time.Time
}
