package registry

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
)

// Writer is the write side of a registry: of one that people push to.
//
// All methods may be called concurrently. Names, tags and digests are well formed. When a method
// returns nil, what it did survives a crash and a power cut. Errors match one of the [Code]
// constants; after one nothing has changed.
type Writer interface {
	// PutManifest makes a manifest the repository's under its digest, and points p.Tags to it:
	// all of that or nothing. Again is harmless. All that the manifest is made of has to be in
	// the repository already, apart from layers with URLs and the subject
	// (ManifestBlobUnknown).
	PutManifest(ctx context.Context, repo Repo, p ManifestPush) (Pushed, error)

	// DeleteTag removes a tag and nothing else: what it points to stays, by its digest. One that
	// is not there is ManifestUnknown.
	DeleteTag(ctx context.Context, repo Repo, tag string) error

	// DeleteManifest takes a manifest and all tags that point to it out of a repository. One
	// that is not there is ManifestUnknown.
	DeleteManifest(ctx context.Context, repo Repo, d Digest) error

	// DeleteBlob takes a blob out of a repository. One that is not there is BlobUnknown, one
	// that a manifest of the repository is made of is Denied.
	DeleteBlob(ctx context.Context, repo Repo, d Digest) error

	// Mount makes a blob the repository's that another one has of which may says yes, or is
	// BlobUnknown. It asks may for repositories that have the blob, and not for all of them
	// when there are very many.
	Mount(ctx context.Context, repo Repo, d Digest, may func(Repo) bool) error
}

// ManifestPush is a manifest that is being pushed.
type ManifestPush struct {
	// ContentType is what the client calls it. It may be empty, and then the manifest says it.
	ContentType string

	// Digest is what the client says that the bytes are. Empty: sha256 of them, whatever that is.
	Digest Digest

	Tags  []string // to point to it
	Bytes []byte   // at most MaxManifest; shared from now on and never changed
}

// Pushed is a manifest that has been pushed.
type Pushed struct {
	Digest  Digest
	Subject Digest // what it refers to; "" for most
}

// Uploader takes blobs in, in any number of pieces. What it has taken survives
// an orderly restart; after a crash an upload may be unknown, and is begun again.
type Uploader interface {
	// StartUpload begins an upload, which belongs to the repository and its owner: a
	// principal's name, "" for an anonymous one. alg is what the blob's digest will most likely
	// be of; another costs reading it again.
	StartUpload(ctx context.Context, repo Repo, owner string, alg digest.Algorithm) (Upload, error)

	// Upload finds one that was begun, or is BlobUploadUnknown: also for another repository
	// or owner than it was begun for (FAULTS B11).
	Upload(ctx context.Context, repo Repo, owner, id string) (Upload, error)
}

// Upload is a blob on its way in. Of calls at the same time one goes on and the others are
// Conflict. After Commit or Cancel it is BlobUploadUnknown to everybody.
type Upload interface {
	// ID names the upload in a URL: letters, digits and dashes.
	ID() string

	// Size is how many bytes have been taken.
	Size() int64

	// Append takes all that r has. at is where the client believes to be, or -1 for anywhere;
	// RangeInvalid when the upload is elsewhere, and then nothing is read. TooLarge and Full
	// end it before r does. What was read before an error stays taken, and the client may go on
	// from Size.
	Append(ctx context.Context, at int64, r io.Reader) error

	// Commit makes what was taken a blob of the repository, if it is all of d: DigestInvalid if
	// not. Then, and after any other error, the upload stays as it was.
	Commit(ctx context.Context, d Digest) error

	// Cancel throws away what was taken.
	Cancel(ctx context.Context) error
}
