package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// behind reads content behind the fill that copies it, or, where that does not bring what is wanted
// soon, from where it is kept. ctx bounds its life.
type behind struct {
	ctx    context.Context
	fill   *fill
	size   int64
	at     int64
	file   *os.File      // the copy, opened for this reader alone; nil: not yet
	own    *remoteReader // set once it reads by itself
	done   func()        // lets go of own's context
	closed bool
}

// near is how far behind what has come a reader waits for it, in bytes, instead of asking for it:
// that takes about as long as another request.
const near = 4 << 20

// errOwnWay says that a fill will not bring what is wanted, or not soon.
var errOwnWay = errors.New("not by way of a copy")

// readable waits until there is a byte at the reader's offset, and says up to where.
func (r *behind) readable() (int64, error) {
	f := r.fill
	if r.own != nil {
		return 0, errOwnWay
	}
	if r.at == 0 {
		f.begin()
	}
	for {
		f.mu.Lock()
		until := f.written
		if !f.proved {
			until = min(until, f.size-1)
		}
		switch {
		case r.at >= f.size:
			f.mu.Unlock()
			return 0, io.EOF
		case r.at < until:
			f.mu.Unlock()
			return until, nil
		case f.failed != nil:
			defer f.mu.Unlock()
			return 0, f.failed
		case f.over || !f.begun || r.at > f.written+near:
			f.mu.Unlock()
			return 0, errOwnWay
		}
		if f.moved == nil {
			f.moved = make(chan struct{})
		}
		moved := f.moved
		f.mu.Unlock()
		select {
		case <-moved:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
}

// Read returns what is there at the reader's offset and waits when that is nothing.
func (r *behind) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	until, err := r.readable()
	switch {
	case err == nil:
		n, err = r.fill.draft.ReadAt(p[:min(int64(len(p)), until-r.at)], r.at)
		if n > 0 && err == io.EOF {
			err = nil
		}
		if err != nil {
			// It is the copy that cannot be read.
			r.fill.hot.note(err)
			r.fill.doom()
			r.goOwnWay()
		}
	case errors.Is(err, errOwnWay):
		r.goOwnWay()
	default:
		return 0, err
	}
	if r.own != nil {
		n, err = r.own.Read(p)
	}
	r.at += int64(n)
	return n, err
}

// goOwnWay has the reader read by itself. The request that opened the content is answered with its
// first byte, which somebody can go on with.
func (r *behind) goOwnWay() {
	if r.own != nil {
		return
	}
	f := r.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.source != nil && r.at == 0 && f.over {
		r.own, f.source = f.source, nil
		stop := context.AfterFunc(r.ctx, f.cancel)
		r.done = func() { stop(); f.cancel() }
		return
	}
	own := f.model
	own.ctx, own.at = r.ctx, r.at
	r.own, r.done = &own, func() {}
}

// Section waits until there is a byte to read and returns a file that stands at it, with how many
// more, at most most, may be read from it. They count as read. It is how the kernel sends a copy
// that grows. errors.ErrUnsupported means that Read has to be used.
func (r *behind) Section(most int64) (*os.File, int64, error) {
	until, err := r.readable()
	if errors.Is(err, errOwnWay) {
		return nil, 0, errors.ErrUnsupported
	}
	if err != nil {
		return nil, 0, err
	}
	if r.file == nil {
		// Not by its name, which changes when it is whole.
		if r.file, err = os.Open("/proc/self/fd/" + strconv.FormatUint(uint64(r.fill.draft.File().Fd()), 10)); err != nil {
			return nil, 0, errors.ErrUnsupported
		}
	}
	if _, err := r.file.Seek(r.at, io.SeekStart); err != nil {
		return nil, 0, errors.ErrUnsupported
	}
	n := min(until-r.at, most)
	r.at += n
	return r.file, n, nil
}

// Seek sets the offset of the next Read.
func (r *behind) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek %s to %d: %w", r.fill.name, offset, fs.ErrInvalid)
	}
	r.at = offset
	if r.own != nil {
		return r.own.Seek(offset, io.SeekStart)
	}
	return offset, nil
}

// Close ends this reader. The fill goes on if somebody wants it.
func (r *behind) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	var err error
	if r.file != nil {
		err = r.file.Close()
	}
	if r.own != nil {
		err = errors.Join(err, r.own.Close())
		r.done()
	}
	r.fill.leave()
	return err
}
