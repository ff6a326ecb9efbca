package server

import (
	"bytes"
	"context"
	"encoding/json"

	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// yard is a whole registry in memory, which people push to. Its knobs are set before it is
// used.
type yard struct {
	full  int64                 // how many bytes an upload may have; 0: any
	pause func(context.Context) // in each Append, once it has begun

	mu      sync.Mutex
	repos   map[registry.Repo]*shed
	uploads map[string]*intake
	asked   []string
	moved   map[string]int // how often something that changes the yard was called, by name
}

// shed is a repository of the yard.
type shed struct {
	blobs     map[registry.Digest][]byte
	manifests map[registry.Digest]registry.Manifest
	subjects  map[registry.Digest]registry.Digest // of manifests
	tags      map[string]registry.Digest
}

func newYard() *yard {
	return &yard{repos: map[registry.Repo]*shed{}, uploads: map[string]*intake{}, moved: map[string]int{}}
}

// shed returns a repository, which is there as soon as somebody asks for it. mu is held.
func (y *yard) shed(repo registry.Repo) *shed {
	s := y.repos[repo]
	if s == nil {
		s = &shed{map[registry.Digest][]byte{}, map[registry.Digest]registry.Manifest{}, map[registry.Digest]registry.Digest{}, map[string]registry.Digest{}}
		y.repos[repo] = s
	}
	return s
}

func (y *yard) note(what string, args ...any) {
	y.asked = append(y.asked, fmt.Sprintf(what, args...))
}

// questions returns what was asked since the last call.
func (y *yard) questions() []string {
	y.mu.Lock()
	defer y.mu.Unlock()
	asked := y.asked
	y.asked = nil
	return asked
}

// put places a blob in a repository.
func (y *yard) put(name string, b []byte) registry.Digest {
	y.mu.Lock()
	defer y.mu.Unlock()
	d := digestOf(b)
	y.shed(registry.SplitRepo(name)).blobs[d] = b
	return d
}

// tag places a manifest in a repository, below a tag.
func (y *yard) tag(name, tag string, b []byte) registry.Digest {
	y.mu.Lock()
	defer y.mu.Unlock()
	d := digestOf(b)
	s := y.shed(registry.SplitRepo(name))
	s.manifests[d] = registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: d, Size: int64(len(b))}, Bytes: b}
	s.tags[tag] = d
	return d
}

func (y *yard) Resolve(_ context.Context, repo registry.Repo, tag string) (registry.Descriptor, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.note("resolve %s:%s", repo, tag)
	s := y.shed(repo)
	m, ok := s.manifests[s.tags[tag]]
	if !ok {
		return registry.Descriptor{}, registry.ManifestUnknown
	}
	return m.Descriptor, nil
}

func (y *yard) Manifest(_ context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.note("manifest %s@%s", repo, d)
	m, ok := y.shed(repo).manifests[d]
	if !ok {
		return m, registry.ManifestUnknown
	}
	return m, nil
}

func (y *yard) Blob(_ context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.note("blob %s@%s", repo, d)
	b, ok := y.shed(repo).blobs[d]
	if !ok {
		return registry.Blob{}, registry.BlobUnknown
	}
	return registry.Blob{ReadSeekCloser: memory{bytes.NewReader(b)}, Size: int64(len(b))}, nil
}

func (y *yard) Tags(_ context.Context, repo registry.Repo, after string, n int) ([]string, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.note("tags %s", repo)
	return pageAfter(slices.Sorted(maps.Keys(y.shed(repo).tags)), after, n), nil
}

func (y *yard) Repositories(_ context.Context, after string, n int) ([]string, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.note("repositories after %q n %d", after, n)
	var list []string
	for repo := range y.repos {
		list = append(list, repo.String())
	}
	slices.Sort(list)
	return pageAfter(list, after, n), nil
}

func pageAfter(list []string, after string, n int) []string {
	i, found := slices.BinarySearch(list, after)
	if found {
		i++
	}
	list = list[i:]
	return list[:min(n, len(list))]
}

func (y *yard) Referrers(_ context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.note("referrers %s@%s", repo, d)
	var list []registry.Descriptor
	s := y.shed(repo)
	for from, to := range s.subjects {
		if to != d {
			continue
		}
		// What a referrer is called comes from its manifest.
		var doc struct {
			ArtifactType string              `json:"artifactType"`
			Config       registry.Descriptor `json:"config"`
			Annotations  map[string]string   `json:"annotations"`
		}
		if err := json.Unmarshal(s.manifests[from].Bytes, &doc); err != nil {
			return nil, err
		}
		r := s.manifests[from].Descriptor
		r.ArtifactType, r.Annotations = doc.ArtifactType, doc.Annotations
		if r.ArtifactType == "" {
			r.ArtifactType = doc.Config.MediaType
		}
		if artifactType == "" || artifactType == r.ArtifactType {
			list = append(list, r)
		}
	}
	return list, nil
}

func (y *yard) PutManifest(_ context.Context, repo registry.Repo, p registry.ManifestPush) (registry.Pushed, error) {
	alg := digest.SHA256
	if p.Digest != "" {
		alg = p.Digest.Algorithm()
	}
	d := alg.FromBytes(p.Bytes)
	if p.Digest != "" && p.Digest != d {
		return registry.Pushed{}, registry.DigestInvalid
	}
	m, refs, err := registry.ParseManifest(p.ContentType, d, p.Bytes)
	if err != nil {
		return registry.Pushed{}, err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.moved["manifest"]++
	s := y.shed(repo)
	for _, blob := range refs.Blobs() {
		if s.blobs[blob.Digest] == nil && len(blob.URLs) == 0 {
			return registry.Pushed{}, fmt.Errorf("blob %s: %w", blob.Digest, registry.ManifestBlobUnknown)
		}
	}
	s.manifests[d] = m
	for _, tag := range p.Tags {
		s.tags[tag] = d
	}
	pushed := registry.Pushed{Digest: d}
	if refs.Subject != nil {
		pushed.Subject = refs.Subject.Digest
		s.subjects[d] = pushed.Subject
	}
	return pushed, nil
}

func (y *yard) DeleteTag(_ context.Context, repo registry.Repo, tag string) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.moved["delete tag"]++
	s := y.shed(repo)
	if _, ok := s.tags[tag]; !ok {
		return registry.ManifestUnknown
	}
	delete(s.tags, tag)
	return nil
}

func (y *yard) DeleteManifest(_ context.Context, repo registry.Repo, d registry.Digest) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.moved["delete manifest"]++
	s := y.shed(repo)
	if _, ok := s.manifests[d]; !ok {
		return registry.ManifestUnknown
	}
	delete(s.manifests, d)
	delete(s.subjects, d)
	maps.DeleteFunc(s.tags, func(_ string, at registry.Digest) bool { return at == d })
	return nil
}

func (y *yard) DeleteBlob(_ context.Context, repo registry.Repo, d registry.Digest) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.moved["delete blob"]++
	s := y.shed(repo)
	if _, ok := s.blobs[d]; !ok {
		return registry.BlobUnknown
	}
	delete(s.blobs, d)
	return nil
}

func (y *yard) Mount(_ context.Context, repo registry.Repo, d registry.Digest, may func(registry.Repo) bool) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.moved["mount"]++
	for from, s := range y.repos {
		if b, ok := s.blobs[d]; ok && may(from) {
			y.shed(repo).blobs[d] = b
			return nil
		}
	}
	return registry.BlobUnknown
}

func (y *yard) StartUpload(_ context.Context, repo registry.Repo, owner string, alg digest.Algorithm) (registry.Upload, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.moved["start "+string(alg)]++
	u := &intake{yard: y, repo: repo, owner: owner, id: fmt.Sprintf("upload-%d", y.moved["start sha256"]+y.moved["start sha512"])}
	y.uploads[u.id] = u
	return u, nil
}

func (y *yard) Upload(_ context.Context, repo registry.Repo, owner, id string) (registry.Upload, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.note("upload %s", id)
	u := y.uploads[id]
	if u == nil || u.repo != repo || u.owner != owner {
		return nil, registry.BlobUploadUnknown
	}
	return u, nil
}

// intake is an upload to the yard.
type intake struct {
	yard      *yard
	repo      registry.Repo
	owner, id string
	taking    sync.Mutex // held by who is at it
	bytes     []byte     // yard.mu
}

func (u *intake) ID() string { return u.id }

func (u *intake) Size() int64 {
	u.yard.mu.Lock()
	defer u.yard.mu.Unlock()
	return int64(len(u.bytes))
}

func (u *intake) Append(ctx context.Context, at int64, r io.Reader) error {
	if !u.taking.TryLock() {
		return registry.Conflict
	}
	defer u.taking.Unlock()
	if at >= 0 && at != u.Size() {
		return registry.RangeInvalid
	}
	if u.yard.pause != nil {
		u.yard.pause(ctx)
	}
	buf := make([]byte, 8<<10)
	for {
		n, err := r.Read(buf)
		if full := u.yard.full; full > 0 && u.Size()+int64(n) > full {
			return &registry.Fault{Code: registry.TooLarge, Message: "an upload may have no more than that"}
		}
		u.yard.mu.Lock()
		u.bytes = append(u.bytes, buf[:n]...)
		u.yard.mu.Unlock()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("append: %v", err) // that the cause is hidden is nothing the server may rely on
		}
	}
}

func (u *intake) Commit(_ context.Context, d registry.Digest) error {
	if !u.taking.TryLock() {
		return registry.Conflict
	}
	defer u.taking.Unlock()
	u.yard.mu.Lock()
	defer u.yard.mu.Unlock()
	if u.yard.uploads[u.id] != u {
		return registry.BlobUploadUnknown
	}
	if d.Algorithm().FromBytes(u.bytes) != d {
		return registry.DigestInvalid
	}
	u.yard.moved["commit"]++
	b := u.bytes
	if b == nil {
		b = []byte{}
	}
	u.yard.shed(u.repo).blobs[d] = b
	delete(u.yard.uploads, u.id)
	return nil
}

func (u *intake) Cancel(context.Context) error {
	u.yard.mu.Lock()
	defer u.yard.mu.Unlock()
	if u.yard.uploads[u.id] != u {
		return registry.BlobUploadUnknown
	}
	u.yard.moved["cancel"]++
	delete(u.yard.uploads, u.id)
	return nil
}

// has reports whether a repository of the yard has a blob.
func (y *yard) has(name string, d registry.Digest) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.shed(registry.SplitRepo(name)).blobs[d] != nil
}

// under reports what has been taken in of an upload, -1 when there is none.
func (y *yard) under(id string) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	if u := y.uploads[id]; u != nil {
		return len(u.bytes)
	}
	return -1
}

// changes is how many calls have changed the yard or tried to.
func (y *yard) changes() (n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, times := range y.moved {
		n += times
	}
	return n
}

// calls are the names of what has changed the yard or tried to, in order.
func (y *yard) calls() []string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.Sorted(maps.Keys(y.moved))
}

// named is a principal with nothing but a name.
type named string

func (n named) Name() string { return string(n) }
