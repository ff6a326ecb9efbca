package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
)

// answer is the registry without its faults.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/token" {
		r.token(w, req)
		return
	}
	if !r.Configured().NoVersion {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	}
	name, kind, reference := split(req.URL.Path)
	if kind == "" {
		refuse(w, http.StatusNotFound, registry.NameUnknown)
		return
	}
	if !r.authorized(w, req, name) {
		return
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed, registry.Unsupported)
		return
	}
	switch kind {
	case "ping":
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte("{}"))
	case "manifests":
		r.serveManifest(w, req, name, reference)
	case "blobs":
		r.serveBlob(w, req, name, registry.Digest(reference))
	case "tags":
		r.serveTags(w, req, name)
	case "referrers":
		r.serveReferrers(w, req, name, registry.Digest(reference))
	}
}

// Configured returns the knobs as they are.
func (r *Registry) Configured() Knobs {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.knobs
}

// split takes a path apart from the right, because a repository may be called "manifests".
func split(path string) (name, kind, reference string) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", "", ""
	}
	if rest == "" {
		return "", "ping", ""
	}
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return name, "tags", ""
	}
	cut := strings.LastIndexByte(rest, '/')
	if cut < 0 {
		return "", "", ""
	}
	rest, reference = rest[:cut], rest[cut+1:]
	for _, kind := range []string{"manifests", "blobs", "referrers"} {
		if name, ok := strings.CutSuffix(rest, "/"+kind); ok {
			return name, kind, reference
		}
	}
	return "", "", ""
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, name, reference string) {
	r.mu.Lock()
	from, known := r.repos[name]
	var d registry.Digest
	var m content
	if known {
		d = registry.Digest(reference)
		if !strings.Contains(reference, ":") {
			d = from.tags[reference]
		}
		m = from.manifests[d]
	}
	r.mu.Unlock()
	switch {
	case !known:
		refuse(w, http.StatusNotFound, registry.NameUnknown)
		return
	case m.bytes == nil:
		refuse(w, http.StatusNotFound, registry.ManifestUnknown)
		return
	}
	h := w.Header()
	if k := r.Configured(); k.RateLimit != "" {
		h.Set("ratelimit-limit", k.RateLimit)
		h.Set("ratelimit-remaining", k.RateRemaining)
	}
	h.Set("Content-Type", m.mediaType)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", `"`+d.String()+`"`)
	h.Set("Content-Length", strconv.Itoa(len(m.bytes)))
	if req.Method == http.MethodGet {
		w.Write(m.bytes)
	}
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, name string, d registry.Digest) {
	r.mu.Lock()
	var b []byte
	known := false
	if from := r.repos[name]; from != nil {
		b, known = from.blobs[d]
	}
	r.mu.Unlock()
	if !known {
		refuse(w, http.StatusNotFound, registry.BlobUnknown)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("ETag", `"`+d.String()+`"`)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(b))
}

func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request, name string) {
	r.mu.Lock()
	from, known := r.repos[name]
	var tags []string
	if known {
		tags = slices.Sorted(maps.Keys(from.tags))
	}
	r.mu.Unlock()
	if !known {
		refuse(w, http.StatusNotFound, registry.NameUnknown)
		return
	}
	page, more := r.page(req, tags)
	if more {
		next(w, req, url.Values{"last": {page[len(page)-1]}})
	}
	answerJSON(w, "application/json", map[string]any{"name": name, "tags": page})
}

func (r *Registry) serveReferrers(w http.ResponseWriter, req *http.Request, name string, subject registry.Digest) {
	k := r.Configured()
	if k.NoReferrers {
		refuse(w, http.StatusNotFound, registry.Unsupported)
		return
	}
	only := req.URL.Query().Get("artifactType")
	if k.NoFilter {
		only = ""
	}
	byDigest := map[string]registry.Descriptor{}
	r.mu.Lock()
	if from := r.repos[name]; from != nil {
		for d, m := range from.manifests {
			_, refs, err := registry.ParseManifest(m.mediaType, d, m.bytes)
			if err == nil && refs.Subject != nil && refs.Subject.Digest == subject && (only == "" || only == refs.ArtifactType) {
				byDigest[d.String()] = describe(d, m)
			}
		}
	}
	r.mu.Unlock()
	page, more := r.page(req, slices.Sorted(maps.Keys(byDigest)))
	if more {
		next(w, req, url.Values{"last": {page[len(page)-1]}, "artifactType": {req.URL.Query().Get("artifactType")}})
	}
	if only != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: registry.MediaTypeOCIIndex, Manifests: []v1.Descriptor{}}
	for _, d := range page {
		index.Manifests = append(index.Manifests, byDigest[d])
	}
	answerJSON(w, registry.MediaTypeOCIIndex, index)
}

// page cuts out what the query's "n" and "last" and the Page knob leave of a sorted list.
func (r *Registry) page(req *http.Request, all []string) (page []string, more bool) {
	query := req.URL.Query()
	n, err := strconv.Atoi(query.Get("n"))
	if err != nil {
		n = len(all)
	}
	if k := r.Configured(); k.Page > 0 {
		n = min(n, k.Page)
	}
	if last := query.Get("last"); last != "" {
		at, found := slices.BinarySearch(all, last)
		if found {
			at++
		}
		all = all[at:]
	}
	if n < len(all) {
		return all[:n], n > 0
	}
	return append([]string{}, all...), false
}

// next writes the Link header of a page.
func next(w http.ResponseWriter, req *http.Request, query url.Values) {
	if n := req.URL.Query().Get("n"); n != "" {
		query.Set("n", n)
	}
	w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", req.URL.Path, query.Encode()))
}

func answerJSON(w http.ResponseWriter, mediaType string, v any) {
	w.Header().Set("Content-Type", mediaType)
	json.NewEncoder(w).Encode(v)
}

// refuse answers as the specification's "Error Codes" say.
func refuse(w http.ResponseWriter, status int, code registry.Code) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`+"\n", string(code))
}
