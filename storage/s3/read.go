package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
)

// Reader reads an object from an offset on. At its end and beyond there is nothing to read.
func (d *Driver) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	body, _, _, err := d.OpenRange(ctx, path, offset)
	if _, beyond := errors.AsType[storagedriver.InvalidOffsetError](err); beyond && offset > 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// OpenRange opens an object at an offset, with one request. size is the length of all of it, and
// version tells it from what else is under the name before or after: it is what the server calls it and
// when it came, because one of the same bytes that takes the place of a rotten one is called the same. ctx bounds the life of the body. A connection
// that breaks is made anew where it broke, on the same version or not at all; a body that ends
// with io.EOF has come whole.
func (d *Driver) OpenRange(ctx context.Context, path string, offset int64) (body io.ReadCloser, size int64, version string, err error) {
	if err := checkPath(path); err != nil {
		return nil, 0, "", err
	}
	if offset < 0 {
		return nil, 0, "", storagedriver.InvalidOffsetError{Path: path, Offset: offset, DriverName: name}
	}
	r := &reader{driver: d, ctx: ctx, path: path, at: offset, size: -1}
	if err := r.open(); err != nil {
		return nil, 0, "", err
	}
	return r, r.size, r.etag + " " + r.since.UTC().Format(time.RFC3339Nano), nil
}

// reader is the body of an object that is being read. ctx bounds its life.
type reader struct {
	driver *Driver
	ctx    context.Context
	path   string
	at     int64
	size   int64  // -1 until the first answer
	etag   string // "" where the server has none
	since  time.Time

	body io.ReadCloser // nil after it broke
	done func()        // ends the call that body is of
	left int64         // that body has to give
	bad  int           // how many bodies in a row gave next to nothing
	gave int64         // what this one did
}

// enough is how much a body has to give before it breaks, in bytes, to count as progress.
const enough = 64 << 10

func (r *reader) open() error {
	var o minio.GetObjectOptions
	if r.at > 0 {
		o.Set("Range", fmt.Sprintf("bytes=%d-", r.at))
	}
	if r.etag != "" {
		o.Set("If-Match", `"`+r.etag+`"`)
	}
	ctx, done := r.driver.call(r.ctx)
	body, info, _, err := r.driver.core.GetObject(ctx, r.driver.bucket, r.driver.key(r.path), o)
	if err != nil {
		defer done()
		if status(err) == http.StatusRequestedRangeNotSatisfiable {
			return storagedriver.InvalidOffsetError{Path: r.path, Offset: r.at, DriverName: name}
		}
		return r.driver.failed(ctx, "read", r.path, err)
	}
	size, err := r.whole(info)
	if err == nil && r.size >= 0 && (size != r.size || info.ETag != r.etag) {
		err = errors.New("it has been replaced while it was read")
	}
	if err != nil {
		body.Close()
		done()
		return r.driver.failed(r.ctx, "read", r.path, err)
	}
	r.since = info.LastModified
	r.size, r.etag, r.body, r.done, r.left, r.gave = size, info.ETag, body, done, size-r.at, 0
	return nil
}

// whole is the length of the whole object, and checks that the answer is the rest of it from where
// it was asked for.
func (r *reader) whole(info minio.ObjectInfo) (int64, error) {
	given := info.Headers.Get("Content-Range")
	if given == "" {
		if r.at > 0 {
			return 0, errors.New("the server has sent all of it instead of a part")
		}
		if info.Size < 0 {
			return 0, errors.New("the server does not say how long it is")
		}
		return info.Size, nil
	}
	span, total, _ := strings.Cut(strings.TrimPrefix(given, "bytes "), "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil || span != fmt.Sprintf("%d-%d", r.at, size-1) {
		return 0, fmt.Errorf("the server has sent %q instead of what comes after byte %d", given, r.at)
	}
	return size, nil
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.at >= r.size {
			return 0, io.EOF
		}
		if r.body == nil {
			if err := r.reopen(); err != nil {
				return 0, err
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
		r.at += int64(n)
		r.left -= int64(n)
		r.gave += int64(n)
		if err == nil && n > 0 || len(p) == 0 {
			return n, nil
		}
		if err != nil {
			if r.left == 0 {
				return n, nil // and io.EOF next time
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			if err := r.broke(err); err != nil {
				return n, err
			}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// broke lets go of a body, and returns an error if it was the last one to be tried.
func (r *reader) broke(err error) error {
	r.letGo()
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	if r.gave >= enough {
		r.bad = 0
	}
	if r.bad++; r.bad > r.driver.retries {
		return r.driver.failed(r.ctx, "read", r.path, fmt.Errorf("%d bytes of %d have come: %w", r.at, r.size, err))
	}
	return nil
}

// reopen waits a little, because many readers may have lost their server at the same time.
func (r *reader) reopen() error {
	if r.bad > 0 {
		wait := time.NewTimer(rand.N(100 * time.Millisecond << min(r.bad, 5)))
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
	err := r.open()
	if _, gone := errors.AsType[storagedriver.PathNotFoundError](err); gone {
		// It was there when it was opened, and whoever reads has said so to others.
		return r.driver.failed(r.ctx, "read", r.path, fmt.Errorf("it has been removed after %d bytes of %d: %w", r.at, r.size, io.ErrUnexpectedEOF))
	}
	return err
}

func (r *reader) letGo() {
	if r.body != nil {
		r.body.Close()
		r.done()
		r.body = nil
	}
}

// Close may be called more than once. A Read after it opens the rest again.
func (r *reader) Close() error {
	r.letGo()
	return nil
}

// RedirectURL makes a URL for a client that is to fetch an object by itself. Only GET and HEAD can
// be redirected.
func (d *Driver) RedirectURL(r *http.Request, path string) (string, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "", nil
	}
	return d.Presign(r.Context(), r.Method, path, presigned)
}
