// Package registry is the vocabulary of the house: what a repository, a digest, a
// descriptor, a manifest and a blob are, what a registry can be asked, how its errors
// are told apart, and which names are well formed.
//
// Nothing here stores, sends or receives anything. An upstream, the cache, a hosted
// project and a test fake are all values of [Reader].
package registry

import (
	"context"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Digest is the content address of a manifest or blob, "sha256:<64 hex>" or
// "sha512:<128 hex>". Only [ParseDigest] makes one out of text that came from outside.
type Digest = digest.Digest

// Descriptor says what a piece of content is: media type, digest and size in bytes
// (OCI image specification 1.1, descriptor.md).
type Descriptor = v1.Descriptor

// Repo names a repository.
//
// Inside the house Project is the first path segment of the name that clients use
// ("docker.io") and Name is the rest ("library/busybox"). At an upstream Project is empty
// and Name is the whole repository.
type Repo struct {
	Project string
	Name    string
}

// String returns "project/name", the name that clients use.
func (r Repo) String() string {
	if r.Project == "" {
		return r.Name
	}
	return r.Project + "/" + r.Name
}

// SplitRepo cuts a full name into project and rest. The rest is empty when there is none.
func SplitRepo(full string) Repo {
	project, name, _ := strings.Cut(full, "/")
	return Repo{Project: project, Name: name}
}

// Reader is the read side of a registry. Resolve, Tags and Referrers may answer differently
// tomorrow; Manifest and Blob, asked for by digest, never do.
//
// All methods may be called concurrently. ctx bounds the call, and for Blob the life of what
// is returned as well. Names, tags and digests are well formed (the caller has validated
// them). Errors match one of the [Code] constants by errors.Is; anything else is a fault of
// the implementation that no client should read.
type Reader interface {
	// Resolve says what a tag points to now. Digest, MediaType and Size of the answer are set.
	// An unknown tag or repository is ManifestUnknown or NameUnknown.
	Resolve(ctx context.Context, repo Repo, tag string) (Descriptor, error)

	// Manifest returns the verified bytes of a manifest, at most MaxManifest of them.
	// The bytes are shared: callers must not change them.
	Manifest(ctx context.Context, repo Repo, d Digest) (Manifest, error)

	// Blob opens a blob at its first byte. The caller closes it. Reading to the end yields
	// io.EOF only if the bytes were those of d; otherwise an error comes before the last byte.
	Blob(ctx context.Context, repo Repo, d Digest) (Blob, error)

	// Tags lists at most n tags that sort after the tag "after" (all of them when it is
	// empty), in byte order. n < 0 means no limit of the caller's.
	Tags(ctx context.Context, repo Repo, after string, n int) ([]string, error)

	// Referrers lists the manifests whose subject is d, of the given artifact type only
	// unless it is empty. A digest that nothing refers to, or that is unknown, has none:
	// that is no error (OCI distribution specification 1.1, "Listing Referrers").
	Referrers(ctx context.Context, repo Repo, d Digest, artifactType string) ([]Descriptor, error)
}

// Blob is open content. Size is its full length in bytes, wherever it is read from.
//
// The embedded reader is what http.ServeContent is given: for stored content it is the bare
// *os.File, so that the kernel can send it without a copy.
type Blob struct {
	io.ReadSeekCloser
	Size int64
}

// Limits that hold for every registry in the house.
const (
	// MaxManifest is the largest manifest that is read or accepted, in bytes. The
	// distribution specification asks registries to take at least 4 MiB; real ones stay far
	// below and a larger one is an attack on memory (FAULTS A7, B2).
	MaxManifest = 4 << 20

	// MaxPage is the most entries that one page of tags or repositories holds (FAULTS B3).
	MaxPage = 1000
)
