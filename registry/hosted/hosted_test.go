package hosted

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

var (
	web   = registry.Repo{Project: "production", Name: "web"}
	api   = registry.Repo{Project: "production", Name: "team/api"}
	other = registry.Repo{Project: "other", Name: "web"}
	proxy = registry.Repo{Project: "docker.io", Name: "library/busybox"}
)

// house is a registry on a directory that can be opened again.
type house struct {
	*Registry
	t   testing.TB
	dir string
	log *bytes.Buffer
}

// newHouse makes a registry with the projects production and other.
func newHouse(t testing.TB, projects ...catalog.Project) *house {
	t.Helper()
	return newHouseIn(t, t.TempDir(), projects...)
}

// memory returns a directory in memory where there is one: a test of ten thousand pushes is not
// about how fast a disk syncs.
func memory(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "hosted")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newHouseIn(t testing.TB, dir string, projects ...catalog.Project) *house {
	t.Helper()
	h := &house{t: t, dir: dir, log: &bytes.Buffer{}}
	h.open(Config{})
	if len(projects) == 0 {
		projects = []catalog.Project{{Name: "production"}, {Name: "other"}}
	}
	h.set(projects...)
	return h
}

// open opens what is in the directory, after a crash too.
func (h *house) open(c Config) {
	h.t.Helper()
	store, err := storage.New(storage.Config{Root: filepath.Join(h.dir, "content"), Floor: -1})
	if err != nil {
		h.t.Fatal(err)
	}
	db, err := catalogtest.Open(context.Background(), "sqlite:"+filepath.Join(h.dir, "catalog.db"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		db.Close()
		store.Close()
	})
	c.Store, c.Catalog, c.Log = store, db, slog.New(slog.NewTextHandler(h.log, nil))
	if h.Registry, err = New(c); err != nil {
		h.t.Fatal(err)
	}
	all, err := db.Projects(context.Background())
	if err == nil {
		err = h.SetProjects(all)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) set(projects ...catalog.Project) {
	h.t.Helper()
	h.update(func(tx *catalog.Tx) error {
		for _, p := range projects {
			if err := tx.PutProject(p); err != nil {
				return err
			}
		}
		return nil
	})
	all, err := h.catalog.Projects(context.Background()) // with their numbers
	if err == nil {
		err = h.SetProjects(slices.DeleteFunc(all, func(p catalog.Project) bool {
			return !slices.ContainsFunc(projects, func(one catalog.Project) bool { return one.Name == p.Name })
		}))
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) update(fn func(*catalog.Tx) error) {
	h.t.Helper()
	if err := h.catalog.Update(context.Background(), fn); err != nil {
		h.t.Fatal(err)
	}
}

// tryBlob pushes a blob.
func (h *house) tryBlob(repo registry.Repo, d registry.Digest, b []byte) error {
	u, err := h.StartUpload(context.Background(), repo, "", d.Algorithm())
	if err != nil {
		return err
	}
	if err := u.Append(context.Background(), 0, bytes.NewReader(b)); err != nil {
		return err
	}
	return u.Commit(context.Background(), d)
}

// text describes a blob that is some text.
func text(s string) v1.Descriptor {
	return v1.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString(s), Size: int64(len(s))}
}

func (h *house) blob(repo registry.Repo, s string) v1.Descriptor {
	h.t.Helper()
	if err := h.tryBlob(repo, digest.FromString(s), []byte(s)); err != nil {
		h.t.Fatal(err)
	}
	return text(s)
}

// image makes the manifest of an image of blobs, the first of which is its config.
func image(blobs ...v1.Descriptor) v1.Manifest {
	return v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: registry.MediaTypeOCIManifest, Config: blobs[0], Layers: append([]v1.Descriptor{}, blobs[1:]...)}
}

func index(manifests ...v1.Descriptor) v1.Index {
	return v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: registry.MediaTypeOCIIndex, Manifests: append([]v1.Descriptor{}, manifests...)}
}

func encode(v any) []byte {
	if text, ok := v.(string); ok {
		return []byte(text)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (h *house) try(repo registry.Repo, v any, tags ...string) error {
	_, err := h.PutManifest(context.Background(), repo, registry.ManifestPush{Bytes: encode(v), Tags: tags})
	return err
}

// push pushes a manifest.
func (h *house) push(repo registry.Repo, v any, tags ...string) v1.Descriptor {
	h.t.Helper()
	if err := h.try(repo, v, tags...); err != nil {
		h.t.Fatal(err)
	}
	b := encode(v)
	m, _, err := registry.ParseManifest("", digest.FromBytes(b), b)
	if err != nil {
		h.t.Fatal(err)
	}
	return v1.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}
}

// whole reads an image and all that it is made of, in a repository.
func (h *house) wholeImage(repo registry.Repo, d registry.Digest) error {
	m, err := h.Manifest(context.Background(), repo, d)
	if err != nil {
		return err
	}
	_, refs, err := registry.ParseManifest(m.MediaType, d, m.Bytes)
	if err != nil {
		return err
	}
	for _, child := range refs.Manifests {
		if err := h.wholeImage(repo, child.Digest); err != nil {
			return err
		}
	}
	for _, blob := range refs.Blobs() {
		if _, err := h.read(repo, blob.Digest); err != nil {
			return err
		}
	}
	return nil
}

func (h *house) read(repo registry.Repo, d registry.Digest) (string, error) {
	b, err := h.Blob(context.Background(), repo, d)
	if err != nil {
		return "", err
	}
	defer b.Close()
	text, err := io.ReadAll(b)
	if err == nil && d.Algorithm().FromBytes(text) != d {
		err = errors.New("these are other bytes")
	}
	return string(text), err
}

// want fails unless err is of a code; "" is for none.
func want(t testing.TB, err error, code registry.Code, says ...string) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Errorf("%v, want no error", err)
		}
		return
	}
	if !errors.Is(err, code) {
		t.Errorf("error %v, want %s", err, code)
		return
	}
	for _, text := range says {
		if fault, ok := errors.AsType[*registry.Fault](err); !ok || !strings.Contains(fault.Message, text) {
			t.Errorf("error %v does not tell the client %q", err, text)
		}
	}
}

func (h *house) wantTag(repo registry.Repo, tag string, d registry.Digest) {
	h.t.Helper()
	got, err := h.Resolve(context.Background(), repo, tag)
	if err != nil || got.Digest != d {
		h.t.Errorf("%s:%s = %s, %v, want %s", repo, tag, got.Digest, err, d)
	}
}

// linked returns the layout's digest of a tag, or "".
func (h *house) linked(repo registry.Repo, tag string) registry.Digest {
	b, err := os.ReadFile(filepath.Join(h.dir, "content/docker/registry/v2/repositories", repo.String(), "_manifests/tags", tag, "current/link"))
	if err != nil {
		return ""
	}
	return registry.Digest(b)
}

func (h *house) path(d registry.Digest) string {
	hex := d.Encoded()
	return filepath.Join(h.dir, "content/docker/registry/v2/blobs", d.Algorithm().String(), hex[:2], hex, "data")
}

// What clients are told of trouble is where it is: upstream has nothing to do with what people push.
func TestTrouble(t *testing.T) {
	own := &registry.Fault{Code: registry.Unavailable, Message: "told already", Err: catalog.ErrUnavailable}
	for _, row := range []struct {
		name string
		err  error
		want string // in the message
	}{
		{"the catalog is away", fmt.Errorf("link: %w", catalog.ErrUnavailable), "the catalog is away: try again later"},
		{"somebody has said it", fmt.Errorf("link: %w", own), "told already"},
		{"the disk", errors.New("input/output error"), "storage is in trouble"},
	} {
		fault, ok := errors.AsType[*registry.Fault](trouble(row.err))
		if !ok || fault.Code != registry.Unavailable || !strings.Contains(fault.Message, row.want) {
			t.Errorf("%s: %+v", row.name, fault)
		}
	}
}
