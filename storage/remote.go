package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

func (r *remote) open(ctx context.Context, name string) (Content, error) {
	info, err := r.info(ctx, name)
	if err != nil {
		return Content{}, err
	}
	reader := &remoteReader{ctx: ctx, driver: r.driver, name: name, size: info.Size(), made: info.ModTime()}
	return Content{ReadSeekCloser: reader, Size: info.Size()}, nil
}

func (r *remote) stat(ctx context.Context, name string) (int64, error) {
	info, err := r.info(ctx, name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (r *remote) info(ctx context.Context, name string) (storagedriver.FileInfo, error) {
	info, err := r.driver.Stat(ctx, "/"+name)
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
			err = r.place(ctx, it.src.Name(), it.name)
		} else {
			err = full(driverError(r.driver.PutContent(ctx, "/"+it.name, it.b)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// place uploads. A driver that can put a local file under its final name in one step says so
// with PutFile. The Writer of the others may show a name before Commit, and the filesystem
// driver's does, so it gets a private name and the file is moved when it is complete.
func (r *remote) place(ctx context.Context, src, name string) error {
	if d, ok := r.driver.(interface {
		PutFile(ctx context.Context, path, localFile string) error
	}); ok {
		return full(driverError(d.PutFile(ctx, "/"+name, src)))
	}
	private := "/" + draftsDir + "/" + r.drafts.name()
	err := r.upload(ctx, src, private)
	if err == nil {
		err = r.driver.Move(ctx, private, "/"+name)
	}
	if err != nil {
		// The caller may have gone, which is no reason to leave rubbish. What stays is swept.
		r.driver.Delete(context.WithoutCancel(ctx), private)
	}
	return full(driverError(err))
}

func (r *remote) upload(ctx context.Context, src, private string) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := r.driver.Writer(ctx, private, false)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, f); err != nil {
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
// two goes to quarantine whole, and is missing until it is stored again.
func (r *remote) move(ctx context.Context, from, to string, seen Content) (bool, error) {
	if reader, ok := seen.ReadSeekCloser.(*remoteReader); ok {
		info, err := r.info(ctx, from)
		if err != nil {
			return false, err
		}
		if info.Size() != reader.size || !info.ModTime().Equal(reader.made) {
			return false, nil
		}
	}
	if err := r.driver.Move(ctx, "/"+from, "/"+to); err != nil {
		return false, full(driverError(err))
	}
	return true, nil
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

// remoteReader reads through the driver, from where it was last told to, and asks the driver
// for nothing before the first Read after a Seek. ctx bounds its life.
type remoteReader struct {
	ctx    context.Context
	driver storagedriver.StorageDriver
	name   string
	size   int64
	made   time.Time
	at     int64
	body   io.ReadCloser // open at at, or nil
}

func (r *remoteReader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.body == nil {
		body, err := r.driver.Reader(r.ctx, "/"+r.name, r.at)
		if err != nil {
			return 0, driverError(err)
		}
		r.body = body
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.size-r.at)])
	r.at += int64(n)
	if err == io.EOF && r.at < r.size {
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *remoteReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek %s to %d: %w", r.name, offset, fs.ErrInvalid)
	}
	if offset == r.at {
		return offset, nil
	}
	r.at = offset
	return offset, r.Close()
}

// Close may be called more than once; a Read after it opens the body again.
func (r *remoteReader) Close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
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
