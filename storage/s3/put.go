package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
)

// PutContent stores a small object, and replaces what is there.
func (d *Driver) PutContent(ctx context.Context, path string, content []byte) error {
	if err := checkPath(path); err != nil {
		return err
	}
	ctx, done := d.call(ctx)
	defer done()
	if _, err := d.put(ctx, d.key(path), bytes.NewReader(content), int64(len(content)), false); err != nil {
		return d.failed(ctx, "write", path, err)
	}
	return nil
}

// PutIfAbsent stores a small object unless there is one under that name, and says whether it did.
// Of several who try at the same time one does, where the server knows conditions.
func (d *Driver) PutIfAbsent(ctx context.Context, path string, content []byte) (bool, error) {
	if err := checkPath(path); err != nil {
		return false, err
	}
	ctx, done := d.call(ctx)
	defer done()
	_, err := d.put(ctx, d.key(path), bytes.NewReader(content), int64(len(content)), true)
	if refusedCondition(err) {
		return false, nil
	}
	if err != nil {
		return false, d.failed(ctx, "write", path, err)
	}
	return true, nil
}

// PutFile stores a local file under its final name: in one request, or, if it is longer than a
// part, in parts of which several are under way at once. It becomes visible whole or not at all.
//
// The name is taken for one that only this content has. If there is an object already it is read, and
// one of the same bytes is as good and stays; another one, or one that cannot be read, is replaced.
func (d *Driver) PutFile(ctx context.Context, path, localFile string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	f, err := os.Open(localFile)
	if err != nil {
		return storagedriver.Error{DriverName: name, Detail: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return storagedriver.Error{DriverName: name, Detail: err}
	}
	return d.PutAt(ctx, path, f, info.Size())
}

// PutAt is PutFile for what is open already. It may be read in several places at once, and again
// where a request has to be repeated.
func (d *Driver) PutAt(ctx context.Context, path string, content io.ReaderAt, size int64) (err error) {
	if err := checkPath(path); err != nil {
		return err
	}
	o := upload{Driver: d, key: d.key(path), file: content, size: size, part: partFor(d.part, size)}
	if o.size <= d.part {
		err = o.once(ctx)
	} else {
		err = o.inParts(ctx)
	}
	if err != nil {
		return d.failed(ctx, "write", path, err)
	}
	return nil
}

// partFor is how long the parts of a file are, so that they are not too many.
func partFor(part, size int64) int64 {
	for size > part*maxParts {
		part *= 2
	}
	return part
}

// upload is a file on its way to a key.
type upload struct {
	*Driver
	key  string
	file io.ReaderAt
	size int64
	part int64
}

func (o *upload) once(ctx context.Context) error {
	ctx, done := o.call(ctx)
	defer done()
	_, err := o.put(ctx, o.key, io.NewSectionReader(o.file, 0, o.size), o.size, true)
	if !refusedCondition(err) && !broken(err) {
		return o.explainStall(ctx, err)
	}
	if same, _ := o.same(ctx); same {
		return nil
	}
	_, err = o.put(ctx, o.key, io.NewSectionReader(o.file, 0, o.size), o.size, false)
	return o.explainStall(ctx, err)
}

// same says whether what is at the key is this file, byte by byte. What the server calls the object
// says nothing of that: it is the checksum of what has come once, and a server that does not keep
// checksums of its own calls an object the same after it has rotted. Nobody stores again what is there
// but to heal it, or because he does not know; so the bytes are worth reading.
func (o *upload) same(ctx context.Context) (bool, error) {
	body, size, _, err := o.OpenRange(ctx, o.path(o.key), 0)
	if _, removed := errors.AsType[storagedriver.PathNotFoundError](err); removed {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer body.Close()
	if size != o.size {
		return false, nil
	}
	there, ours := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < size; {
		n, err := body.Read(there)
		if n > 0 {
			if _, err := o.file.ReadAt(ours[:n], at); err != nil && err != io.EOF {
				return false, err
			}
			if !bytes.Equal(there[:n], ours[:n]) {
				return false, nil
			}
			at += int64(n)
		}
		if err == io.EOF {
			return at == size, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// signed is up to where content is hashed for its signature, in bytes: it costs next to nothing
// then, and finds what a line without TLS has changed.
const signed = 1 << 20

// put stores an object with one request, unless there is one and create is set.
func (d *Driver) put(ctx context.Context, key string, content io.ReadSeeker, size int64, create bool) (minio.UploadInfo, error) {
	sum := ""
	if size <= signed {
		h := sha256.New()
		if _, err := io.Copy(h, content); err != nil {
			return minio.UploadInfo{}, err
		}
		if _, err := content.Seek(0, io.SeekStart); err != nil {
			return minio.UploadInfo{}, err
		}
		sum = hex.EncodeToString(h.Sum(nil))
	}
	info, err := d.core.PutObject(ctx, d.bucket, key, content, size, "", sum, d.options(create))
	if create && d.cannotCreate(err) {
		if _, err := content.Seek(0, io.SeekStart); err != nil { // some of it may have been sent
			return minio.UploadInfo{}, err
		}
		return d.put(ctx, key, content, size, false)
	}
	return info, err
}

// options are those of a new object.
func (d *Driver) options(create bool) minio.PutObjectOptions {
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", ServerSideEncryption: d.sse, DisableContentSha256: true}
	if create && !d.overwrites.Load() {
		o.SetMatchETagExcept("*")
	}
	return o
}

// cannotCreate remembers when a server refuses conditions as such.
func (d *Driver) cannotCreate(err error) bool {
	if err == nil || status(err) != http.StatusNotImplemented && code(err) != minio.NotImplemented {
		return false
	}
	return d.overwrites.CompareAndSwap(false, true)
}
