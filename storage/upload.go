package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// An upload is a draft that outlives its process. Its bytes lie under its id in a directory of
// their own among the drafts, to be renamed into place like theirs, and beside them, as soon as
// it matters, a note of whoever began it. Both are there or there is no upload to go on with; either alone is what a
// crash has left, which Uploads lists like the rest, so that it goes when its time is up.
//
// Who may use an id, and that only one does at a time, is for the caller to see to.

const (
	uploadsDir = "uploads"
	noteSuffix = ".note"

	// mostNote bounds what is read of a note, in bytes. It says who and where, and that fits.
	mostNote = 64 << 10
)

// worth is how much of an upload there has to be, in bytes, before its note is written for the
// case that we are killed: less is sent again in no time. Most uploads end before, and one more
// file to be made and removed takes as long as the rest of them: ext4 looks at each inode that
// was freed in the last minute before it makes another.
const worth = 1 << 20

// hashing is how much of an upload is read at a time when it is hashed again: enough that the
// calls cost nothing beside the hash.
const hashing = 1 << 20

// checkUpload refuses ids that would be other names than that of one file.
func checkUpload(id string) error {
	ok := len(id) >= 1 && len(id) <= 64
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = lowerAlphanumeric(c) || c >= 'A' && c <= 'Z' || c == '-'
	}
	if !ok {
		return fmt.Errorf("upload id %q is not 1 to 64 letters, digits or '-'", clip(id))
	}
	return nil
}

// NewUpload begins an upload under an id that nobody has, with a note to be kept beside it, at
// most 64 KiB. It survives our end after Suspend, or from the first MiB on; and a power cut only
// after Suspend.
//
// It is a Draft of unknown size but for this: while the disk has no room for a Write, that is
// ErrFull and not final; what Write says that it has written is, and the upload can go on from
// there. A Commit that fails before the content has moved is not final either. Close removes the
// upload, Suspend keeps it.
func (s *Store) NewUpload(id string, note []byte, alg digest.Algorithm) (*Draft, error) {
	h, err := newHash(alg)
	if err := errors.Join(err, checkUpload(id)); err != nil {
		return nil, err
	}
	if len(note) > mostNote {
		return nil, fmt.Errorf("upload %s: its note is %d bytes long", id, len(note))
	}
	d := &Draft{store: s, alg: alg, hash: h, upload: id, note: append([]byte{}, note...)}
	if err := d.reserve(0); err != nil {
		return nil, fmt.Errorf("upload %s: %w", id, err)
	}
	err = s.disk.inDir(s.drafts.uploads(), func() (err error) {
		d.file, err = s.disk.create(s.drafts.upload(id))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("upload %s: %w", id, full(err))
	}
	return d, nil
}

// OpenUpload goes on with an upload of this process or an earlier one, from the end of what is
// there, and returns its note. There has to be time to read it all, to hash it. After a power
// cut an upload that was not suspended may be shorter than it was, or have other bytes, which
// Verify finds. ErrNotFound when there is none.
func (s *Store) OpenUpload(ctx context.Context, id string, alg digest.Algorithm) (*Draft, []byte, error) {
	h, err := newHash(alg)
	if err := errors.Join(err, checkUpload(id)); err != nil {
		return nil, nil, err
	}
	note, err := s.drafts.readNote(id)
	if err != nil {
		return nil, nil, fmt.Errorf("upload %s: %w", id, missing(err))
	}
	f, err := s.disk.openToWrite(s.drafts.upload(id))
	if err != nil {
		return nil, nil, fmt.Errorf("upload %s: %w", id, missing(err))
	}
	d := &Draft{store: s, file: f, alg: alg, hash: h, upload: id}
	if err := d.rehash(ctx); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("upload %s: %w", id, err)
	}
	return d, note, nil
}

// rehash reads what is there, and leaves the file at its end.
func (d *Draft) rehash(ctx context.Context) error {
	b := make([]byte, hashing)
	var at int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var n int
		var end error
		err := d.store.disk.call("read", d.file.Name(), func() error {
			n, end = io.ReadFull(d.file, b)
			if end == io.EOF || end == io.ErrUnexpectedEOF {
				return nil
			}
			return end
		})
		if err != nil {
			return err
		}
		d.hash.Write(b[:n])
		at += int64(n)
		if end != nil {
			break
		}
	}
	d.written.Store(at)
	d.pushed = at
	return nil
}

// Uploads calls fn with every upload, in no order, until fn fails, and returns that error: its
// bytes, and when the last of them came. Among them are the remains of uploads that a crash has
// ended, which can only be removed, and those that are being written now.
func (s *Store) Uploads(ctx context.Context, fn func(id string, size int64, touched time.Time) error) error {
	err := s.drafts.eachUpload(ctx, fn)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("uploads: %w", err)
	}
	return nil
}

// RemoveUpload removes an upload that nobody has open. That it is missing is fine. After a power
// cut it may be back.
func (s *Store) RemoveUpload(id string) error {
	if err := checkUpload(id); err != nil {
		return err
	}
	if err := s.drafts.removeUpload(id); err != nil {
		return fmt.Errorf("remove upload %s: %w", id, full(err))
	}
	return nil
}

// Suspend ends the draft and keeps the upload for OpenUpload: when it returns nil that finds all
// of it, after a power cut too. When the disk has failed it, now or before, the upload is gone:
// what of it could still be read cannot be trusted to stay. After Commit or Close it does what a
// second Close does.
func (d *Draft) Suspend() error {
	if d.upload == "" {
		return errors.New("suspend of a draft that is no upload")
	}
	if d.closed || d.committed {
		return d.Close()
	}
	if d.err == nil {
		if err := d.keep(); err != nil {
			d.fail("suspend", err)
		}
	}
	if err := d.err; err != nil {
		d.Close()
		return err
	}
	d.closed = true
	d.letGo()
	d.err = os.ErrClosed
	return d.file.Close()
}

// noted has the note beside an upload, if it is not there yet.
func (d *Draft) noted() error {
	if d.note == nil {
		return nil
	}
	if err := d.store.drafts.writeNote(d.upload, d.note); err != nil {
		return err
	}
	d.note = nil
	return nil
}

func (d *Draft) keep() error {
	disk, drafts := d.store.disk, &d.store.drafts
	if err := d.noted(); err != nil {
		return err
	}
	if err := disk.sync(d.file); err != nil {
		return err
	}
	for _, name := range []string{drafts.upload(d.upload) + noteSuffix, drafts.uploads()} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if name == drafts.uploads() {
			err = disk.syncDir(f)
		} else {
			err = disk.sync(f)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// unmoved reports whether an upload's file is still where it was written.
func (d *Draft) unmoved() bool {
	if d.upload == "" {
		return false
	}
	_, err := os.Lstat(d.file.Name())
	return err == nil
}

func (d *drafts) uploads() string { return filepath.Join(d.dir, uploadsDir) }

func (d *drafts) upload(id string) string { return filepath.Join(d.dir, uploadsDir, id) }

// writeNote begins a note with its digest, because a crash can leave any part of it.
func (d *drafts) writeNote(id string, note []byte) error {
	f, err := d.disk.create(d.upload(id) + noteSuffix)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = d.disk.write(f, append([]byte(digest.FromBytes(note)+"\n"), note...)); err != nil {
		d.disk.remove(f.Name())
	}
	return err
}

// readNote takes a note that is not whole for none: whoever goes by it must not find less in it
// than somebody wrote.
func (d *drafts) readNote(id string) (note []byte, err error) {
	name := d.upload(id) + noteSuffix
	var b []byte
	err = d.disk.call("read", name, func() (err error) {
		b, err = os.ReadFile(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	head, note, _ := bytes.Cut(b, []byte("\n"))
	if string(head) != digest.FromBytes(note).String() {
		return nil, ErrNotFound
	}
	return note, nil
}

// removeUpload begins with the note, without which there is no upload any more.
func (d *drafts) removeUpload(id string) error {
	name := d.upload(id)
	return errors.Join(d.disk.remove(name+noteSuffix), d.disk.remove(name))
}

func (d *drafts) eachUpload(ctx context.Context, fn func(id string, size int64, touched time.Time) error) error {
	dir, err := os.Open(d.uploads())
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		var entries []fs.DirEntry
		var end error
		err := d.disk.call("list", dir.Name(), func() error {
			entries, end = dir.ReadDir(1024)
			if end == io.EOF {
				return nil
			}
			return end
		})
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := d.visitUpload(e, fn); err != nil {
				return err
			}
		}
		if end != nil {
			return nil
		}
	}
}

// visitUpload tells of an upload by its bytes, and by its note only when that is all there is.
func (d *drafts) visitUpload(e fs.DirEntry, fn func(id string, size int64, touched time.Time) error) error {
	id, isNote := strings.CutSuffix(e.Name(), noteSuffix)
	if checkUpload(id) != nil || !e.Type().IsRegular() {
		return nil // not ours
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since
	}
	if err != nil {
		return err
	}
	if !isNote {
		return fn(id, info.Size(), info.ModTime())
	}
	if _, err := os.Lstat(d.upload(id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fn(id, 0, info.ModTime())
}
