package estate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"roadstead/cache"
	"roadstead/registry"
)

// Warmup is how far a warm-up of a list is. Bytes are those of blobs, each counted once.
type Warmup struct {
	Job       Job      `json:"-"`
	Platforms []string // none: all
	Dry       bool

	Count     int // of images
	Ended     int // of those that are here or cannot be brought
	Failed    int
	Unknown   int // of those of which it is not known yet how large they are: Total grows with them
	Images    []WarmImage
	Layers    []WarmLayer // under way, the oldest first
	Done      int64       // bytes that are here
	Total     int64
	Fetched   int64 // bytes of Done that were not here before
	Blobs     int   // that were fetched
	Forgotten bool  // how the images have ended
}

// WarmImage is how far an image is.
type WarmImage struct {
	Name    string // as it is on the list, but whole
	Repo    registry.Repo
	State   cache.ImageState
	Ordinal int // of those that have ended, from 1; zero: it has not
	Digest  registry.Digest
	Done    int64
	Total   int64
	Error   string
}

// WarmLayer is how far a blob is.
type WarmLayer struct {
	Repo    registry.Repo // that it is asked for in
	Digest  registry.Digest
	Size    int64
	Written int64
	Since   time.Time
}

// since drops the images that have ended with the first so many, and those that have not, and has
// the others in the order in which they have. A number below zero drops none.
func (w *Warmup) since(after int) {
	if w.Forgotten = w.Count > 0 && len(w.Images) == 0; after < 0 {
		return
	}
	w.Images = slices.DeleteFunc(w.Images, func(i WarmImage) bool { return i.Ordinal <= after })
	slices.SortFunc(w.Images, func(a, b WarmImage) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
}

// warmList is a warm-up of a list, while it runs and after.
type warmList struct {
	platforms  []string
	dry        bool
	signatures bool
	names      map[cache.Target]string // of the images that are brought
	refused    []WarmImage             // the others

	mu     sync.Mutex
	batch  *cache.Batch // nil: it has ended
	final  Warmup       // how it was then
	wrote  time.Time    // when it was last told to others
	pauses time.Duration
}

func (l *warmList) count() int { return len(l.names) + len(l.refused) }

// run is the job.
func (l *warmList) run(ctx context.Context, step func(done, total int64)) (string, error) {
	err := l.batch.Run(ctx, step)
	final := l.look(-1)
	l.mu.Lock()
	l.batch, l.final = nil, final // what the batch has in mind is no more needed
	l.mu.Unlock()
	step(final.Done, final.Total)
	result := final.result()
	if err == nil && final.Failed > 0 {
		first := slices.MinFunc(final.Images, func(a, b WarmImage) int { return cmp.Compare(a.rank(), b.rank()) })
		err = fmt.Errorf("%s; %d could not be brought, such as %s: %s", result, final.Failed, first.Name, first.Error)
	}
	return result, err
}

// rank orders images so that the first one that failed comes first.
func (i WarmImage) rank() int {
	if i.State != cache.ImageFailed {
		return mostImages + i.Ordinal
	}
	return i.Ordinal
}

// result says what has come of it, for people.
func (w Warmup) result() string {
	if w.Dry {
		return fmt.Sprintf("of %d images %d are here whole; %d bytes are missing", w.Count, w.whole(), w.Total-w.Done)
	}
	return fmt.Sprintf("%d of %d images are here, %d blobs (%d bytes) were fetched", w.whole(), w.Count, w.Blobs, w.Fetched)
}

func (w Warmup) whole() (n int) {
	for _, i := range w.Images {
		if i.State == cache.ImageHere {
			n++
		}
	}
	return n
}

// look says how far it is, see Estate.Warmup.
func (l *warmList) look(after int) Warmup {
	l.mu.Lock()
	batch, w := l.batch, l.final
	l.mu.Unlock()
	if batch == nil {
		w.Images = slices.Clone(w.Images)
		w.since(after)
		return w
	}
	past := len(l.refused)
	p := batch.Look(max(after-past, min(after, 0)))
	w = Warmup{
		Platforms: l.platforms, Dry: l.dry, Count: l.count(), Ended: past + p.Ended, Failed: past + p.Failed, Unknown: p.Open,
		Done: p.Done, Total: p.Total, Fetched: p.Fetched, Blobs: p.Blobs,
	}
	for _, i := range l.refused {
		if i.Ordinal > after {
			w.Images = append(w.Images, i)
		}
	}
	for _, i := range p.Images {
		one := WarmImage{Name: l.names[i.Target], Repo: i.Repo, State: i.State, Digest: i.Digest, Done: i.Done, Total: i.Total}
		if i.Ordinal > 0 {
			one.Ordinal = past + i.Ordinal
		}
		if i.Err != nil {
			one.Error = strings.TrimPrefix(said(i.Err), "warm ")
			for _, name := range []string{i.Repo.String() + ":" + i.Reference, i.Repo.String()} { // which stands beside it
				one.Error = strings.TrimPrefix(one.Error, name+": ")
			}
		}
		w.Images = append(w.Images, one)
	}
	for _, one := range p.Layers {
		w.Layers = append(w.Layers, WarmLayer(one))
	}
	return w
}

// due reports whether others are to be told again how each image is. A long list is some hundred
// kilobytes, which the database need not take every two seconds.
func (l *warmList) due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.wrote) < l.pauses {
		return false
	}
	l.wrote, l.pauses = time.Now(), time.Duration(l.count())*10*time.Millisecond
	return true
}
