package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"

	"roadstead/registry"
)

// maxTags is how many tags one push may move. The specification's dev version wants 10 at
// least; each costs files, so what the length of a query would allow is too much.
const maxTags = 100

// push is what a response knows beside the rest when something is pushed. It is apart so that
// reading, which is nearly all there is to do, does not pay for it.
type push struct {
	name     string          // how the client calls the repository, for a Location
	upload   registry.Upload // that the request is about, or nil
	manifest registry.Pushed // what was pushed
	tags     []string        // that were pushed beside that of the path
	received int64           // bytes of the request's body that were taken in
	lost     error           // why the rest of it will not come, when the connection is of no use any more
}

// newPush begins a push.
func (res *response) newPush(r *http.Request) {
	res.push = &push{name: res.target.name}
	if ns, _ := param(r.URL.RawQuery, "ns"); ns != "" {
		// Nothing of the query comes back, so the name has to do without it.
		res.push.name = res.repo.String()
	}
}

// putManifest answers PUT of a manifest (OCI distribution specification 1.1, "Pushing
// Manifests"). From its dev version are the parameters tag, any number of them, and digest for
// a push to a tag of what has another digest than sha256.
func (s *Server) putManifest(ctx context.Context, res *response, r *http.Request) error {
	p := registry.ManifestPush{ContentType: r.Header.Get("Content-Type"), Digest: res.target.digest}
	if text, given := param(r.URL.RawQuery, "digest"); given {
		d, err := digestParam(text)
		if err != nil {
			return err
		}
		if p.Digest != "" && p.Digest != d {
			return invalid(registry.DigestInvalid, "the digest of the path and that of the parameter are not the same")
		}
		p.Digest = d
	}
	more, err := tagParams(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if res.target.tag != "" {
		p.Tags = append(p.Tags, res.target.tag)
	}
	for _, tag := range more {
		if !slices.Contains(p.Tags, tag) {
			p.Tags = append(p.Tags, tag)
		}
	}
	if p.Bytes, err = res.manifestBody(r); err != nil {
		return err
	}
	pushed, err := s.config.Writer.PutManifest(ctx, res.repo, p)
	if err != nil {
		return err
	}
	res.push.manifest = pushed
	res.push.tags = slices.DeleteFunc(p.Tags, func(tag string) bool { return tag == res.target.tag })
	header := res.Header()
	header["Docker-Content-Digest"] = []string{string(pushed.Digest)}
	if pushed.Subject != "" {
		header["Oci-Subject"] = []string{string(pushed.Subject)}
	}
	if len(more) > 0 {
		header["Oci-Tag"] = more
	}
	res.created("/v2/" + res.push.name + "/manifests/" + string(pushed.Digest))
	return nil
}

// tagParams reads the parameters called tag.
func tagParams(query string) ([]string, error) {
	var list []string
	for tag := range params(query, "tag") {
		if err := registry.CheckTag(tag); err != nil {
			return nil, invalid(registry.TagInvalid, text(err, registry.TagInvalid))
		}
		if len(list) == maxTags {
			return nil, invalid(uriTooLong, "there are more than "+strconv.Itoa(maxTags)+" tags: push the manifest again with the others")
		}
		if !slices.Contains(list, tag) {
			list = append(list, tag)
		}
	}
	return list, nil
}

func digestParam(s string) (registry.Digest, error) {
	d, err := registry.ParseDigest(s)
	if err != nil {
		return "", invalid(registry.DigestInvalid, text(err, registry.DigestInvalid))
	}
	return d, nil
}

// manifestBody reads a body that is a manifest. It takes memory for what has come and not for
// what was announced (FAULTS B2).
func (res *response) manifestBody(r *http.Request) ([]byte, error) {
	tooLarge := invalid(registry.TooLarge, "the manifest is larger than "+strconv.Itoa(registry.MaxManifest)+" bytes")
	if r.ContentLength > registry.MaxManifest {
		return nil, tooLarge
	}
	b := res.take(r)
	defer b.leave(r)
	var buf bytes.Buffer
	// Nearly every manifest fits, with what ReadFrom wants free at the end.
	buf.Grow(int(min(max(r.ContentLength, 0)+bytes.MinRead, 64<<10)))
	_, err := buf.ReadFrom(io.LimitReader(b, registry.MaxManifest+1))
	switch {
	case b.fault() != nil:
		return nil, b.fault()
	case err != nil:
		return nil, err
	case buf.Len() > registry.MaxManifest:
		return nil, tooLarge
	case buf.Len() == 0:
		return nil, invalid(registry.ManifestInvalid, "there is no manifest in the body")
	}
	return buf.Bytes(), nil
}

// deleteManifest answers DELETE of a tag or of a manifest with all its tags (OCI distribution
// specification 1.1, "Deleting tags", "Deleting Manifests").
func (s *Server) deleteManifest(ctx context.Context, res *response, _ *http.Request) error {
	var err error
	if res.target.tag != "" {
		err = s.config.Writer.DeleteTag(ctx, res.repo, res.target.tag)
	} else {
		err = s.config.Writer.DeleteManifest(ctx, res.repo, res.target.digest)
	}
	if err != nil {
		return err
	}
	res.empty(http.StatusAccepted)
	return nil
}

// deleteBlob answers DELETE of a blob.
func (s *Server) deleteBlob(ctx context.Context, res *response, _ *http.Request) error {
	if err := s.config.Writer.DeleteBlob(ctx, res.repo, res.target.digest); err != nil {
		return err
	}
	res.empty(http.StatusAccepted)
	return nil
}

// created answers that something is there now. The location is relative, so that no Host header
// gets into it (FAULTS C20).
func (res *response) created(location string) {
	res.Header()["Location"] = []string{location}
	res.empty(http.StatusCreated)
}

// empty answers without a body.
func (res *response) empty(status int) {
	header := res.Header()
	header["X-Content-Type-Options"] = nosniff
	header["Content-Security-Policy"] = sandbox
	if status != http.StatusNoContent {
		header["Content-Length"] = nothingLong
	}
	res.WriteHeader(status)
}

// owner is who the uploads of the request belong to: the principal's name.
func (res *response) owner() string {
	if res.principal == nil {
		return ""
	}
	return res.principal.Name()
}
