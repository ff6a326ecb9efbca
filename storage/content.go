package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/opencontainers/go-digest"
)

// Content is open content. With Config.Root, and where there is a copy of it on this machine, the
// reader is an *os.File, so that the kernel can send it; it stays readable when the content is removed
// or replaced. While a copy is being made the reader has the method
//
//	Section(most int64) (*os.File, int64, error)
//
// which waits for the next bytes and returns a file that stands at them, with how many there are.
type Content struct {
	io.ReadSeekCloser
	Size int64 // of what is stored, in bytes, which need not be what it should be

	hot *hot // whose copy it is; nil: none
}

// Open opens content, or fails with ErrNotFound. The bytes are not checked, and a zero-length
// or truncated file is what it is: callers compare Size with what they know. ctx bounds the
// life of what is returned. The caller closes it.
//
// Where there are copies on this machine one of them will do, whatever has become of the content
// itself: callers ask the catalog first.
func (s *Store) Open(ctx context.Context, d digest.Digest) (Content, error) {
	name, err := blobPath(d)
	if err != nil {
		return Content{}, err
	}
	var c Content
	if s.hot == nil {
		c, err = s.tree.open(ctx, name)
	} else {
		var ok bool
		if c, ok = s.hot.open(d); !ok {
			c, err = s.hot.cold(ctx, d, name)
		}
	}
	if err != nil {
		return Content{}, fmt.Errorf("open %s: %w", d, err)
	}
	return c, nil
}

// Cool drops the copy on this machine of content that is kept elsewhere, and reports whether there
// was one. Where content has only one place it does nothing.
func (s *Store) Cool(d digest.Digest) bool {
	if _, _, err := split(d); err != nil || s.hot == nil {
		return false
	}
	return s.hot.drop(d)
}

// Length says how many bytes Open would find, or ErrNotFound. Unlike Stat it takes the word of a copy
// on this machine.
func (s *Store) Length(ctx context.Context, d digest.Digest) (int64, error) {
	if _, _, err := split(d); err == nil && s.hot != nil {
		if size, ok := s.hot.size(d); ok {
			return size, nil
		}
	}
	return s.Stat(ctx, d)
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
	b, err := c.Whole(d, limit)
	c.Close()
	if err == nil || c.hot == nil || c.Size > limit {
		return b, err
	}
	// It was the copy, which is gone now.
	if c, err = s.Open(ctx, d); err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Whole(d, limit)
}

// Whole is Store.Read of content that is open and has not been read yet. A copy that is found to be
// damaged is dropped: the next Open does not find it.
func (c Content) Whole(d digest.Digest, limit int64) ([]byte, error) {
	b, err := c.whole(d, limit)
	if err != nil && c.hot != nil && c.Size <= limit {
		c.hot.counts.damaged.Add(1)
		c.hot.drop(d)
	}
	return b, err
}

func (c Content) whole(d digest.Digest, limit int64) ([]byte, error) {
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
	if s.hot != nil {
		s.hot.put(d, b)
	}
	return nil
}

// Remove removes content. That it is missing is fine. After a power cut it may be back, whole.
func (s *Store) Remove(ctx context.Context, d digest.Digest) error {
	name, err := blobPath(d)
	if err != nil {
		return err
	}
	// The copy first, because it is of use to nobody, whatever becomes of the content; and once more,
	// because somebody may have begun another meanwhile.
	s.Cool(d)
	defer s.Cool(d)
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
	var moved bool
	if r, ok := s.tree.(*remote); ok && s.Apart != nil {
		moved, err = r.moveApart(ctx, from, to, seen, func(ctx context.Context, do func(context.Context) error) error { return s.Apart(ctx, d, do) })
	} else {
		moved, err = s.tree.move(ctx, from, to, seen)
	}
	if err != nil {
		return false, fmt.Errorf("quarantine %s: %w", d, err)
	}
	s.Cool(d)
	return moved, nil
}
