// Package s3 is a distribution storage driver for a bucket of any S3-compatible server. Beside
// what that interface can say it has powers that callers find by type assertion:
//
//	OpenRange(ctx, path, offset) (body, size, version, error)  size and version from the GET that brings the bytes
//	StatFile(ctx, path) (storagedriver.FileInfo, error)     Stat for what is no directory, without a listing
//	PutFile(ctx, path, localFile) error                     a whole file under its final name in one step
//	PutAt(ctx, path, content, size) error                   the same of what is open already
//	PutIfAbsent(ctx, path, content) (bool, error)           a small object, unless there is one
//	Presign(ctx, method, path, ttl) (string, error)         a URL for somebody without credentials
//	Sweep(ctx, age) error                                   removes what uploads that have ended left behind
//	Patient(ctx) context.Context                            for calls that rather wait than be told at once that nobody answers
//
// An object is visible whole or not at all, whatever ends: nothing is written aside and moved, and
// the parts of an upload are no object until the server has put them together. Each request is
// repeated a few times if that can help, and one that makes no progress ends.
//
// PathNotFoundError is said only when the server has said that there is no such key. That the
// bucket is gone, that nobody answers and that somebody may not look are other errors.
//
// Nothing here knows what the objects are.
package s3

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// name is what errors of this driver begin with.
const name = "s3"

// Driver is a bucket, or what is below a prefix of one. All methods may be called concurrently.
type Driver struct {
	client    *minio.Client
	core      minio.Core
	transport *transport

	endpoint string // for people
	region   string // as configured
	bucket   string
	prefix   string // "" or "some/where", without slashes at its ends
	sse      encrypt.ServerSide
	part     int64
	parallel int
	retries  int

	// overwrites is set when the server has said that it cannot create conditionally. Content that
	// is addressed by its digest loses nothing by that but time.
	overwrites atomic.Bool
}

var _ storagedriver.StorageDriver = (*Driver)(nil)

// New opens a bucket, and asks it one question, so that what is wrong with the configuration is
// said at once and with what to do about it.
func New(ctx context.Context, c Config) (*Driver, error) {
	d, err := Open(c)
	if err != nil {
		return nil, err
	}
	if err := d.Check(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Open is New without the question: it finds out what is wrong with the configuration by itself,
// and nothing else.
func Open(c Config) (*Driver, error) {
	d, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	return d, nil
}

func open(c Config) (*Driver, error) {
	u, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	sse, err := c.encryption()
	if err != nil {
		return nil, err
	}
	t, err := newTransport(c)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		transport: t,
		endpoint:  u.String(), region: c.Region, bucket: c.Bucket, prefix: strings.Trim(c.Prefix, "/"),
		sse: sse, part: c.part(), parallel: c.parallel(), retries: c.retries(),
	}
	d.client, err = minio.New(u.Host, &minio.Options{
		Creds:        c.credentials(t),
		Secure:       u.Scheme == "https",
		Transport:    t,
		Region:       c.Region,
		BucketLookup: c.lookup(),
		MaxRetries:   d.retries + 1, // it counts the first one too
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", u, err)
	}
	d.core = minio.Core{Client: d.client}
	return d, nil
}

// Check asks for the first of the keys, which needs the bucket, the region, the credentials and
// the clock to be right. An error says what to do.
func (d *Driver) Check(ctx context.Context) error {
	ctx, done := d.call(ctx)
	defer done()
	for o := range d.client.ListObjectsIter(ctx, d.bucket, minio.ListObjectsOptions{Prefix: d.key("/"), Recursive: true, MaxKeys: 1}) {
		if o.Err != nil {
			return d.failed(ctx, "look at bucket", d.bucket, o.Err)
		}
		break
	}
	if err := ctx.Err(); err != nil {
		return d.failed(ctx, "look at bucket", d.bucket, err)
	}
	return nil
}

// Name is what errors begin with.
func (d *Driver) Name() string { return name }

// GetContent reads an object whole: at most 512 MiB, which no manifest, link or record is.
func (d *Driver) GetContent(ctx context.Context, path string) ([]byte, error) {
	body, size, _, err := d.OpenRange(ctx, path, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	const most = 512 << 20
	if size > most {
		return nil, d.failed(ctx, "read", path, fmt.Errorf("it is %d bytes long, which is too much to read at once", size))
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(body, b); err != nil {
		return nil, d.failed(ctx, "read", path, err)
	}
	return b, nil
}

// key is the key of a path. "/" is the prefix of all keys.
func (d *Driver) key(path string) string {
	path = strings.TrimPrefix(path, "/")
	if d.prefix == "" {
		return path
	}
	return d.prefix + "/" + path
}

// below is the prefix of all keys below a path.
func (d *Driver) below(path string) string {
	if path == "/" {
		return d.key(path)
	}
	return d.key(path) + "/"
}

// path is the inverse of key.
func (d *Driver) path(key string) string {
	if d.prefix == "" {
		return "/" + key
	}
	return strings.TrimPrefix(key, d.prefix)
}

// checkPath refuses what storagedriver.PathRegexp does not match, without running it.
func checkPath(path string) error {
	ok := len(path) > 1 && path[0] == '/' && path[len(path)-1] != '/'
	for i := 1; ok && i < len(path); i++ {
		c := path[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' ||
			c == '/' && path[i-1] != '/'
	}
	if !ok {
		return storagedriver.InvalidPathError{Path: path, DriverName: name}
	}
	return nil
}

// presigned is how long a URL of RedirectURL can be used.
const presigned = 20 * time.Minute

// Presign makes a URL with which anybody can do one thing, GET or HEAD, with an object, for as
// long as ttl says and the credentials last, at most seven days. Whether there is one it does not
// look at. Whoever writes such a URL into a log gives the object away.
func (d *Driver) Presign(ctx context.Context, method, path string, ttl time.Duration) (string, error) {
	if err := checkPath(path); err != nil {
		return "", err
	}
	ctx, done := d.call(ctx)
	defer done()
	u, err := d.client.Presign(ctx, method, d.bucket, d.key(path), ttl, url.Values{})
	if err != nil {
		return "", d.failed(ctx, "presign", path, err)
	}
	return u.String(), nil
}
