package s3

import (
	"context"
	"errors"
	"slices"
	"strings"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
)

// A bucket has no directories. What looks like one here is a name that keys go on from with a
// slash; it is there as long as one of them is.

// StatFile is Stat of what is known to be no directory: one request for an object that is there. A
// second one for one that is not makes sure that it is the object that is missing, and not the
// bucket.
func (d *Driver) StatFile(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	info, err := d.head(ctx, path)
	if !absent(err) {
		return info, d.statError(ctx, path, err)
	}
	call, done := d.call(ctx)
	defer done()
	var o minio.GetObjectOptions
	o.Set("Range", "bytes=0-0")
	body, _, _, err := d.core.GetObject(call, d.bucket, d.key(path), o)
	if err != nil {
		return nil, d.failed(call, "stat", path, err)
	}
	body.Close() // it has come between the two
	info, err = d.head(ctx, path)
	return info, d.statError(ctx, path, err)
}

func (d *Driver) head(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	ctx, done := d.call(ctx)
	defer done()
	o, err := d.client.StatObject(ctx, d.bucket, d.key(path), minio.StatObjectOptions{})
	if err != nil {
		return nil, d.explainStall(ctx, err)
	}
	return fileInfo(path, o), nil
}

// statError leaves an invalid path what it is.
func (d *Driver) statError(ctx context.Context, path string, err error) error {
	if _, invalid := errors.AsType[storagedriver.InvalidPathError](err); invalid || err == nil {
		return err
	}
	return d.failed(ctx, "stat", path, err)
}

func fileInfo(path string, o minio.ObjectInfo) storagedriver.FileInfo {
	return storagedriver.FileInfoInternal{FileInfoFields: storagedriver.FileInfoFields{Path: path, Size: o.Size, ModTime: o.LastModified}}
}

func dirInfo(path string) storagedriver.FileInfo {
	return storagedriver.FileInfoInternal{FileInfoFields: storagedriver.FileInfoFields{Path: path, IsDir: true}}
}

// Stat looks for an object, and, with a listing, for a directory.
func (d *Driver) Stat(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	if path != "/" {
		info, err := d.head(ctx, path)
		if !absent(err) {
			return info, d.statError(ctx, path, err)
		}
	}
	found := path == "/"
	err := d.each(ctx, minio.ListObjectsOptions{Prefix: d.below(path), Recursive: true, MaxKeys: 1}, func(minio.ObjectInfo) error {
		found = true
		return errEnough
	})
	switch {
	case err != nil:
		return nil, d.failed(ctx, "stat", path, err)
	case !found:
		return nil, storagedriver.PathNotFoundError{Path: path, DriverName: name}
	}
	return dirInfo(path), nil
}

// Exists says whether there is an object or a directory.
func (d *Driver) Exists(ctx context.Context, path string) (bool, error) {
	_, err := d.Stat(ctx, path)
	if _, none := errors.AsType[storagedriver.PathNotFoundError](err); none {
		return false, nil
	}
	return err == nil, err
}

// List returns what is directly below a path, in the order of the keys.
func (d *Driver) List(ctx context.Context, path string) ([]string, error) {
	if path != "/" {
		if err := checkPath(path); err != nil {
			return nil, err
		}
	}
	var names []string
	err := d.each(ctx, minio.ListObjectsOptions{Prefix: d.below(path)}, func(o minio.ObjectInfo) error {
		// A key that ends with a slash is what some consoles make to show a folder.
		if o.Key != d.below(path) {
			names = append(names, strings.TrimSuffix(d.path(o.Key), "/"))
		}
		return nil
	})
	if err != nil {
		return nil, d.failed(ctx, "list", path, err)
	}
	if len(names) == 0 && path != "/" {
		if _, err := d.head(ctx, path); err == nil {
			return nil, d.failed(ctx, "list", path, errors.New("it is an object and no directory"))
		}
		return nil, storagedriver.PathNotFoundError{Path: path, DriverName: name}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

var errEnough = errors.New("enough")

// each calls fn with what a listing has, a page of a thousand at a time, until fn fails. errEnough
// is no error.
func (d *Driver) each(ctx context.Context, o minio.ListObjectsOptions, fn func(minio.ObjectInfo) error) error {
	ctx, done := d.call(ctx)
	defer done()
	no := false
	o.FetchOwner = &no
	for object := range d.client.ListObjectsIter(ctx, d.bucket, o) {
		err := object.Err
		if err == nil {
			err = fn(object)
		}
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return d.explainStall(ctx, err)
		}
	}
	return d.explainStall(ctx, ctx.Err()) // with which a listing ends without a word
}
