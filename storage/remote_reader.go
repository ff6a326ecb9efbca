package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// ranger is a driver that says with the bytes how long all of it is and which version.
type ranger interface {
	OpenRange(ctx context.Context, path string, offset int64) (body io.ReadCloser, size int64, version string, err error)
}

// versionOf tells one version of a file from the next where the driver has no better word for it.
func versionOf(info storagedriver.FileInfo) string { return info.ModTime().UTC().String() }

// remoteReader reads through the driver, from where it was last told to. A Seek asks for nothing
// before the next Read, so that whoever looks for the end and comes back goes on with the body that
// is open. ctx bounds its life.
type remoteReader struct {
	ctx     context.Context
	tree    *remote
	name    string
	size    int64
	version string // "" before the first answer
	at      int64

	body io.ReadCloser // or nil
	next int64         // where body is
}

// open opens the body at at. What has been replaced since it was opened is another file, of which
// no byte may follow on those of this one.
func (r *remoteReader) open() error {
	d, ok := r.tree.driver.(ranger)
	if !ok {
		body, err := r.tree.driver.Reader(r.ctx, "/"+r.name, r.at)
		r.body, r.next = body, r.at
		return driverError(err)
	}
	body, size, version, err := d.OpenRange(r.ctx, "/"+r.name, r.at)
	if err != nil {
		return driverError(err)
	}
	if r.version != "" && (size != r.size || version != r.version) {
		body.Close()
		return errors.New("it has been replaced while it was read")
	}
	r.body, r.next, r.size, r.version = body, r.at, size, version
	return nil
}

func (r *remoteReader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.body != nil && r.next != r.at {
		r.Close()
	}
	if r.body == nil {
		if err := r.open(); err != nil {
			return 0, fmt.Errorf("read %s from %d: %w", r.name, r.at, err)
		}
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.size-r.at)])
	r.at += int64(n)
	r.next = r.at
	if err == io.EOF && r.at < r.size {
		return n, io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		err = driverError(err)
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
	r.at = offset
	return offset, nil
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
