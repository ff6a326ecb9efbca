package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
)

// Backup writes content and links of a store into a directory that nobody serves, in the same layout. What
// is in the store while that is done may come and go. Nothing is synced: see SyncTree. One Backup is for one
// goroutine.
type Backup struct {
	From *Store
	Dir  *os.Root // what backups are in
	To   string   // the data directory of this one, below Dir

	// Before is the data directory of an earlier backup, below Dir, whose files are linked to where they can
	// be and not copied. "": there is none.
	Before string

	// Wrote is called for each file with its name below Dir, its length and its SHA-256.
	Wrote func(name string, size int64, sum [sha256.Size]byte)

	made map[string]bool // folders
	buf  []byte
}

// Content writes one piece of content. It is ErrNotFound when the store has none, and ErrDamaged when what
// it has is something else than the digest says; neither leaves a file. linked is when an earlier backup had
// it: it was compared with its digest then, and is not read again.
func (b *Backup) Content(ctx context.Context, d digest.Digest) (size int64, linked bool, err error) {
	name, err := blobPath(d)
	if err != nil {
		return 0, false, err
	}
	c, err := b.From.Open(ctx, d)
	if err != nil {
		return 0, false, err
	}
	defer c.Close()
	if err := b.folder(path.Dir(name)); err != nil {
		return 0, false, err
	}
	linked, err = b.link(name, d, c.Size)
	if linked || err != nil {
		return c.Size, linked, err
	}
	err = b.write(ctx, name, d, c)
	return c.Size, false, err
}

// link takes a file of the earlier backup, if that has the content and the file system lets two names have
// it. SHA-512 content is copied each time: its SHA-256 would have to be read from it anyway.
func (b *Backup) link(name string, d digest.Digest, size int64) (bool, error) {
	if b.Before == "" || d.Algorithm() != digest.SHA256 {
		return false, nil
	}
	before, to := path.Join(b.Before, name), path.Join(b.To, name)
	info, err := b.Dir.Lstat(before)
	if err != nil || !info.Mode().IsRegular() || info.Size() != size {
		return false, nil
	}
	if b.Dir.Link(before, to) != nil {
		return false, nil // a file system without links, or with no more of this one: it is copied
	}
	sum, err := hex.DecodeString(d.Encoded())
	if err != nil {
		return false, err
	}
	b.Wrote(to, size, [sha256.Size]byte(sum))
	return true, nil
}

// write copies content, and compares it with its digest on the way.
func (b *Backup) write(ctx context.Context, name string, d digest.Digest, c Content) (err error) {
	name = path.Join(b.To, name)
	f, err := b.Dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("back up %s: %w", d, full(err))
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = fmt.Errorf("back up %s: %w", d, full(e))
		}
		if err != nil {
			b.Dir.Remove(name)
		}
	}()
	own, err := newHash(d.Algorithm())
	if err != nil {
		return err
	}
	sum := sha256.New()
	hashes := io.Writer(own)
	if d.Algorithm() == digest.SHA256 {
		sum = own
	} else {
		hashes = io.MultiWriter(own, sum)
	}
	if b.buf == nil {
		b.buf = make([]byte, 1<<20)
	}
	for {
		n, err := c.Read(b.buf)
		hashes.Write(b.buf[:n])
		if _, err := f.Write(b.buf[:n]); err != nil {
			return fmt.Errorf("back up %s: %w", d, full(err))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", d, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if got := digest.NewDigest(d.Algorithm(), own); got != d {
		return fmt.Errorf("%s: %w: what is stored is %s", d, ErrDamaged, got)
	}
	b.Wrote(name, c.Size, [sha256.Size]byte(sum.Sum(nil)))
	return nil
}

// LinkBlob writes the link by which a repository has a blob.
func (b *Backup) LinkBlob(repo string, d digest.Digest) error {
	if err := check(repo, d); err != nil {
		return err
	}
	return b.item(linkItem(linkDir(layersDir(repo), d), d), time.Time{})
}

// LinkManifest writes the link by which a repository has a manifest.
func (b *Backup) LinkManifest(repo string, d digest.Digest) error {
	if err := check(repo, d); err != nil {
		return err
	}
	return b.item(linkItem(linkDir(revisionsDir(repo), d), d), time.Time{})
}

// Tag writes the links of a tag, as of when it was pointed there.
func (b *Backup) Tag(repo, tag string, d digest.Digest, at time.Time) error {
	if err := errors.Join(check(repo, d), checkTag(tag)); err != nil {
		return err
	}
	for _, it := range tagItems(repo, tag, d) {
		if err := b.item(it, at); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backup) item(it *item, at time.Time) error {
	if err := b.folder(path.Dir(it.name)); err != nil {
		return err
	}
	return b.file(it.name, bytes.NewReader(it.b), at)
}

// File writes a file that is no content.
func (b *Backup) File(name string, content io.Reader) error {
	if err := b.folder(path.Dir(name)); err != nil {
		return err
	}
	return b.file(name, content, time.Time{})
}

func (b *Backup) file(name string, content io.Reader, at time.Time) error {
	name = path.Join(b.To, name)
	f, err := b.Dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, full(err))
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), content)
	if err = errors.Join(err, f.Close()); err == nil && !at.IsZero() {
		err = b.Dir.Chtimes(name, at, at)
	}
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, full(err))
	}
	b.Wrote(name, n, [sha256.Size]byte(sum.Sum(nil)))
	return nil
}

// folder makes a folder, once.
func (b *Backup) folder(name string) error {
	if b.made[name] {
		return nil
	}
	if err := b.Dir.MkdirAll(path.Join(b.To, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("back up: %w", full(err))
	}
	if b.made == nil {
		b.made = map[string]bool{}
	}
	b.made[name] = true
	return nil
}
