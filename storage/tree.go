package storage

import (
	"context"
	"os"
)

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

	// put puts files at their names, one after the other, replacing what is there. When it
	// returns nil they are there whole and for good; after an error each is, or is as it was
	// before. Afterwards a src may be gone.
	put(ctx context.Context, items ...*item) error

	// move moves a file, for good when it returns nil, unless seen is set and is not what lies
	// at from any more: then it reports false. A missing file is ErrNotFound.
	move(ctx context.Context, from, to string, seen Content) (bool, error)

	// remove removes a directory and everything in it. That it is missing is fine. Only when
	// lasting is set does it stay away after a power cut.
	remove(ctx context.Context, dir string, lasting bool) error

	// untag removes the directory of a tag, for good, unless keep says that it is to stay. On
	// this machine nothing comes into the directory between the two.
	untag(ctx context.Context, dir string, keep func() (bool, error)) error

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

// item is a file that is to be at a name: one of this machine, or a small one by its bytes.
type item struct {
	name string
	src  *os.File // what is written to it need not be synced yet, nor its name be the one it had; nil: b
	b    []byte
	link bool // that the same bytes are at the name already is as good

	synced bool // put has brought src to the disk, so that it can be tried again
}
