package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// Files is where an archive is written to: a tar file ([NewTar]), or a directory.
type Files interface {
	// Has reports whether there is a file already that was put there whole, of the given size. One that
	// is there need not be put.
	Has(name string, size int64) bool

	// Put writes a file of so many bytes, which r has exactly. A file has its name once it is whole and
	// not before; nothing of it stays when r fails.
	Put(name string, size int64, r io.Reader) error
}

// Open opens content by its digest. The caller closes it.
type Open func(ctx context.Context, d registry.Descriptor) (io.ReadCloser, error)

// Writing is what goes into an archive.
type Writing struct {
	Files  Files
	Images []Image // Name is the full one

	// Contents are all manifests and blobs that the archive is to have, each once, in the order in which
	// they are written. Their bytes are checked on the way.
	Contents []registry.Descriptor
	Open     Open

	// Wrote is told how many more bytes of the contents are there. Nil: nobody is.
	Wrote func(n int64)
}

// Layout writes an OCI image layout (OCI image specification 1.1, image-layout.md). The index, which
// makes a layout of it, comes first in a tar file, whose reader knows the rest by it, and last in a
// directory, which may be left half written: so Files says which.
func (w Writing) Layout(ctx context.Context, last bool) error {
	index, err := w.index()
	if err != nil {
		return err
	}
	mark := func() error {
		return errors.Join(w.put(layoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`)), w.put(indexFile, index))
	}
	if !last {
		if err := mark(); err != nil {
			return err
		}
	}
	for _, d := range w.Contents {
		if err := w.content(ctx, blobsDir+d.Digest.Algorithm().String()+"/"+d.Digest.Encoded(), d); err != nil {
			return err
		}
	}
	if last {
		return mark()
	}
	return nil
}

// index names the images, in the words of the specification and in those of containerd.
func (w Writing) index() ([]byte, error) {
	index := struct {
		SchemaVersion int                   `json:"schemaVersion"`
		MediaType     string                `json:"mediaType"`
		Manifests     []registry.Descriptor `json:"manifests"`
	}{2, registry.MediaTypeOCIIndex, []registry.Descriptor{}}
	for _, image := range w.Images {
		d := registry.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size, Platform: image.Platform}
		d.Annotations = map[string]string{refName: image.Name, containerdName: image.Name}
		if image.Accessory {
			d.Annotations = map[string]string{accessoryName: image.Name}
		}
		index.Manifests = append(index.Manifests, d)
	}
	return json.Marshal(index)
}

func (w Writing) put(name string, b []byte) error {
	return w.Files.Put(name, int64(len(b)), bytes.NewReader(b))
}

// content writes a piece of content, if it is what its digest says.
func (w Writing) content(ctx context.Context, name string, d registry.Descriptor) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if w.Wrote == nil {
		w.Wrote = func(int64) {}
	}
	if w.Files.Has(name, d.Size) {
		w.Wrote(d.Size)
		return nil
	}
	body, err := w.Open(ctx, d)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.Digest, err)
	}
	defer body.Close()
	checked, err := newCheck(body, d)
	if err != nil {
		return err
	}
	checked.wrote, checked.ctx = w.Wrote, ctx
	if err := w.Files.Put(name, d.Size, checked); err != nil {
		return fmt.Errorf("write %s: %w", d.Digest, err)
	}
	return nil
}

// check reads content and fails, instead of ending, when it is not what it should be. ctx bounds its
// life.
type check struct {
	ctx   context.Context
	body  io.Reader
	want  registry.Descriptor
	hash  hash.Hash
	left  int64
	wrote func(int64)
}

func newCheck(body io.Reader, d registry.Descriptor) (*check, error) {
	c := &check{body: body, want: d, left: d.Size, hash: sha256.New()}
	switch d.Digest.Algorithm() {
	case digest.SHA256:
	case digest.SHA512:
		c.hash = sha512.New()
	default:
		return nil, fmt.Errorf("%s is of an algorithm that nobody here knows", d.Digest)
	}
	return c, nil
}

func (c *check) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.body.Read(p)
	c.hash.Write(p[:n])
	c.left -= int64(n)
	c.wrote(int64(n))
	if c.left == 0 && c.want.Digest != digest.NewDigest(c.want.Digest.Algorithm(), c.hash) || c.left < 0 || err == io.EOF && c.left > 0 {
		// Before the last byte has gone on, for whoever counts bytes and does not look for the end.
		return 0, fmt.Errorf("its bytes are not those of its digest: it is damaged here")
	}
	return n, err
}

// Docker writes what "docker save" does, as "docker load" and RKE2 read it. Layers stay compressed as
// they are, which both take. An image of it has one platform, and its manifest stays behind: what loads
// it makes one.
func (w Writing) Docker(ctx context.Context) error {
	names, list, err := w.docker(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(list)
	if err == nil {
		err = w.put(dockerFile, body)
	}
	if err != nil {
		return err
	}
	for _, d := range w.Contents {
		name, ok := names[d.Digest]
		if !ok {
			continue // a manifest
		}
		if err := w.content(ctx, name, d); err != nil {
			return err
		}
	}
	return nil
}

// docker says what is written, and how the files are called.
func (w Writing) docker(ctx context.Context) (names map[registry.Digest]string, list []saved, err error) {
	names = map[registry.Digest]string{}
	at := map[registry.Digest]int{}
	for _, image := range w.Images {
		if strings.Contains(image.Name, "@") {
			return nil, nil, fmt.Errorf("%s: an archive of Docker's has names with tags only: take the format oci", image.Name)
		}
		if i, ok := at[image.Digest]; ok {
			list[i].RepoTags = append(list[i].RepoTags, image.Name)
			continue
		}
		refs, err := w.refs(ctx, image)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", image.Name, err)
		}
		s := saved{Config: refs.Config.Digest.Encoded() + ".json", RepoTags: []string{image.Name}, Layers: []string{}}
		names[refs.Config.Digest] = s.Config
		for _, layer := range refs.Layers {
			name := layer.Digest.Encoded() + ".tar" + suffix(layer.MediaType)
			names[layer.Digest] = name
			s.Layers = append(s.Layers, name)
		}
		at[image.Digest] = len(list)
		list = append(list, s)
	}
	return names, list, nil
}

// refs reads the manifest of an image that Docker could load.
func (w Writing) refs(ctx context.Context, image Image) (registry.References, error) {
	body, err := w.Open(ctx, image.Descriptor)
	if err != nil {
		return registry.References{}, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, registry.MaxManifest))
	if err != nil {
		return registry.References{}, err
	}
	_, refs, err := registry.ParseManifest(image.MediaType, image.Digest, b)
	if err != nil {
		return registry.References{}, err
	}
	if refs.Config == nil || refs.Config.MediaType != dockerConfig && refs.Config.MediaType != ociConfig {
		return registry.References{}, errors.New("it is no image of one platform, which is all that an archive of Docker's can have: take the format oci")
	}
	return refs, nil
}

const ociConfig = "application/vnd.oci.image.config.v1+json"

// suffix is how people call a file with a layer of some type, behind ".tar".
func suffix(mediaType string) string {
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		return ".gz"
	case strings.HasSuffix(mediaType, "zstd"):
		return ".zst"
	}
	return ""
}
