package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/opencontainers/go-digest"
)

// Content is open content. With Config.Root the reader is an *os.File, so that the kernel can
// send it; it stays readable when the content is removed or replaced.
type Content struct {
	io.ReadSeekCloser
	Size int64 // of what is stored, in bytes, which need not be what it should be
}

// Open opens content, or fails with ErrNotFound. The bytes are not checked, and a zero-length
// or truncated file is what it is: callers compare Size with what they know. ctx bounds the
// life of what is returned. The caller closes it.
func (s *Store) Open(ctx context.Context, d digest.Digest) (Content, error) {
	name, err := blobPath(d)
	if err != nil {
		return Content{}, err
	}
	c, err := s.tree.open(ctx, name)
	if err != nil {
		return Content{}, fmt.Errorf("open %s: %w", d, err)
	}
	return c, nil
}

// Stat says how many bytes are stored of a digest, or ErrNotFound.
func (s *Store) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	name, err := blobPath(d)
	if err != nil {
		return 0, err
	}
	size, err := s.tree.stat(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("stat %s: %w", d, err)
	}
	return size, nil
}

// Read returns small content whole and verified: ErrNotFound when there is none, ErrDamaged
// when its bytes are not those of d. What is longer than limit is not read; that is an error
// of no kind.
func (s *Store) Read(ctx context.Context, d digest.Digest, limit int64) ([]byte, error) {
	c, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if c.Size > limit {
		return nil, fmt.Errorf("read %s: it is %d bytes long, at most %d were asked for", d, c.Size, limit)
	}
	b := make([]byte, c.Size)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", d, err)
	}
	if d.Algorithm().FromBytes(b) != d {
		return nil, fmt.Errorf("read %s: %w", d, ErrDamaged)
	}
	return b, nil
}

// Put stores small content: ErrMismatch when the bytes are not those of d, ErrFull when there
// is no room. When it returns nil the content survives a power cut, and whatever was stored
// under d before is replaced.
func (s *Store) Put(ctx context.Context, d digest.Digest, b []byte) error {
	return s.putWith(ctx, d, b)
}

// PutManifest is Put, LinkManifest and Tag for each tag, in this order, and takes hardly longer
// than one of them. After an error some of it may be done.
func (s *Store) PutManifest(ctx context.Context, repo string, d digest.Digest, b []byte, tags ...string) error {
	if err := check(repo, d); err != nil {
		return err
	}
	links := []*item{linkItem(linkDir(revisionsDir(repo), d), d)}
	for _, tag := range tags {
		if err := checkTag(tag); err != nil {
			return err
		}
		links = append(links, tagItems(repo, tag, d)...)
	}
	return s.putWith(ctx, d, b, links...)
}

// putWith stores small content and then the links to it.
func (s *Store) putWith(ctx context.Context, d digest.Digest, b []byte, links ...*item) error {
	name, err := blobPath(d)
	if err != nil {
		return err
	}
	if d.Algorithm().FromBytes(b) != d {
		return fmt.Errorf("put %s: %w", d, ErrMismatch)
	}
	if err := s.space.reserve(int64(len(b))); err != nil {
		return fmt.Errorf("put %s: %w", d, err)
	}
	defer s.space.release(int64(len(b)))
	if err := s.tree.put(ctx, append([]*item{{name: name, b: b}}, links...)...); err != nil {
		return fmt.Errorf("put %s: %w", d, err)
	}
	return nil
}

// Remove removes content. That it is missing is fine. After a power cut it may be back, whole.
func (s *Store) Remove(ctx context.Context, d digest.Digest) error {
	name, err := blobPath(d)
	if err != nil {
		return err
	}
	if err := s.tree.remove(ctx, path.Dir(name), false); err != nil {
		return fmt.Errorf("remove %s: %w", d, err)
	}
	return nil
}

// Quarantine moves content out of the layout, to quarantine/<algorithm>/<hex> beside it, where
// somebody can look at it. That it is missing is fine. The links to it stay.
func (s *Store) Quarantine(ctx context.Context, d digest.Digest) error {
	_, err := s.quarantine(ctx, d, Content{})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// quarantine moves content unless it is other than was seen, and reports whether it did.
func (s *Store) quarantine(ctx context.Context, d digest.Digest, seen Content) (bool, error) {
	from, err := blobPath(d)
	if err != nil {
		return false, err
	}
	to, err := quarantinePath(d)
	if err != nil {
		return false, err
	}
	moved, err := s.tree.move(ctx, from, to, seen)
	if err != nil {
		return false, fmt.Errorf("quarantine %s: %w", d, err)
	}
	return moved, nil
}
