// Package archive reads and writes images that are outside of a registry: OCI image layouts and the
// archives of "docker save", as they are carried to where no registry can be asked.
//
// Everything streams: an archive is read once from its front, and written once from its front, in
// memory that does not grow with it. Where content is kept, and whether its bytes are those of its
// digest, is the business of whoever is handed it; nothing here knows files or a store.
package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"roadstead/registry"
)

// Image is an image of an archive.
type Image struct {
	// Name is what the archive calls it: a full name, "docker.io/library/busybox:1.36", a name that
	// is completed as clients complete it, "rancher/pause:3.6", or the tag alone, "1.36". "": it has none.
	Name string

	registry.Descriptor // of its manifest or index

	// Accessory: it is a signature or the like of another image and no image. Its name is written where
	// none but this package looks for it: clients would unpack what they know by a name.
	Accessory bool

	// Made is the manifest's bytes where the archive has none: Docker's archives do without.
	Made []byte
}

// Keep takes a piece of content out of an archive, and says what its digest is. want is what the
// archive says that it is, or "" where it does not, which is then the sha256 of the bytes. Content with
// other bytes than those of want is an error. r has size bytes; what of them is not read is passed over,
// so content that is kept already costs nothing.
type Keep func(ctx context.Context, want registry.Digest, size int64, r io.Reader) (registry.Digest, error)

// Annotations of an index that name images.
const (
	refName        = "org.opencontainers.image.ref.name"
	containerdName = "io.containerd.image.name"
	accessoryName  = "io.roadstead.accessory.name"
)

// The files that say what the others are.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	dockerFile = "manifest.json"
	blobsDir   = "blobs/"
)

// mostWindow is how far back zstd may refer, which is memory that the reader needs: "zstd --long" takes
// 128 MiB, and RKE2's archives are made with a quarter of that.
const mostWindow = 128 << 20

// Compressions by their first bytes.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// Decompress reads what is compressed by gzip or zstd, which it finds by the first bytes, and everything
// else as it is. The caller closes what it returns, which leaves r open.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 128<<10)
	magic, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		return gzip.NewReader(buffered)
	case bytes.HasPrefix(magic, zstdMagic):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(mostWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}
