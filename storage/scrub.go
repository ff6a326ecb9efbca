package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// ScrubEvent is one finding of a scrub, or word of how far it has come.
type ScrubEvent struct {
	// Digest is what was looked at. It is empty when the event is about progress alone, or
	// about a directory that could not be read.
	Digest digest.Digest

	// Err is nil when the content is whole. It matches ErrDamaged when its bytes are others;
	// everything else means that they could not be read, or not be moved away.
	Err error

	Quarantined bool // it was moved to quarantine/<algorithm>/<hex>

	// Done of Total bytes are read. What comes or goes meanwhile makes these inexact.
	Done, Total int64
}

// ScrubReport counts what a scrub has found.
type ScrubReport struct {
	Checked     int64 // pieces of content looked at
	Bytes       int64 // read
	Damaged     int64
	Quarantined int64 // of the damaged
	Unreadable  int64 // content or directories that could not be read, and were left alone
}

// Scrub reads everything that is stored and compares it with its digest. What is damaged, empty
// and truncated files included, is moved to quarantine, so that it is missing instead of wrong
// and comes back from upstream or with the next push; links to it stay. What cannot be read is
// reported and left where it is: a disk that has trouble now may not have it tomorrow.
//
// report is called from one goroutine at a time, often. When ctx ends the scrub stops, with the
// report so far.
func (s *Store) Scrub(ctx context.Context, report func(ScrubEvent)) (ScrubReport, error) {
	if r, ok := s.tree.(*remote); ok {
		ctx = r.patient(ctx)
	}
	var total int64
	err := s.tree.content(ctx, func(_ digest.Digest, size int64, _ error) error {
		total += size
		return nil
	})
	if err != nil {
		return ScrubReport{}, fmt.Errorf("scrub: %w", err)
	}

	// One walks, a few read, and this goroutine alone counts and reports.
	found := make(chan finding)
	results := make(chan result)
	var workers sync.WaitGroup
	workers.Go(func() {
		defer close(found)
		err = s.tree.content(ctx, func(d digest.Digest, size int64, err error) error {
			select {
			case found <- finding{d, size, err}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for range s.scrubbers {
		workers.Go(func() {
			buf := make([]byte, 1<<20)
			for f := range found {
				s.scrub(ctx, f, buf, results)
			}
		})
	}
	go func() { // ends when the workers do, and this function not before it
		workers.Wait()
		close(results)
	}()

	var sum ScrubReport
	for r := range results {
		sum.add(r)
		r.event.Done, r.event.Total = sum.Bytes, total
		report(r.event)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("scrub: %w", err)
	}
	return sum, err
}

// finding is what a walk has come upon.
type finding struct {
	digest digest.Digest
	size   int64
	err    error
}

// result is an event and the bytes that it adds to those read.
type result struct {
	event ScrubEvent
	bytes int64
}

func (r *ScrubReport) add(one result) {
	e := one.event
	r.Bytes += one.bytes
	if e.Digest != "" {
		r.Checked++
	}
	switch {
	case errors.Is(e.Err, ErrDamaged):
		r.Damaged++
	case e.Err != nil:
		r.Unreadable++
	}
	if e.Quarantined {
		r.Quarantined++
	}
}

// progress is how many bytes are read between two words of it.
const progress = 64 << 20

// scrub looks at one finding and sends what it finds.
func (s *Store) scrub(ctx context.Context, f finding, buf []byte, results chan<- result) {
	if f.err != nil && !errors.Is(f.err, ErrDamaged) {
		results <- result{event: ScrubEvent{Digest: f.digest, Err: f.err}}
		return
	}
	left := f.size // of what the total has for it
	read := func(n int64) {
		n = min(n, left)
		left -= n
		results <- result{bytes: n}
	}
	// Content that is replaced while it is read is read again. Whoever replaces it every time
	// verifies it every time.
	for try := 1; ; try++ {
		event, replaced := s.examine(ctx, f.digest, buf, read, func(err error) bool { return errors.Is(err, ErrDamaged) })
		if ctx.Err() != nil {
			return
		}
		if replaced && try < 3 {
			continue
		}
		results <- result{event: event, bytes: left}
		return
	}
}

// examine reads content and, if aside says so of what is wrong with it, moves it to quarantine.
// replaced means that other bytes have taken its place meanwhile. The event has no digest if the
// content is gone.
func (s *Store) examine(ctx context.Context, d digest.Digest, buf []byte, read func(n int64), aside func(error) bool) (e ScrubEvent, replaced bool) {
	name, err := blobPath(d)
	if err != nil {
		return ScrubEvent{Digest: d, Err: err}, false
	}
	c, err := s.tree.open(ctx, name) // and not a copy of it
	if errors.Is(err, ErrNotFound) {
		return ScrubEvent{}, false
	}
	if err == nil {
		defer c.Close()
		readOnce(c)
		err = digestOf(ctx, d, c, buf, read)
	}
	if err == nil || !aside(err) {
		return ScrubEvent{Digest: d, Err: err}, false
	}
	moved, failed := s.quarantine(ctx, d, c)
	if failed != nil && !errors.Is(failed, ErrNotFound) {
		return ScrubEvent{Digest: d, Err: fmt.Errorf("%w; %w", err, failed)}, false
	}
	return ScrubEvent{Digest: d, Err: err, Quarantined: moved}, !moved
}

// Recheck reads content once more that gave trouble to whoever read it. It returns what is wrong
// with it, or nil, and moves what is damaged, or in a directory cannot be read, to quarantine, so
// that it is missing instead, and can come back from elsewhere. That is for content which can: a disk that
// has trouble now may not have it tomorrow, and Scrub leaves what it cannot read where it is.
//
// Where there is a copy on this machine it is the one that was being read. It is dropped, and what it
// is a copy of is not to blame.
func (s *Store) Recheck(ctx context.Context, d digest.Digest) error {
	if s.Cool(d) {
		return nil
	}
	e, _ := s.examine(ctx, d, make([]byte, 1<<20), func(int64) {}, func(err error) bool {
		// A bad sector stays bad. What keeps a bucket from being read passes.
		return ctx.Err() == nil && (s.Together() || errors.Is(err, ErrDamaged))
	})
	if e.Digest == "" {
		return ErrNotFound
	}
	return e.Err
}

// digestOf reads r to its end and returns ErrDamaged if its bytes are not those of d.
func digestOf(ctx context.Context, d digest.Digest, r io.Reader, buf []byte, read func(n int64)) error {
	h, err := newHash(d.Algorithm())
	if err != nil {
		return err
	}
	var unsaid int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if unsaid += int64(n); unsaid >= progress {
			read(unsaid)
			unsaid = 0
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", d, err)
		}
	}
	if got := digest.NewDigest(d.Algorithm(), h); got != d {
		return fmt.Errorf("%s: the bytes are those of %s: %w", d, got, ErrDamaged)
	}
	return nil
}
