package archive

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"roadstead/registry"
)

// Read reads an archive: a tar file, compressed or not, that has an OCI layout or Docker's manifest.json
// in it, wherever. All of its content goes to keep, in its own order, before the images are returned;
// content of Docker's archives that has no digest is compared with what its image says that it should be.
//
// An image may be made of content that the archive does not have, or that it has and that names what it
// does not have: that is seen by whoever looks at its manifest.
func Read(ctx context.Context, in io.Reader, keep Keep) ([]Image, error) {
	plain, err := Decompress(in)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	defer plain.Close()
	r := reading{keep: keep, files: map[string]file{}, links: map[string]string{}}
	for t := tar.NewReader(plain); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, tar.ErrHeader) && len(r.files) == 0 && !r.listed() {
			return nil, errors.New("it is no tar file, nor one compressed by gzip or zstd")
		}
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		if err := r.entry(ctx, h, t); err != nil {
			return nil, err
		}
	}
	// Compressed files end in a checksum of all of it, which comes behind the end of the tar.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return nil, fmt.Errorf("read to the end: %w", err)
	}
	return r.images()
}

// ReadDir is Read for the directory of an OCI layout. Blobs that its index does not lead to go to keep
// as well.
func ReadDir(ctx context.Context, dir fs.FS, keep Keep) ([]Image, error) {
	r := reading{keep: keep, files: map[string]file{}, links: map[string]string{}}
	err := fs.WalkDir(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		wanted := name == layoutFile || name == indexFile || strings.HasPrefix(name, blobsDir)
		if entry.IsDir() || !wanted {
			return nil
		}
		f, err := dir.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat() // of what a link leads to
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		return r.take(ctx, name, info.Size(), f)
	})
	if err != nil {
		return nil, err
	}
	return r.images()
}

// reading is an archive that is being read.
type reading struct {
	keep  Keep
	files map[string]file
	links map[string]string // what is called by another name: its name there
	held  held

	layout        bool // it says that it is an OCI layout
	index, docker []byte
}

// listed reports whether something was found that an archive has.
func (r *reading) listed() bool { return r.layout || r.index != nil || r.docker != nil }

// file is a piece of content of an archive.
type file struct {
	digest      registry.Digest
	size        int64
	compression string          // "", "gzip" or "zstd"
	diff        registry.Digest // of what is compressed in it; "": nobody has looked
	diffs       []registry.Digest
}

// entry takes one entry of a tar file. Links are how "docker save" says that two images have a layer in
// common.
func (r *reading) entry(ctx context.Context, h *tar.Header, body io.Reader) error {
	name := clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		return r.take(ctx, name, h.Size, body)
	case tar.TypeSymlink:
		return r.link(name, clean(path.Join(path.Dir(name), h.Linkname)))
	case tar.TypeLink:
		return r.link(name, clean(h.Linkname))
	}
	return nil
}

func (r *reading) link(name, to string) error {
	r.links[name] = to
	return r.held.file(name, to)
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// take takes a file.
func (r *reading) take(ctx context.Context, name string, size int64, body io.Reader) error {
	switch {
	case name == layoutFile:
		r.layout = true
		return nil
	case name == indexFile:
		return list(name, size, body, &r.index)
	case name == dockerFile:
		return list(name, size, body, &r.docker)
	case name == "repositories" || path.Base(name) == "VERSION" || path.Base(name) == "json":
		return nil // what "docker load" needed before there was a manifest.json
	case strings.HasPrefix(name, blobsDir):
		algorithm, hex, _ := strings.Cut(strings.TrimPrefix(name, blobsDir), "/")
		want, err := registry.ParseDigest(algorithm + ":" + hex)
		if err != nil {
			return nil // no blob, whatever else it may be
		}
		return r.content(ctx, name, want, size, body)
	}
	return r.content(ctx, name, "", size, body)
}

// list reads a file that says what the others are.
func list(name string, size int64, body io.Reader, into *[]byte) error {
	if size > mostList {
		return fmt.Errorf("%s is %d bytes long, at most %d are read", name, size, mostList)
	}
	b, err := io.ReadAll(io.LimitReader(body, mostList))
	if err == nil {
		*into = b
	}
	return err
}

// content hands a piece of content to be kept. What has no digest of its own is looked into, for what
// an image says of it.
func (r *reading) content(ctx context.Context, name string, want registry.Digest, size int64, body io.Reader) error {
	f := file{size: size}
	look, err := newLook(body, size, want == "")
	if err != nil {
		return fmt.Errorf("%s: %w", registry.Clip(name), err)
	}
	f.digest, err = r.keep(ctx, want, size, look)
	if err != nil {
		look.abandon()
		return fmt.Errorf("%s: %w", registry.Clip(name), err)
	}
	f.compression = look.compression
	if f.diff, f.diffs, err = look.end(); err != nil {
		return fmt.Errorf("%s: %w", registry.Clip(name), err)
	}
	r.files[name] = f
	if err := r.held.layers(len(f.diffs)); err != nil {
		return fmt.Errorf("%s: %w", registry.Clip(name), err)
	}
	return r.held.file(name)
}

// images says which there are.
func (r *reading) images() ([]Image, error) {
	switch {
	case r.index != nil && r.layout:
		return indexed(r.index)
	case r.docker != nil:
		return r.saved()
	}
	return nil, errors.New("it is no archive of images: there is neither an oci-layout with its index.json nor a manifest.json in it")
}

// indexed are the images of an OCI layout.
func indexed(index []byte) ([]Image, error) {
	_, refs, err := registry.ParseManifest(registry.MediaTypeOCIIndex, "", index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	var all []Image
	for _, m := range refs.Manifests {
		name := cmp.Or(m.Annotations[containerdName], m.Annotations[refName])
		accessory := name == "" && m.Annotations[accessoryName] != ""
		if accessory {
			name = m.Annotations[accessoryName]
		}
		all = append(all, Image{Name: name, Descriptor: m, Accessory: accessory})
	}
	return all, nil
}
