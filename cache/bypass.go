package cache

import (
	"context"
	"fmt"
	"hash"
	"io"

	"roadstead/registry"
)

// ownWay opens the blob of a flight that could not keep its draft, for one reader, at off. It
// is the stored content if that has come by other means, else upstream's, verified on the way.
func (f *flight) ownWay(ctx context.Context, off int64) (io.ReadSeekCloser, error) {
	c := f.cache
	if l := c.find(ctx, f.key); l != nil {
		if b, ok := c.blobHere(ctx, f.key, l); ok && b.Size == f.size {
			if _, err := b.Seek(off, io.SeekStart); err != nil {
				b.Close()
				return nil, fmt.Errorf("seek in %s: %w", f.key.digest, err)
			}
			return b.ReadSeekCloser, nil
		}
	}
	b, err := f.project.Upstream.Blob(ctx, f.key.repo, f.key.digest)
	f.project.health.note(err)
	if err != nil {
		return nil, err
	}
	if b.Size >= 0 && b.Size != f.size {
		b.Close()
		return nil, corrupt(f.project.Name, f.key.digest, fmt.Errorf("%d bytes instead of %d", b.Size, f.size))
	}
	return &passage{flight: f, src: b, off: off}, nil
}

// passage reads a blob from upstream for one reader alone and keeps nothing. It hashes the blob
// from its first byte, whatever the reader's offset, and gives out the last one only when the
// digest is right.
type passage struct {
	flight *flight
	src    registry.Blob
	hash   hash.Hash // of the bytes before at; nil: nothing has been read yet
	at     int64     // where src stands
	off    int64     // where the reader stands
}

// Read reads on from upstream.
func (r *passage) Read(p []byte) (int, error) {
	size := r.flight.size
	if r.off >= size {
		return 0, io.EOF
	}
	if err := r.catchUp(); err != nil {
		return 0, err
	}
	if int64(len(p)) > size-r.at {
		p = p[:size-r.at]
	}
	n, err := r.advance(p)
	r.off += int64(n)
	return n, err
}

// advance reads the next bytes into p and proves the blob when they end it.
func (r *passage) advance(p []byte) (int, error) {
	n, err := r.src.Read(p)
	r.hash.Write(p[:n])
	r.at += int64(n)
	r.flight.project.figures.upstream.Add(int64(n))
	switch size := r.flight.size; {
	case n > 0 && r.at == size:
		return r.prove(n)
	case err == io.EOF && r.at < size:
		return n, io.ErrUnexpectedEOF
	case err == io.EOF:
		return n, nil
	}
	return n, err
}

// prove holds back the last of n bytes unless all are those of the digest.
func (r *passage) prove(n int) (int, error) {
	want := r.flight.key.digest
	if got := registry.Digest(fmt.Sprintf("%s:%x", want.Algorithm(), r.hash.Sum(nil))); got != want {
		r.flight.project.figures.corrupt.Add(1)
		return n - 1, corrupt(r.flight.project.Name, want, fmt.Errorf("the digest of the bytes is %s", got))
	}
	return n, nil
}

// catchUp brings src to the reader's offset: through what the flight's draft still has, which
// its readers have been given, and then through upstream's bytes.
func (r *passage) catchUp() error {
	if r.hash == nil || r.at > r.off {
		r.hash, r.at = r.flight.key.digest.Algorithm().Hash(), 0
		if err := r.replay(); err != nil {
			return err
		}
		if _, err := r.src.Seek(r.at, io.SeekStart); err != nil {
			return fmt.Errorf("seek in upstream's %s: %w", r.flight.key.digest, err)
		}
	}
	if r.at == r.off {
		return nil
	}
	skip := chunks.Get().(*[chunk]byte)
	defer chunks.Put(skip)
	for r.at < r.off {
		n, err := r.advance(skip[:min(r.off-r.at, chunk)])
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrNoProgress
		}
	}
	return nil
}

// replay hashes what the draft has of the bytes before the reader's offset.
func (r *passage) replay() error {
	f := r.flight
	f.mu.Lock()
	draft, written := f.draft, f.written
	f.mu.Unlock()
	if draft == nil {
		return nil
	}
	n, err := io.Copy(r.hash, io.NewSectionReader(draft, 0, min(written, r.off)))
	r.at = n
	if err != nil {
		return fmt.Errorf("read the draft of %s: %w", f.key.digest, err)
	}
	return nil
}

// Seek sets the offset of the next Read.
func (r *passage) Seek(offset int64, whence int) (int64, error) {
	off, err := seek(r.off, r.flight.size, offset, whence)
	if err == nil {
		r.off = off
	}
	return off, err
}

// Close ends the request to upstream.
func (r *passage) Close() error { return r.src.Close() }
