package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// tendEvery is how often the directory of the copies is looked after.
	tendEvery = time.Minute

	// patrolBytes is how much is read again at most in each of these minutes: 17 MB/s are nothing
	// to a disk that serves images.
	patrolBytes = 1 << 30

	// patrolEvery is how often each copy is read again. A disk that changes bits behind our back is
	// rare, but nobody looks at what a bare file sends.
	patrolEvery = 7 * 24 * time.Hour
)

// Tend looks after the copies on this machine until ctx ends: first it finds those that earlier
// processes have left, which are served from before that, then it keeps them within their bounds and
// reads them again now and then. Without such copies it waits for ctx. Call it once.
func (s *Store) Tend(ctx context.Context) error {
	if s.hot == nil {
		<-ctx.Done()
		return nil
	}
	s.hot.walk(ctx)
	every := time.NewTicker(tendEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			s.hot.tend(ctx)
		}
	}
}

func (h *hot) tend(ctx context.Context) {
	lack, err := h.within.space.lack(0)
	if err != nil {
		h.note(err)
	} else if lack > 0 {
		h.yield(lack)
	} else if !h.resting() {
		h.trouble.Store(nil) // what it was about has passed, or comes again
	}
	h.trim()
	h.patrol(ctx, patrolBytes)
}

// walk puts what earlier processes have left on the shelf, behind what has been used since.
func (h *hot) walk(ctx context.Context) {
	var found []*standing
	for _, alg := range algorithms {
		for i := range 256 {
			if ctx.Err() != nil {
				return
			}
			dir := filepath.Join(h.dir, string(alg), fmt.Sprintf("%02x", i))
			err := h.disk.call("list", dir, func() error { return h.list(alg, dir, &found) })
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				h.note(err)
			}
		}
	}
	slices.SortFunc(found, func(a, b *standing) int { return b.stamped.Compare(a.stamped) })
	for some := range slices.Chunk(found, 1000) {
		h.mu.Lock()
		for _, one := range some {
			h.shelf.append(one)
		}
		h.mu.Unlock()
	}
	h.mu.Lock()
	h.walked = true
	h.mu.Unlock()
	h.trim()
}

// list finds the copies in one directory, and removes what has the name of one and is none.
func (h *hot) list(alg digest.Algorithm, dir string, found *[]*standing) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !isHex(e.Name(), hexLen(alg)) {
				continue // gone, or not ours
			}
			d := digest.NewDigestFromEncoded(alg, e.Name())
			if !sealed(d, info) {
				h.counts.damaged.Add(1)
				h.drop(d)
				continue
			}
			*found = append(*found, &standing{digest: d, size: info.Size(), stamped: accessed(info)})
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// patrol reads copies again that were last compared with their digests too long ago, at most so many
// bytes of them, and drops those that are damaged.
func (h *hot) patrol(ctx context.Context, most int64) {
	buf := make([]byte, piece)
	for _, d := range h.due(most) {
		c, ok := h.openQuietly(d)
		if !ok {
			continue
		}
		err := digestOf(ctx, d, c, buf, func(int64) {})
		c.Close()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			h.counts.damaged.Add(1)
			h.drop(d)
			if !errors.Is(err, ErrDamaged) {
				h.note(err)
			}
			continue
		}
		h.mu.Lock()
		if e := h.shelf.all[d]; e != nil {
			e.Value.(*standing).checked = time.Now()
		}
		h.mu.Unlock()
	}
}

// due are copies that are to be read again, of so many bytes.
func (h *hot) due(most int64) (all []digest.Digest) {
	before := time.Now().Add(-patrolEvery)
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := h.shelf.order.Front(); e != nil && most > 0; e = e.Next() {
		if one := e.Value.(*standing); one.checked.Before(before) {
			all = append(all, one.digest)
			most -= max(one.size, block)
		}
	}
	return all
}

// openQuietly opens a copy without that counting as a use of it.
func (h *hot) openQuietly(d digest.Digest) (Content, bool) {
	f, err := openUnnoticed(h.path(d))
	if err != nil {
		return Content{}, false
	}
	c := Content{ReadSeekCloser: f}
	readOnce(c)
	return c, true
}
