package s3

import (
	"context"
	"errors"
	"fmt"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
)

// largestCopy is what S3 copies with one request.
const largestCopy = 5 << 30

// Move copies an object and removes the original: S3 has nothing better, and nothing is called
// often that moves. What comes to the original's place between the two is removed.
func (d *Driver) Move(ctx context.Context, from, to string) error {
	if err := d.Copy(ctx, from, to); err != nil {
		return err
	}
	ctx, done := d.call(ctx)
	defer done()
	if err := d.client.RemoveObject(ctx, d.bucket, d.key(from), minio.RemoveObjectOptions{}); err != nil {
		return d.failed(ctx, "remove", from, err)
	}
	return nil
}

// Copy has the server copy an object, which takes the longer the more it is.
func (d *Driver) Copy(ctx context.Context, from, to string) error {
	if err := errors.Join(checkPath(from), checkPath(to)); err != nil {
		return err
	}
	info, err := d.StatFile(ctx, from)
	if err != nil {
		return err
	}
	ctx, done := d.patientCall(ctx, d.transport.slow)
	defer done()
	src := minio.CopySrcOptions{Bucket: d.bucket, Object: d.key(from)}
	dst := minio.CopyDestOptions{Bucket: d.bucket, Object: d.key(to), Encryption: d.sse}
	if info.Size() <= largestCopy {
		_, err = d.client.CopyObject(ctx, dst, src)
	} else {
		_, err = d.client.ComposeObject(ctx, dst, src)
	}
	if err != nil {
		return d.failed(ctx, "copy", from, err)
	}
	return nil
}

// Delete removes an object, and everything below it as if it were a directory.
func (d *Driver) Delete(ctx context.Context, path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	var keys []string
	err := d.each(ctx, minio.ListObjectsOptions{Prefix: d.below(path), Recursive: true}, func(o minio.ObjectInfo) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		return d.failed(ctx, "remove", path, err)
	}
	if _, err := d.head(ctx, path); err == nil {
		keys = append(keys, d.key(path))
	} else if !absent(err) {
		return d.failed(ctx, "remove", path, err)
	}
	if len(keys) == 0 {
		return storagedriver.PathNotFoundError{Path: path, DriverName: name}
	}
	if err := d.remove(ctx, keys); err != nil {
		return d.failed(ctx, "remove", path, err)
	}
	return nil
}

func (d *Driver) remove(ctx context.Context, keys []string) error {
	ctx, done := d.call(ctx)
	defer done()
	if len(keys) == 1 {
		return d.explainStall(ctx, d.client.RemoveObject(ctx, d.bucket, keys[0], minio.RemoveObjectOptions{}))
	}
	results, err := d.client.RemoveObjectsWithIter(ctx, d.bucket, func(yield func(minio.ObjectInfo) bool) {
		for _, key := range keys {
			if !yield(minio.ObjectInfo{Key: key}) {
				return
			}
		}
	}, minio.RemoveObjectsOptions{})
	if err != nil {
		return err
	}
	for r := range results {
		if r.Err != nil && !noSuchKey(r.Err) {
			return d.explainStall(ctx, fmt.Errorf("%s: %w", d.path(r.ObjectName), r.Err))
		}
	}
	return d.explainStall(ctx, ctx.Err())
}
