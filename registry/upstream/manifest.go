package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// questionTime bounds a question whose answer is small, body included: a manifest of the
// largest size at 70 KB/s. An idle timeout alone would let a byte every half minute last for
// years.
const questionTime = time.Minute

// What an endpoint's HEAD of a manifest is worth.
const (
	headUnknown = iota
	headGood    // it answers as GET does
	headBad     // it does not know HEAD, or leaves out what is needed
)

// Resolve asks with HEAD, which Docker Hub does not count as a pull. Where an endpoint's HEAD
// says too little, it asks with GET from then on.
func (r *Registry) Resolve(ctx context.Context, repo registry.Repo, tag string) (registry.Descriptor, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	var desc registry.Descriptor
	err := r.each(ctx, 0, func(ctx context.Context, t turn) (err error) {
		desc, err = t.resolve(ctx, r.at(repo), tag)
		return err
	})
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("resolve %s:%s: %w", repo, tag, err)
	}
	return desc, nil
}

// Manifest returns bytes only if they are those of d.
func (r *Registry) Manifest(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	var m registry.Manifest
	err := r.each(ctx, 0, func(ctx context.Context, t turn) (err error) {
		m, _, err = t.manifest(ctx, r.at(repo), d.String(), d)
		return err
	})
	if err != nil {
		return registry.Manifest{}, fmt.Errorf("manifest %s@%s: %w", repo, d, err)
	}
	return m, nil
}

// Tagged returns the manifest that a tag points to, in one request where Resolve and Manifest
// take two. Docker Hub counts it as a pull, as it does Manifest.
func (r *Registry) Tagged(ctx context.Context, repo registry.Repo, tag string) (registry.Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	var m registry.Manifest
	err := r.each(ctx, 0, func(ctx context.Context, t turn) (err error) {
		m, _, err = t.manifest(ctx, r.at(repo), tag, "")
		return err
	})
	if err != nil {
		return registry.Manifest{}, fmt.Errorf("manifest %s:%s: %w", repo, tag, err)
	}
	return m, nil
}

func (t turn) resolve(ctx context.Context, name, tag string) (registry.Descriptor, error) {
	if t.heads.Load() != headBad {
		desc, err := t.head(ctx, name, tag)
		switch {
		case err == nil:
			t.heads.Store(headGood)
			return desc, nil
		case !t.doubts(err):
			return registry.Descriptor{}, err
		}
	}
	m, _, err := t.manifest(ctx, name, tag, "")
	if err == nil {
		t.heads.Store(headBad)
	} else if found, ok := errors.AsType[*trouble](err); ok && found.status == http.StatusNotFound {
		// HEAD and GET agree, so HEAD's "not found" can be believed from now on.
		t.heads.CompareAndSwap(headUnknown, headGood)
	}
	return m.Descriptor, err
}

// errScant is a HEAD that is answered and does not say what a descriptor needs.
var errScant = errors.New("it lacks the digest, length or media type")

// doubts says whether GET may know what HEAD did not: the method is not allowed, the answer
// says too little, or it is a 404 that may mean the method, from something that does not call
// itself a registry.
func (t turn) doubts(err error) bool {
	if errors.Is(err, errScant) {
		return true
	}
	found, _ := errors.AsType[*trouble](err)
	if found == nil {
		return false
	}
	switch found.status {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusNotFound:
		return !found.api && t.heads.Load() == headUnknown
	}
	return false
}

// head resolves a tag by the header fields of its manifest. The digest is a hint until
// somebody reads the manifest (B14).
func (t turn) head(ctx context.Context, name, tag string) (registry.Descriptor, error) {
	res, err := t.ask(ctx, question{
		method: http.MethodHead, path: name + "/manifests/" + tag, accept: registry.ManifestTypes,
		repo: name, unknown: registry.ManifestUnknown,
	})
	if err != nil {
		return registry.Descriptor{}, err
	}
	defer res.Body.Close()
	if res.ContentLength > registry.MaxManifest {
		return registry.Descriptor{}, t.r.unexpected("a manifest", fmt.Errorf("it is %d bytes long", res.ContentLength))
	}
	d, err := registry.ParseDigest(res.Header.Get("Docker-Content-Digest"))
	mediaType, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	if err != nil || res.ContentLength <= 0 || !manifestLike(mediaType) {
		return registry.Descriptor{}, t.r.unexpected("a manifest", errScant)
	}
	return registry.Descriptor{MediaType: mediaType, Digest: d, Size: res.ContentLength}, nil
}

// manifestLike says whether a media type can be a manifest's own. "application/json" is what
// some servers say of everything, and then the manifest itself knows better.
func manifestLike(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.") && strings.HasSuffix(mediaType, "+json")
}

// manifest fetches a manifest by tag or digest. The bytes are verified against want; when
// that is empty, against the digest that the answer gives, if it does (U17).
func (t turn) manifest(ctx context.Context, name, reference string, want registry.Digest) (registry.Manifest, registry.References, error) {
	res, err := t.ask(ctx, question{
		method: http.MethodGet, path: name + "/manifests/" + reference, accept: registry.ManifestTypes,
		repo: name, unknown: registry.ManifestUnknown,
	})
	if err != nil {
		return registry.Manifest{}, registry.References{}, err
	}
	defer res.Body.Close()
	body, err := t.r.read(res, registry.MaxManifest, "a manifest")
	if err != nil {
		return registry.Manifest{}, registry.References{}, err
	}
	if want == "" {
		// What a header calls a digest is one only if it parses (A5).
		if want, err = registry.ParseDigest(res.Header.Get("Docker-Content-Digest")); err != nil {
			want = digest.FromBytes(body)
		}
	}
	if got := want.Algorithm().FromBytes(body); got != want {
		return registry.Manifest{}, registry.References{}, t.r.unexpected("the manifest asked for", fmt.Errorf("%s sent %s for %s", res.Request.URL.Host, got, want))
	}
	m, refs, err := registry.ParseManifest(res.Header.Get("Content-Type"), want, body)
	if err != nil {
		// "invalid" would blame the client, who sent nothing.
		return registry.Manifest{}, registry.References{}, t.r.unexpected("a manifest", fmt.Errorf("%s: %v", res.Request.URL.Host, err))
	}
	return m, refs, nil
}

// read reads a whole small body. One that breaks may be asked for again; one that is too long
// is not what it should be (A7).
func (r *Registry) read(res *http.Response, limit int64, what string) ([]byte, error) {
	tooLong := r.unexpected(what, fmt.Errorf("%s sent more than %d bytes", res.Request.URL.Host, limit))
	if res.ContentLength > limit {
		return nil, tooLong
	}
	var body []byte
	var err error
	if res.ContentLength >= 0 {
		body = make([]byte, res.ContentLength)
		_, err = io.ReadFull(res.Body, body)
	} else {
		body, err = io.ReadAll(io.LimitReader(res.Body, limit+1))
	}
	switch {
	case err != nil:
		return nil, r.broke(res, err)
	case int64(len(body)) > limit:
		return nil, tooLong
	}
	return body, nil
}

// broke is a body that ended before its end.
func (r *Registry) broke(res *http.Response, err error) *trouble {
	if ctx := res.Request.Context(); errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return r.calledOff(context.Cause(ctx))
	}
	t := r.unavailable(fmt.Errorf("%s: body: %w", res.Request.URL.Host, err))
	t.again = true
	t.Timeout = errors.Is(err, errSilent)
	return t
}
