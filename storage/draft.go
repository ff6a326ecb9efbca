package storage

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// Draft is content on its way in: a local file, written once from the front, hashed as it is
// written, and readable behind the write by anybody. Write, Verify, Commit and Close belong to
// one goroutine; ReadAt, File and Len to all.
//
// The first error of a Write or Commit is final: a draft that the disk has once refused is
// never tried again, because after a failed sync the kernel calls the lost pages clean. What
// was written before stays readable until Close. Only an upload, see [Store.NewUpload], takes
// less for final: nobody would send the same again so soon.
type Draft struct {
	store  *Store
	file   *os.File
	alg    digest.Algorithm
	hash   hash.Hash // of what is written; nil when it has lost track of that
	upload string    // the id of one that outlives the process; "" for a plain draft
	note   []byte    // of an upload, until it is written; then nil

	written  atomic.Int64
	reserved int64 // promised to this draft and not yet written
	pushed   int64 // how much the kernel has been told to bring to the disk

	verified  digest.Digest // what the bytes are known to be; "" when not known
	committed bool
	closed    bool
	err       error
}

// step is how much is reserved at a time when the size is not known: small against any floor,
// and large against a write, so that asking costs nothing.
const step = 16 << 20

// push is how much is written before the kernel is told to bring it to the disk. Left alone it
// waits for seconds, and then the whole of a large layer is written while Commit waits: 64 MiB
// take a fifth longer on a fast disk, and on a slow one as long again as the download.
const push = 8 << 20

// Draft begins new content, to be hashed with alg. With its size known, room for all of it is
// reserved; with size -1 as it goes. ErrFull means that there is none. The caller closes it.
func (s *Store) Draft(alg digest.Algorithm, size int64) (*Draft, error) {
	h, err := newHash(alg)
	if err != nil {
		return nil, err
	}
	d := &Draft{store: s, alg: alg, hash: h}
	if err := d.reserve(max(size, 0)); err != nil {
		return nil, fmt.Errorf("draft: %w", err)
	}
	if d.file, err = s.drafts.create(); err != nil {
		s.space.release(d.reserved)
		return nil, fmt.Errorf("draft: %w", full(err))
	}
	return d, nil
}

func (d *Draft) reserve(n int64) error {
	if err := d.store.space.reserve(n); err != nil {
		return err
	}
	d.reserved += n
	return nil
}

// Write appends. ErrFull means that there is no room for p, on the disk or above the floor.
func (d *Draft) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.committed {
		return 0, d.fail("write", errors.New("it is committed"))
	}
	if more := int64(len(p)) - d.reserved; more > 0 {
		err := d.reserve(max(more, step))
		if errors.Is(err, ErrFull) {
			err = d.reserve(more) // close to the floor less than a step may still fit
		}
		if err != nil {
			return 0, d.refuse("write", err)
		}
	}
	hashed := d.hashing(p)
	n, err := d.store.disk.write(d.file, p)
	at := d.written.Add(int64(n)) // first, because readers are waiting for it
	d.store.space.release(int64(n))
	d.reserved -= int64(n)
	if at-d.pushed >= push {
		writeSoon(d.file, d.pushed, at-d.pushed)
		d.pushed = at
	}
	hashed(n)
	d.verified = ""
	if at >= worth && at-int64(n) < worth {
		d.noted() // or by Suspend, which tells if it fails again
	}
	if err != nil {
		return n, d.refuse("write", err)
	}
	return n, nil
}

// large is how long a piece is, in bytes, that is hashed while it is written: either takes about as
// long as the other, and many times what it costs to start a goroutine.
const large = 64 << 10

// hashing hashes a piece. What it returns is called when so many bytes of that have been written,
// and comes back when they are hashed.
func (d *Draft) hashing(p []byte) (written func(n int)) {
	if d.hash == nil || len(p) < large {
		return func(n int) {
			if d.hash != nil {
				d.hash.Write(p[:n])
			}
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.hash.Write(p)
	}()
	return func(n int) {
		<-done
		if n < len(p) {
			d.hash = nil // it has bytes in it that are not in the file
		}
	}
}

// ReadAt reads what is written, and reports io.EOF at its end although more may come. It works
// until Close, after Commit too.
func (d *Draft) ReadAt(p []byte, off int64) (int, error) {
	left := d.written.Load() - off
	if left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) <= left {
		return d.file.ReadAt(p, off)
	}
	n, err := d.file.ReadAt(p[:left], off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}

// File is the file itself, which is as long as Len says or longer. Its offset is the writer's:
// others must not read, write or seek it but at offsets of their own.
func (d *Draft) File() *os.File { return d.file }

// Len is how many bytes can be read.
func (d *Draft) Len() int64 { return d.written.Load() }

// Digest is that of what is written, by the draft's algorithm: of content of which nobody says what it
// is. "" where the disk has not taken a Write whole.
func (d *Draft) Digest() digest.Digest {
	if d.hash == nil || d.err != nil {
		return ""
	}
	return digest.NewDigest(d.alg, d.hash)
}

// Verify says whether what is written is all of want: ErrMismatch if not. size is its length
// if it is known from elsewhere, or negative. A digest of another algorithm than the draft's
// has the file read again.
func (d *Draft) Verify(want digest.Digest, size int64) error {
	if d.err != nil {
		return d.err
	}
	if _, _, err := split(want); err != nil {
		return err
	}
	if n := d.Len(); size >= 0 && n != size {
		return fmt.Errorf("%s: %d bytes instead of %d: %w", want, n, size, ErrMismatch)
	}
	h := d.hash
	if want.Algorithm() != d.alg || h == nil {
		var err error
		if h, err = newHash(want.Algorithm()); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(h, io.NewSectionReader(d, 0, d.Len()), make([]byte, hashing)); err != nil {
			return d.fail("verify", err)
		}
	}
	if got := digest.NewDigest(want.Algorithm(), h); got != want {
		return fmt.Errorf("%s: the bytes are those of %s: %w", want, got, ErrMismatch)
	}
	d.verified = want
	return nil
}

// Commit makes the content visible under the digest that it was verified to be, and a blob of
// each of repos as LinkBlob does, which then takes hardly longer. When it returns nil the content
// survives a power cut, and whatever was stored under the digest before is replaced, so that
// damage heals. A second Commit does nothing.
func (d *Draft) Commit(ctx context.Context, repos ...string) error {
	if d.err != nil {
		return d.err
	}
	if d.committed {
		return nil
	}
	if d.verified == "" {
		return errors.New("commit of a draft whose bytes are not verified")
	}
	name, err := blobPath(d.verified)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	content := &item{name: name, src: d.file}
	items := []*item{content}
	for _, repo := range repos {
		if err := checkRepo(repo); err != nil {
			return err
		}
		items = append(items, linkItem(linkDir(layersDir(repo), d.verified), d.verified))
	}
	if err := d.store.tree.put(ctx, items...); err != nil {
		if content.synced && d.unmoved() {
			// All of it is on disk and where it was, so it can be tried again. With a driver it
			// may be the bucket that is away for a while.
			return fmt.Errorf("draft: commit: %w", err)
		}
		return d.fail("commit", err)
	}
	d.committed = true
	d.letGo()
	if d.store.hot != nil {
		d.store.hot.take(d)
	}
	if d.upload != "" {
		// Nobody but who removes uploads that are left over sees what stays if this fails.
		d.store.drafts.removeUpload(d.upload)
	}
	return nil
}

// Again is Commit for content that was committed and that another node may have removed since, and
// with it its links: what is not there is put there again. Where the draft's file is by now, among the
// copies or nowhere, does not matter: it is open.
func (d *Draft) Again(ctx context.Context, repos ...string) error {
	if !d.committed || d.closed {
		return errors.New("a draft is put again that is not committed, or closed")
	}
	name, err := blobPath(d.verified)
	if err != nil {
		return err
	}
	var items []*item
	switch size, err := d.store.tree.stat(ctx, name); {
	case errors.Is(err, ErrNotFound) || err == nil && size != d.Len():
		items = append(items, &item{name: name, src: d.file})
	case err != nil:
		return fmt.Errorf("draft: put again: %w", err)
	}
	for _, repo := range repos {
		if err := checkRepo(repo); err != nil {
			return err
		}
		items = append(items, linkItem(linkDir(layersDir(repo), d.verified), d.verified))
	}
	if err := d.store.tree.put(ctx, items...); err != nil {
		return fmt.Errorf("draft: put again: %w", err)
	}
	return nil
}

// Close ends the draft: what was reserved is free again, and without a Commit the file is gone.
// A second Close does nothing.
func (d *Draft) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	d.letGo()
	if d.err == nil {
		d.err = os.ErrClosed
	}
	// After a Commit the name is not there any more, or, with a driver, of no more use.
	return errors.Join(d.remove(), d.file.Close())
}

func (d *Draft) remove() error {
	switch {
	case d.upload == "":
		return d.store.disk.remove(d.file.Name())
	case d.committed:
		return nil // Commit has, and the id may be somebody else's
	}
	return d.store.drafts.removeUpload(d.upload)
}

// letGo gives back what was reserved and will not be written.
func (d *Draft) letGo() {
	d.store.space.release(d.reserved)
	d.reserved = 0
}

// refuse is fail, but for an upload that there is no room for: what was written before is as
// good as it was, and there may be room later.
func (d *Draft) refuse(doing string, err error) error {
	if err := full(err); d.upload != "" && errors.Is(err, ErrFull) {
		return fmt.Errorf("draft: %s: %w", doing, err)
	}
	return d.fail(doing, err)
}

func (d *Draft) fail(doing string, err error) error {
	d.letGo()
	d.err = fmt.Errorf("draft: %s: %w", doing, full(err))
	if d.upload != "" && !d.committed {
		// At once, because a process that ends before Close would leave it to the next one,
		// which could not know what the disk has lost.
		d.store.drafts.removeUpload(d.upload)
	}
	return d.err
}
