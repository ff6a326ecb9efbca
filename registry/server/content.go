package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"roadstead/registry"
)

// octets is the content type of every blob: what it was called in some manifest is no
// business of who asks by digest, and a browser must not see a page in it.
const octets = "application/octet-stream"

// errDamaged is content that ends elsewhere than its registry says.
var errDamaged = errors.New("the content is damaged")

// manifest answers GET and HEAD of a manifest. It is sent as it is stored, whatever the
// client accepts: any other form would have another digest.
func (s *Server) manifest(ctx context.Context, res *response, r *http.Request) error {
	d := res.target.digest
	if d == "" {
		tag, err := s.config.Registry.Resolve(ctx, res.repo, res.target.tag)
		if err != nil {
			return err
		}
		if r.Method == http.MethodHead {
			return res.content(r, tag.MediaType, tag.Digest, sized(tag.Size))
		}
		d = tag.Digest
	}
	m, err := s.config.Registry.Manifest(ctx, res.repo, d)
	if err != nil {
		return err
	}
	return res.content(r, m.MediaType, d, bytes.NewReader(m.Bytes))
}

// blob answers GET and HEAD of a blob.
func (s *Server) blob(ctx context.Context, res *response, r *http.Request) error {
	d := res.target.digest
	if r.Method == http.MethodHead && s.stat != nil {
		found, err := s.stat(ctx, res.repo, d)
		if err != nil {
			return err
		}
		return res.content(r, octets, d, sized(found.Size))
	}
	b, err := s.config.Registry.Blob(ctx, res.repo, d)
	if err != nil {
		return err
	}
	defer b.Close()
	if r.Method == http.MethodHead {
		return res.content(r, octets, d, sized(b.Size))
	}
	// ServeContent believes the end that it finds. If that is not where it should be, as in a
	// file that was emptied behind our back, its answer would be whole and wrong.
	if end, err := b.Seek(0, io.SeekEnd); err != nil || end != b.Size {
		return fmt.Errorf("blob %s of %d bytes ends at %d: %w", d, b.Size, end, errors.Join(err, errDamaged))
	}
	return res.content(r, octets, d, b.ReadSeekCloser)
}

// content sends body, or tells why not. http.ServeContent does it: ranges and conditions come
// with that, and the same for HEAD. The digest in the header is the one that body was
// verified against, never what somebody said of it.
func (res *response) content(r *http.Request, mediaType string, d registry.Digest, body io.ReadSeeker) error {
	if res.trace.Stale {
		res.Header()["Warning"] = stale
	}
	res.values = [...]string{mediaType, string(d), `"` + string(d) + `"`}
	header := res.Header()
	header["Content-Type"] = res.values[0:1:1]
	header["Docker-Content-Digest"] = res.values[1:2:2]
	header["Etag"] = res.values[2:3:3]
	header["X-Content-Type-Options"] = nosniff
	header["Content-Security-Policy"] = sandbox

	if _, given := r.Header["Range"]; given {
		size, err := body.Seek(0, io.SeekEnd)
		if err != nil {
			return fmt.Errorf("find the end of %s: %w", d, err)
		}
		res.size = size
		clean, n := "", 0
		if values := r.Header["Range"]; len(values) == 1 && !res.head {
			clean, n = rangeOf(values[0], size)
		}
		r = withRange(r, clean)
		if n > 1 {
			p := &parts{body: body}
			defer p.stop()
			body = p
		}
	}
	res.serving = true
	// Without a time there is no Last-Modified: content has none, and that of a tag is unknown.
	http.ServeContent(res, r, "", time.Time{}, body)
	res.serving = false
	return res.sent()
}

// sized is content that has a size and nothing else, which is all that HEAD wants.
type sized int64

// Seek returns where content of this size would be.
func (n sized) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		offset += int64(n)
	}
	return offset, nil
}

// Read has nothing to return. The answer to HEAD has no body.
func (n sized) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
