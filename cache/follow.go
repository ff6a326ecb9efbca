package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"roadstead/registry"
)

// open returns the blob of a flight that is ready, at its first byte.
func (f *flight) open(ctx context.Context) registry.Blob {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holders++
	return registry.Blob{ReadSeekCloser: &follower{ctx: ctx, flight: f}, Size: f.size}
}

// follower reads a blob behind the flight that writes it. Its reads wait for bytes that are
// still to come; ctx, that of the request, bounds its life.
type follower struct {
	ctx    context.Context
	flight *flight
	off    int64
	file   *os.File          // the draft, opened for this reader alone; nil: not yet
	own    io.ReadSeekCloser // set once the flight has sent its readers on their own way
	closed bool
}

// Read returns what is there at the reader's offset and waits when that is nothing.
func (r *follower) Read(p []byte) (int, error) {
	if r.own != nil {
		return r.own.Read(p)
	}
	f := r.flight
	if len(p) == 0 {
		return 0, nil
	}
	until, err := f.readable(r.ctx, r.off)
	if errors.Is(err, errOwnWay) {
		if r.own, err = f.ownWay(r.ctx, r.off); err != nil {
			return 0, err
		}
		return r.own.Read(p)
	}
	if err != nil {
		return 0, err
	}
	if int64(len(p)) > until-r.off {
		p = p[:until-r.off]
	}
	n, err := f.draft.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Section waits until there is a byte to read and returns a file that stands at it, with how
// many more, at most most, may be read from it. They count as read. It is how the kernel sends
// a download that is under way, without a copy through this process. errors.ErrUnsupported
// means that Read has to be used.
func (r *follower) Section(most int64) (*os.File, int64, error) {
	if r.own != nil {
		return nil, 0, errors.ErrUnsupported
	}
	until, err := r.flight.readable(r.ctx, r.off)
	if errors.Is(err, errOwnWay) {
		return nil, 0, errors.ErrUnsupported
	}
	if err != nil {
		return nil, 0, err
	}
	if r.file == nil {
		if r.file, err = reopen(r.flight.draft.File()); err != nil {
			return nil, 0, errors.ErrUnsupported
		}
	}
	if _, err := r.file.Seek(r.off, io.SeekStart); err != nil {
		return nil, 0, fmt.Errorf("seek in the draft of %s: %w", r.flight.key.digest, err)
	}
	n := min(until-r.off, most)
	r.off += n
	return r.file, n, nil
}

// reopen opens a file once more, so that its new reader has an offset of its own. The name
// will not do: a draft is renamed when it is committed.
func reopen(f *os.File) (*os.File, error) {
	return os.Open("/proc/self/fd/" + strconv.FormatUint(uint64(f.Fd()), 10))
}

// Seek sets the offset of the next Read. Any offset in the blob is good: what is not there
// yet is waited for.
func (r *follower) Seek(offset int64, whence int) (int64, error) {
	if r.own != nil {
		return r.own.Seek(offset, whence)
	}
	off, err := seek(r.off, r.flight.size, offset, whence)
	if err == nil {
		r.off = off
	}
	return off, err
}

// Close ends this reader. The flight goes on.
func (r *follower) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.flight.leave()
	var err error
	if r.file != nil {
		err = r.file.Close()
	}
	if r.own != nil {
		err = errors.Join(err, r.own.Close())
	}
	return err
}

// errOwnWay tells a reader that the draft will not bring what it needs.
var errOwnWay = errors.New("the draft could not be kept")

// readable waits until there is a byte at off that may be read, and returns up to where. The
// last byte may only be read once the whole is proved (promise 1).
func (f *flight) readable(ctx context.Context, off int64) (int64, error) {
	for {
		f.mu.Lock()
		until := f.written
		if !f.proved {
			until = min(until, f.size-1)
		}
		switch {
		case off >= f.size:
			f.mu.Unlock()
			return 0, io.EOF
		case off < until:
			f.mu.Unlock()
			return until, nil
		case f.bypass:
			f.mu.Unlock()
			return 0, errOwnWay
		case f.err != nil:
			defer f.mu.Unlock()
			return 0, f.err
		}
		if f.moved == nil {
			f.moved = make(chan struct{})
		}
		moved := f.moved
		f.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func seek(at, size, offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += at
	case io.SeekEnd:
		offset += size
	}
	if offset < 0 {
		return at, errors.New("seek before the first byte")
	}
	return offset, nil
}
