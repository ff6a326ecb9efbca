package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"roadstead/registry"
)

// stream is a blob that comes from its owner, and from upstream where the owner has left off. Its
// bytes are proved by whoever keeps them, and the owner gives out the last one only when they are
// right.
type stream struct {
	source *Source
	owner  Node
	done   func()
	ctx    context.Context // bounds its life
	cancel context.CancelFunc
	repo   registry.Repo
	d      registry.Digest

	size  int64
	off   int64         // where the next Read begins
	came  int64         // how far the owner's bytes came without a gap
	body  io.ReadCloser // of the owner at off; nil: none
	other *registry.Blob
	alone atomic.Bool // other is what is read
}

// Shared reports whether what is read now comes from another node, and costs upstream nothing. It may
// be called at any time.
func (st *stream) Shared() bool { return !st.alone.Load() }

func newStream(ctx context.Context, s *Source, owner Node, done func(), repo registry.Repo, d registry.Digest) *stream {
	st := &stream{source: s, owner: owner, done: done, repo: repo, d: d}
	st.ctx, st.cancel = context.WithCancel(ctx)
	return st
}

// open asks the owner for the blob from off to its end.
func (st *stream) open() error {
	body, size, err := st.source.cluster.blob(st.ctx, st.owner, st.repo, st.d, st.off)
	if err != nil {
		return err
	}
	st.body, st.size = body, size
	return nil
}

// Read reads on from whoever has the blob.
func (st *stream) Read(p []byte) (int, error) {
	if st.off >= st.size {
		return 0, io.EOF
	}
	if st.other == nil && st.body == nil {
		if err := st.open(); err != nil {
			return 0, st.turnAway(err)
		}
	}
	if st.other != nil {
		n, err := st.other.Read(p)
		st.off += int64(n)
		return n, err
	}
	n, err := st.body.Read(p[:min(int64(len(p)), st.size-st.off)])
	if st.off == st.came {
		st.came += int64(n)
	}
	st.off += int64(n)
	st.source.cluster.stats.bytes.Add(int64(n))
	if st.came == st.size {
		st.source.kept.add(st.d, time.Now())
	}
	if err == nil || err == io.EOF && st.off == st.size {
		return n, nil
	}
	st.drop()
	if n > 0 {
		// What came is good. The next Read finds out how the rest is to be had.
		return n, nil
	}
	return 0, st.turnAway(err)
}

// turnAway goes on at upstream. Its own Read follows, so an error here is only that there is no
// going on.
func (st *stream) turnAway(why error) error {
	st.drop()
	if err := context.Cause(st.ctx); err != nil {
		return err
	}
	st.source.cluster.fellBack(st.owner, string(st.d), why)
	b, err := st.source.Upstream.Blob(st.ctx, st.repo, st.d)
	if err != nil {
		return err
	}
	if b.Size >= 0 && b.Size != st.size {
		b.Close()
		return fmt.Errorf("blob %s: %d bytes at upstream, %d at node %s", st.d, b.Size, st.size, st.owner.ID)
	}
	if _, err := b.Seek(st.off, io.SeekStart); err != nil {
		b.Close()
		return err
	}
	st.other = &b
	st.alone.Store(true)
	// From here on this node brings it, and answers others for it.
	st.done()
	return nil
}

// Seek sets the place of the next Read, which asks there.
func (st *stream) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += st.off
	case io.SeekEnd:
		offset += st.size
	}
	if offset < 0 {
		return 0, errors.New("seek to before the beginning of a blob")
	}
	if st.other != nil {
		if _, err := st.other.Seek(offset, io.SeekStart); err != nil {
			return 0, err
		}
	} else if offset != st.off {
		st.drop()
	}
	st.off = offset
	return offset, nil
}

func (st *stream) drop() {
	if st.body != nil {
		st.body.Close()
		st.body = nil
	}
}

// Close lets go of whoever has been asked. It may be called twice.
func (st *stream) Close() error {
	st.drop()
	st.done()
	st.cancel()
	if st.other != nil {
		return st.other.Close()
	}
	return nil
}
