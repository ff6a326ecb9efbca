package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// remote is a tree behind a storage driver. How lasting its writes are is the driver's word.
type remote struct {
	driver storagedriver.StorageDriver
	disk   *disk
	drafts *drafts // whose names are unique among processes
}

// abandoned is how old an unfinished upload has to be before a sweep removes it: other nodes
// may share the bucket, and no upload takes a day.
const abandoned = 24 * time.Hour

func (r *remote) Close() error { return nil }

// patient is a ctx for work that nobody waits for. A driver that is hasty with one that somebody waits
// for has its own with Patient: what it did not ask for is not what could not be read.
func (r *remote) patient(ctx context.Context) context.Context {
	if d, ok := r.driver.(interface {
		Patient(context.Context) context.Context
	}); ok {
		return d.Patient(ctx)
	}
	return ctx
}

// open asks a driver with OpenRange once: its answer has the size and, after a first Read, the
// bytes. Of the others size is a question of its own.
func (r *remote) open(ctx context.Context, name string) (Content, error) {
	reader := &remoteReader{ctx: ctx, tree: r, name: name}
	if _, ok := r.driver.(ranger); ok {
		if err := reader.open(); err != nil {
			return Content{}, err
		}
		return Content{ReadSeekCloser: reader, Size: reader.size}, nil
	}
	info, err := r.info(ctx, name)
	if err != nil {
		return Content{}, err
	}
	reader.size, reader.version = info.Size(), versionOf(info)
	return Content{ReadSeekCloser: reader, Size: reader.size}, nil
}

func (r *remote) stat(ctx context.Context, name string) (int64, error) {
	info, err := r.info(ctx, name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// info asks a driver with StatFile only for a file. The others look for a directory too, which for
// a bucket means a listing.
func (r *remote) info(ctx context.Context, name string) (storagedriver.FileInfo, error) {
	stat := r.driver.Stat
	if d, ok := r.driver.(interface {
		StatFile(ctx context.Context, path string) (storagedriver.FileInfo, error)
	}); ok {
		stat = d.StatFile
	}
	info, err := stat(ctx, "/"+name)
	if err != nil {
		return nil, driverError(err)
	}
	if info.IsDir() {
		return nil, notRegular(name)
	}
	return info, nil
}

// put syncs a local file although the driver only reads it: a write that the disk has refused
// later on would be read back as something else.
func (r *remote) put(ctx context.Context, items ...*item) error {
	for _, it := range items {
		if it.src == nil {
			continue
		}
		if err := r.disk.sync(it.src); err != nil {
			return full(err)
		}
		it.synced = true
	}
	for _, it := range items {
		var err error
		if it.src != nil {
			err = r.place(ctx, it.src, it.name)
		} else {
			err = full(driverError(r.driver.PutContent(ctx, "/"+it.name, it.b)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// place uploads, by what is open: when content is put again its file may have another name by now. A
// driver that can put content under its final name in one step says so with PutAt. The Writer of the
// others may show a name before Commit, and the filesystem driver's does, so it gets a private name and
// the file is moved when it is complete.
func (r *remote) place(ctx context.Context, src *os.File, name string) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if d, ok := r.driver.(putter); ok {
		return full(driverError(d.PutAt(ctx, "/"+name, src, info.Size())))
	}
	private := "/" + draftsDir + "/" + r.drafts.name()
	err = r.upload(ctx, io.NewSectionReader(src, 0, info.Size()), private)
	if err == nil {
		err = r.driver.Move(ctx, private, "/"+name)
	}
	if err != nil {
		// The caller may have gone, which is no reason to leave rubbish. What stays is swept.
		r.driver.Delete(context.WithoutCancel(ctx), private)
	}
	return full(driverError(err))
}

func (r *remote) upload(ctx context.Context, src io.Reader, private string) error {
	w, err := r.driver.Writer(ctx, private, false)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, src); err != nil {
		w.Cancel(context.WithoutCancel(ctx))
		w.Close()
		return err
	}
	if err := w.Commit(ctx); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}

// move cannot be one step with looking at what is there. Content that is healed between the
// two goes to quarantine whole, and is missing until it is stored again: where others may store it,
// see moveApart.
func (r *remote) move(ctx context.Context, from, to string, seen Content) (bool, error) {
	if still, err := r.still(ctx, from, seen); !still || err != nil {
		return false, err
	}
	if err := r.driver.Move(ctx, "/"+from, "/"+to); err != nil {
		return false, full(driverError(err))
	}
	return true, nil
}

// moveApart is move with apart, as of Store.Apart, round the looking and the removing. A driver with Copy
// has the copy made before that, however long it takes.
func (r *remote) moveApart(ctx context.Context, from, to string, seen Content, apart func(context.Context, func(context.Context) error) error) (moved bool, err error) {
	d, copies := r.driver.(interface {
		Copy(ctx context.Context, from, to string) error
	})
	if copies {
		if err := d.Copy(ctx, "/"+from, "/"+to); err != nil {
			return false, full(driverError(err))
		}
	}
	err = apart(ctx, func(ctx context.Context) error {
		if !copies {
			moved, err = r.move(ctx, from, to, seen)
			return err
		}
		still, err := r.still(ctx, from, seen)
		if !still || err != nil {
			return err
		}
		moved = true
		return r.remove(ctx, from, true)
	})
	if copies && !moved {
		// It is what has come in its place, or nobody needs it yet.
		err = errors.Join(err, r.remove(context.WithoutCancel(ctx), to, true))
	}
	return moved && err == nil, err
}

// still reports whether what lies under a name is what was seen, or nothing was.
func (r *remote) still(ctx context.Context, name string, seen Content) (bool, error) {
	was, ok := seen.ReadSeekCloser.(*remoteReader)
	if !ok {
		return true, nil
	}
	now, err := r.open(ctx, name)
	if err != nil {
		return false, err
	}
	now.Close()
	is := now.ReadSeekCloser.(*remoteReader)
	return is.size == was.size && is.version == was.version, nil
}

func (r *remote) remove(ctx context.Context, dir string, _ bool) error {
	err := driverError(r.driver.Delete(ctx, "/"+dir))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// untag cannot be one step with being asked to keep a tag: one that is moved between the two is
// removed.
func (r *remote) untag(ctx context.Context, dir string, keep func() (bool, error)) error {
	if kept, err := keep(); kept || err != nil {
		return err
	}
	// The link goes first, so that a removal cut short leaves no tag that still answers.
	if err := r.remove(ctx, dir+"/current", true); err != nil {
		return err
	}
	return r.remove(ctx, dir, true)
}

func (r *remote) list(ctx context.Context, dir string, fn func(name string) error) error {
	names, err := r.driver.List(ctx, "/"+dir)
	if err != nil {
		return &unreadable{dir, driverError(err)}
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(path.Base(name)); err != nil {
			return err
		}
	}
	return nil
}

// content leaves the walking to the driver, which for a bucket means a request for a thousand
// pieces of content instead of one for each.
func (r *remote) content(ctx context.Context, fn visit) error {
	var stop error
	err := r.driver.Walk(ctx, "/"+blobsDir, func(info storagedriver.FileInfo) error {
		if stop = ctx.Err(); stop != nil {
			return stop
		}
		if info.IsDir() {
			return nil
		}
		d, ok := parseBlobPath(info.Path()[1:])
		if !ok {
			return nil
		}
		stop = fn(d, info.Size(), nil)
		return stop
	})
	if stop != nil {
		return stop
	}
	if err = driverError(err); err == nil || errors.Is(err, ErrNotFound) {
		return nil
	}
	return fn("", 0, &unreadable{blobsDir, err})
}

func (r *remote) sweep(ctx context.Context) error {
	if d, ok := r.driver.(interface {
		Sweep(ctx context.Context, age time.Duration) error
	}); ok {
		return driverError(d.Sweep(ctx, abandoned))
	}
	err := r.list(ctx, draftsDir, func(name string) error {
		info, err := r.driver.Stat(ctx, "/"+draftsDir+"/"+name)
		if err != nil || time.Since(info.ModTime()) < abandoned {
			return nil // one that is gone, or that another node is at
		}
		return r.remove(ctx, draftsDir+"/"+name, false)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// driverError makes errors of a driver comparable: they hide what they are about.
func driverError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[storagedriver.Error](err); ok && e.Detail != nil {
		return fmt.Errorf("%s: %w", e.DriverName, driverError(e.Detail))
	}
	if _, ok := errors.AsType[storagedriver.PathNotFoundError](err); ok {
		return ErrNotFound
	}
	return err
}
