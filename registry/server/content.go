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
		if res.head {
			return res.content(r, tag.MediaType, tag.Digest, sized(tag.Size))
		}
		d = tag.Digest
	}
	m, err := s.config.Registry.Manifest(ctx, res.repo, d)
	if err != nil {
		return err
	}
	if s.config.Pulled != nil && !res.head {
		s.config.Pulled(res.principal, res.repo, d)
	}
	return res.content(r, m.MediaType, d, bytes.NewReader(m.Bytes))
}

// blob answers GET and HEAD of a blob.
func (s *Server) blob(ctx context.Context, res *response, r *http.Request) error {
	if res.head {
		return s.blobHead(ctx, res, r)
	}
	if s.config.Locate != nil && !conditional(r.Header) {
		if url := s.config.Locate(ctx, res.repo, res.target.digest); url != "" {
			return res.redirect(url, res.target.digest)
		}
	}
	b, err := s.config.Registry.Blob(ctx, res.repo, res.target.digest)
	if err != nil {
		return err
	}
	defer b.Close()
	if err = whole(b); err == nil {
		err = res.content(r, octets, res.target.digest, b.ReadSeekCloser)
	}
	if s.doubt != nil && r.Context().Err() == nil && (res.readErr != nil || errors.Is(err, errDamaged)) {
		s.doubt(res.repo, res.target.digest, err)
	}
	return err
}

// conditional reports whether an answer depends on what the client has already. Only we know what we
// have called that.
func conditional(h http.Header) bool {
	for _, name := range []string{"If-None-Match", "If-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since"} {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// redirect sends the client elsewhere for a blob, this once.
func (res *response) redirect(url string, d registry.Digest) error {
	header := res.Header()
	header.Set("Location", url)
	header.Set("Docker-Content-Digest", string(d))
	header.Set("Cache-Control", "no-store")
	header["Content-Length"] = nothingLong
	res.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}

// blobHead answers HEAD of a blob.
func (s *Server) blobHead(ctx context.Context, res *response, r *http.Request) error {
	if s.stat != nil {
		found, err := s.stat(ctx, res.repo, res.target.digest)
		if err != nil {
			return err
		}
		return res.content(r, octets, res.target.digest, sized(found.Size))
	}
	b, err := s.config.Registry.Blob(ctx, res.repo, res.target.digest)
	if err != nil {
		return err
	}
	defer b.Close()
	return res.content(r, octets, res.target.digest, sized(b.Size))
}

// whole checks that b ends where it should. ServeContent believes the end that it finds: of a
// file that was emptied behind our back its answer would be complete and wrong.
func whole(b registry.Blob) error {
	end, err := b.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("find the end of the content: %w", err)
	}
	if end != b.Size {
		return fmt.Errorf("content of %d bytes ends at %d: %w", b.Size, end, errDamaged)
	}
	return nil
}

// content sends body, or tells why not. http.ServeContent does it: ranges and conditions come
// with that, and the same for HEAD. The digest in the header is the one that body was
// verified against, never what somebody said of it.
func (res *response) content(r *http.Request, mediaType string, d registry.Digest, body io.ReadSeeker) error {
	res.values = [...]string{mediaType, string(d), `"` + string(d) + `"`}
	header := res.Header()
	header["Content-Type"] = res.values[0:1:1]
	header["Docker-Content-Digest"] = res.values[1:2:2]
	header["Etag"] = res.values[2:3:3]
	header["X-Content-Type-Options"] = nosniff
	header["Content-Security-Policy"] = sandbox
	if res.trace.Held != "" {
		header.Set("Roadstead-Held", printable(res.trace.Held, 1000))
	}
	if res.trace.Stale {
		header["Warning"] = stale
	}
	if _, given := r.Header["Range"]; given {
		return res.ranges(r, body)
	}
	return res.serveContent(r, body)
}

// ranges sends what a Range header asks for.
func (res *response) ranges(r *http.Request, body io.ReadSeeker) error {
	size, err := body.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("find the end of the content: %w", err)
	}
	res.size = size
	clean, n := "", 0
	if values := r.Header["Range"]; len(values) == 1 && !res.head {
		clean, n = rangeOf(values[0], size)
	}
	if n > 1 {
		p := &parts{body: body}
		defer p.stop()
		body = p
	}
	return res.serveContent(withRange(r, clean), body)
}

// serveContent has net/http send body.
func (res *response) serveContent(r *http.Request, body io.ReadSeeker) error {
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
