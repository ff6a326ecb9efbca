package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
)

const (
	// maxResumes is how often a body is taken up again without getting on (U9, U10).
	maxResumes = 3

	// progress is what counts as getting on, in bytes. Less, and an upstream that sends a byte
	// a connection would be asked a million times for a megabyte.
	progress = 64 << 10
)

// Blob opens a blob where it answers. Its Size is -1 when upstream does not say. ctx bounds
// its life.
//
// The reader takes a body up again where it broke or stalled, by a Range request to the same
// or another endpoint, and seeks the same way: a Seek asks nothing before the next Read. It
// does not verify the digest: whoever keeps the bytes does, and must.
func (r *Registry) Blob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	b := &blob{r: r, ctx: ctx, name: r.at(repo), d: d, size: -1}
	if err := b.open(); err != nil {
		return registry.Blob{}, fmt.Errorf("blob %s@%s: %w", repo, d, err)
	}
	return registry.Blob{ReadSeekCloser: b, Size: b.size}, nil
}

// StatBlob asks for a blob's size without its bytes.
func (r *Registry) StatBlob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Descriptor, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	size := int64(-1)
	err := r.each(ctx, 0, func(ctx context.Context, t turn) (err error) {
		size, err = t.blobSize(ctx, r.at(repo), d)
		return err
	})
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("stat blob %s@%s: %w", repo, d, err)
	}
	return registry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
}

// blobSize asks with HEAD, and for the first byte where HEAD is not known or says nothing:
// storage behind a redirect may have signed the URL for GET only.
func (t turn) blobSize(ctx context.Context, name string, d registry.Digest) (int64, error) {
	q := question{method: http.MethodHead, path: name + "/blobs/" + d.String(), repo: name, unknown: registry.BlobUnknown}
	res, err := t.ask(ctx, q)
	if err == nil {
		res.Body.Close()
		if res.ContentLength >= 0 {
			return res.ContentLength, nil
		}
	} else if found, ok := errors.AsType[*trouble](err); !ok || !headless(found) {
		return -1, err
	}
	q.method, q.span = http.MethodGet, "bytes=0-0"
	if res, err = t.ask(ctx, q); err != nil {
		return -1, err
	}
	at, err := t.r.position(res, 0)
	if err == nil && at.total < 0 {
		err = t.r.unexpected("a blob", errors.New("its length is not known"))
	}
	if at.last == 0 {
		drain(res) // the one byte; anything else is cut off
	} else {
		res.Body.Close()
	}
	return at.total, err
}

// headless says whether an answer to HEAD says something of the method only: it is not
// allowed, or a signature does not cover it, which storage says and no registry.
func headless(t *trouble) bool {
	return t.status == http.StatusMethodNotAllowed || t.status == http.StatusForbidden && !t.api
}

// blob is an open blob. The bytes come straight from the transport's body.
type blob struct {
	r    *Registry
	ctx  context.Context // bounds its life, as Blob says
	name string
	d    registry.Digest
	size int64 // -1: not known yet

	off    int64 // where the next Read begins
	closed bool

	body  *http.Response // nil: none is open
	pos   int64          // where body is
	broke error          // why there is none where there was one
	from  int            // the endpoint to ask first: the one that body came from
	etag  string         // strong one of the content
	whose *endpoint      // who calls it so
	mark  int64          // how far it was when it last got on
	tries int            // resumes since then
}

func (b *blob) Read(p []byte) (int, error) {
	for {
		switch {
		case b.closed:
			return 0, fs.ErrClosed
		case b.size >= 0 && b.off >= b.size:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		if b.broke == nil && b.body != nil && b.pos != b.off {
			b.drop()
		}
		if b.broke == nil && b.body == nil {
			b.broke = b.open()
		}
		if b.broke != nil {
			if err := b.again(b.broke); err != nil {
				return 0, b.failure(err)
			}
			b.broke = b.open()
			continue
		}
		if n, err := b.read(p); n > 0 || err != nil {
			return n, err
		}
	}
}

// read reads from the body that is open. When it breaks, b.broke says why.
func (b *blob) read(p []byte) (int, error) {
	n, err := b.body.Body.Read(p)
	b.pos += int64(n)
	b.off += int64(n)
	if b.off-b.mark >= progress {
		b.mark, b.tries = b.off, 0
	}
	if err == io.EOF && b.size < 0 {
		b.size = b.off // its end is the only word of its length
	}
	if b.size >= 0 && b.off > b.size || b.off > b.r.maxBlob {
		b.drop()
		return 0, b.failure(b.r.unexpected("the blob asked for", fmt.Errorf("more than %d bytes", b.off-int64(n))).Fault)
	}
	if err != nil && b.off != b.size {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		b.broke = b.r.broke(b.body, err).Fault
		b.drop()
	}
	return n, nil
}

// Seek moves the place of the next Read. From the end it needs the size.
func (b *blob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.off
	case io.SeekEnd:
		if b.size < 0 {
			return 0, errors.New("seek from the end of a blob of unknown size")
		}
		offset += b.size
	}
	switch {
	case b.closed:
		return 0, fs.ErrClosed
	case offset < 0:
		return 0, errors.New("seek to before the beginning of a blob")
	}
	if offset != b.off {
		b.mark, b.tries = offset, 0
	}
	b.off = offset
	return offset, nil
}

// Close lets go of the connection. It may be called twice.
func (b *blob) Close() error {
	b.drop()
	b.closed = true
	return nil
}

func (b *blob) drop() {
	if b.body != nil {
		b.body.Body.Close()
		b.body = nil
	}
}

func (b *blob) failure(err error) error {
	return fmt.Errorf("blob %s@%s at byte %d: %w", b.name, b.d, b.off, err)
}

// again decides about a body that broke for the reason given: nil means to take it up again.
func (b *blob) again(broke error) error {
	b.broke = nil
	if b.ctx.Err() != nil || b.tries >= maxResumes || !errors.Is(broke, registry.Unavailable) {
		return broke
	}
	b.tries++
	b.r.stats.resumes.Add(1)
	if b.tries == 1 {
		return nil
	}
	// It broke again at once: give upstream a moment, and another endpoint its chance.
	b.from++
	select {
	case <-time.After(firstWait << b.tries):
		return nil
	case <-b.ctx.Done():
		return b.r.calledOff(b.ctx.Err()).Fault
	}
}

// open asks for the blob from off to its end.
func (b *blob) open() error {
	first := b.from % len(b.r.endpoints)
	return b.r.each(b.ctx, first, func(ctx context.Context, t turn) error {
		q := question{method: http.MethodGet, path: b.name + "/blobs/" + b.d.String(), repo: b.name, unknown: registry.BlobUnknown}
		if b.off > 0 {
			q.span = "bytes=" + strconv.FormatInt(b.off, 10) + "-"
			if b.whose == t.endpoint {
				q.ifRange = b.etag
			}
		}
		res, err := t.ask(ctx, q)
		if err != nil {
			return err
		}
		at, err := b.r.position(res, b.off)
		if err == nil {
			err = b.fits(at)
		}
		if err == nil {
			err = b.skip(res, at)
		}
		if err != nil {
			res.Body.Close()
			return err
		}
		b.adopt(res, at, t)
		return nil
	})
}

// adopt makes res the body.
func (b *blob) adopt(res *http.Response, at contentRange, t turn) {
	b.body, b.pos = res, b.off
	if at.total >= 0 {
		b.size = at.total
	}
	for i, e := range b.r.endpoints {
		if e == t.endpoint {
			b.from = i
		}
	}
	b.etag, b.whose = res.Header.Get("ETag"), t.endpoint
	if !strings.HasPrefix(b.etag, `"`) {
		b.etag = "" // a weak one is no ground for a range (RFC 9110 §13.1.5)
	}
}

// fits refuses an answer that is not about the blob as it is known.
func (b *blob) fits(at contentRange) error {
	switch {
	case at.total >= 0 && b.size >= 0 && at.total != b.size:
		return b.r.unexpected("the blob asked for", fmt.Errorf("it was %d bytes long and is %d now", b.size, at.total))
	case at.total > b.r.maxBlob:
		return b.r.unexpected("a blob", fmt.Errorf("%d bytes are more than is read", at.total))
	}
	return nil
}

// skip reads forward to off in a body that begins before it.
func (b *blob) skip(res *http.Response, at contentRange) error {
	if _, err := io.CopyN(io.Discard, res.Body, b.off-at.first); err != nil {
		return b.r.broke(res, err)
	}
	return nil
}

// position says what part of a content an answer to a question for off and more holds. A
// whole content is fine; a part that begins elsewhere is not.
func (r *Registry) position(res *http.Response, off int64) (contentRange, error) {
	if res.StatusCode != http.StatusPartialContent {
		return contentRange{first: 0, last: res.ContentLength - 1, total: res.ContentLength}, nil
	}
	at, err := parseContentRange(res.Header.Get("Content-Range"))
	if err != nil {
		return at, r.unexpected("the range asked for", err)
	}
	if at.first != off || res.ContentLength >= 0 && res.ContentLength != at.last-at.first+1 {
		return at, r.unexpected("the range asked for", fmt.Errorf("asked for byte %d and more, got %d to %d in %d bytes", off, at.first, at.last, res.ContentLength))
	}
	return at, nil
}
