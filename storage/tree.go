package storage

import "context"

// tree is where the layout lies. Two things are one: a directory of this machine ([local]), and
// whatever a storage driver reaches ([remote]). It has more methods than an interface of the
// house should; each is one thing that the two do in different ways.
//
// Names are slash-separated paths without a leading slash, built by layout.go from checked
// parts. All methods may be called concurrently.
type tree interface {
	// open opens a file: ErrNotFound when there is none, ErrDamaged when it is no file. ctx
	// bounds the life of what is returned.
	open(ctx context.Context, name string) (Content, error)

	// stat says how long a file is, with open's errors.
	stat(ctx context.Context, name string) (int64, error)

	// put writes a small file. It is there whole and for good, or as it was before.
	put(ctx context.Context, name string, b []byte) error

	// place puts the local file src, whose bytes are on disk, at name, replacing what is there,
	// for good when it returns nil. Afterwards src may be gone; what failed is not to be tried
	// again with the same src.
	place(ctx context.Context, src, name string) error

	// move moves a file, for good when it returns nil, unless seen is set and is not what lies
	// at from any more: then it reports false. A missing file is ErrNotFound.
	move(ctx context.Context, from, to string, seen Content) (bool, error)

	// remove removes a directory and everything in it. That it is missing is fine. Only when
	// lasting is set does it stay away after a power cut.
	remove(ctx context.Context, dir string, lasting bool) error

	// list calls fn with each name in a directory, in no order, until fn fails, and returns
	// that error. A missing directory is ErrNotFound.
	list(ctx context.Context, dir string, fn func(name string) error) error

	// content calls fn with the digest and size of everything in the layout's blobs, or with
	// what kept it from looking. It stops when fn fails.
	content(ctx context.Context, fn visit) error

	// sweep removes what unfinished calls of earlier processes have left in the tree.
	sweep(ctx context.Context) error

	Close() error
}
