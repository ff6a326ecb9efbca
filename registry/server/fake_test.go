package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"roadstead/registry"
)

// shelf is a registry of real bytes in memory, with knobs. Its fields are set before it is
// used; asked is the record of the questions.
type shelf struct {
	manifests map[registry.Digest]registry.Manifest
	tags      map[string]registry.Descriptor // "repo:tag"
	blobs     map[registry.Digest][]byte
	referrers map[registry.Digest][]registry.Descriptor

	fail  error                                                    // every question's answer
	note  registry.Outcome                                         // noted for every question
	why   error                                                    // noted with it, when it is stale
	open  func(d registry.Digest, b []byte) (registry.Blob, error) // how a blob is opened
	pause func(context.Context)                                    // before every answer

	mu    sync.Mutex
	asked []string
}

func newShelf() *shelf {
	return &shelf{
		manifests: map[registry.Digest]registry.Manifest{},
		tags:      map[string]registry.Descriptor{},
		blobs:     map[registry.Digest][]byte{},
		referrers: map[registry.Digest][]registry.Descriptor{},
	}
}

func (s *shelf) question(ctx context.Context, format string, args ...any) error {
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
	s.mu.Unlock()
	if s.pause != nil {
		s.pause(ctx)
	}
	switch s.note {
	case "":
	case registry.Stale:
		registry.NoteStale(ctx, s.why)
	default:
		registry.Note(ctx, s.note)
	}
	return s.fail
}

// questions returns what was asked since the last call.
func (s *shelf) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *shelf) Resolve(ctx context.Context, repo registry.Repo, tag string) (registry.Descriptor, error) {
	if err := s.question(ctx, "resolve %s:%s", repo, tag); err != nil {
		return registry.Descriptor{}, err
	}
	d, ok := s.tags[repo.String()+":"+tag]
	if !ok {
		return d, fmt.Errorf("resolve %s:%s: %w", repo, tag, registry.ManifestUnknown)
	}
	return d, nil
}

func (s *shelf) Manifest(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	if err := s.question(ctx, "manifest %s@%s", repo, d); err != nil {
		return registry.Manifest{}, err
	}
	m, ok := s.manifests[d]
	if !ok {
		return m, registry.ManifestUnknown
	}
	return m, nil
}

func (s *shelf) Blob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	if err := s.question(ctx, "blob %s@%s", repo, d); err != nil {
		return registry.Blob{}, err
	}
	b, ok := s.blobs[d]
	if !ok {
		return registry.Blob{}, registry.BlobUnknown
	}
	if s.open != nil {
		return s.open(d, b)
	}
	return registry.Blob{ReadSeekCloser: memory{bytes.NewReader(b)}, Size: int64(len(b))}, nil
}

func (s *shelf) Tags(ctx context.Context, repo registry.Repo, after string, n int) ([]string, error) {
	if err := s.question(ctx, "tags %s after %q n %d", repo, after, n); err != nil {
		return nil, err
	}
	var list []string
	for name := range s.tags {
		if tag, ok := strings.CutPrefix(name, repo.String()+":"); ok && tag > after {
			list = append(list, tag)
		}
	}
	slices.Sort(list)
	return list[:min(n, len(list))], nil
}

func (s *shelf) Referrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	if err := s.question(ctx, "referrers %s@%s type %q", repo, d, artifactType); err != nil {
		return nil, err
	}
	var list []registry.Descriptor
	for _, r := range s.referrers[d] {
		if artifactType == "" || r.ArtifactType == artifactType {
			list = append(list, r)
		}
	}
	return list, nil
}

// stocktaker is a shelf with the optional powers.
type stocktaker struct{ *shelf }

func (s stocktaker) StatBlob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Descriptor, error) {
	if err := s.question(ctx, "stat %s@%s", repo, d); err != nil {
		return registry.Descriptor{}, err
	}
	b, ok := s.blobs[d]
	if !ok {
		return registry.Descriptor{}, registry.BlobUnknown
	}
	return registry.Descriptor{Digest: d, Size: int64(len(b))}, nil
}

func (s stocktaker) Repositories(ctx context.Context, after string, n int) ([]string, error) {
	if err := s.question(ctx, "repositories after %q n %d", after, n); err != nil {
		return nil, err
	}
	var list []string
	for name := range s.tags {
		for i := range name {
			if name[i] == ':' && name[:i] > after && !slices.Contains(list, name[:i]) {
				list = append(list, name[:i])
			}
		}
	}
	slices.Sort(list)
	return list[:min(n, len(list))], nil
}

// doubter is a shelf that writes down which blobs could not be read.
type doubter struct{ *shelf }

func (s doubter) Doubt(repo registry.Repo, d registry.Digest, err error) {
	_ = s.question(context.Background(), "doubt %s@%s: %v", repo, d, err)
}

// put shelves a blob and returns its digest.
func (s *shelf) put(b []byte) registry.Digest {
	d := digestOf(b)
	s.blobs[d] = b
	return d
}

// tag shelves a manifest below a tag and returns its digest.
func (s *shelf) tag(name, mediaType string, b []byte) registry.Digest {
	d := digestOf(b)
	m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}, Bytes: b}
	s.manifests[d] = m
	s.tags[name] = m.Descriptor
	return d
}

func digestOf(b []byte) registry.Digest {
	return registry.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(b)))
}

// memory is content in memory.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// files makes the shelf open blobs as files below a directory of the test.
func (s *shelf) files(t testing.TB) {
	dir := t.TempDir()
	s.open = func(d registry.Digest, b []byte) (registry.Blob, error) {
		name := filepath.Join(dir, d.Encoded())
		if _, err := os.Stat(name); err != nil {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				return registry.Blob{}, err
			}
		}
		f, err := os.Open(name)
		if err != nil {
			return registry.Blob{}, err
		}
		return registry.Blob{ReadSeekCloser: f, Size: int64(len(b))}, nil
	}
}

// faulty is content whose reading fails with err at offset at, or never ends well: with a nil
// err it just ends there.
type faulty struct {
	memory
	at  int64
	err error
}

func (f faulty) Read(p []byte) (int, error) {
	here, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if here >= f.at {
		if f.err == nil {
			return 0, io.EOF
		}
		return 0, f.err
	}
	return f.memory.Read(p[:min(int64(len(p)), f.at-here)])
}
