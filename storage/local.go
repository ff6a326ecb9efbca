package storage

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// local is a tree in a directory. Names are followed below that directory only, whatever
// symbolic links somebody may have put into it.
type local struct {
	disk   *disk
	drafts *drafts
	root   *os.Root
	top    *os.File // the same directory, for calls that want a descriptor

	// entries guard what comes and goes together: the directory of one piece of content, link
	// or tag. Each is held shared by those who make the directory and rename something into it,
	// and alone by those who remove it or look whether what they saw is still there. Doing that
	// under a lock is against the rule; the alternative is to try again, which loses under load.
	// No sync is among it. Of several the one of the lower index is first.
	entries [64]sync.RWMutex
	seed    maphash.Seed

	ordered  bool        // see inOrder
	distrust atomic.Bool // a sync has failed

	mu sync.Mutex
	// settled has directories whose own entry is known to be on disk, so that not every commit
	// has to sync the whole way up. Only lasting ones are in it.
	settled map[string]bool
}

// mostSettled bounds the memory for settled. All of blobs is 515 directories; with more
// repositories than fit, some are synced once more, which costs a little and harms nothing.
const mostSettled = 8192

func openLocal(dir string, k *disk, d *drafts) (*local, error) {
	if err := k.makeDir(dir); err != nil {
		return nil, fmt.Errorf("storage directory: %w", err)
	}
	if !together(d.dir, dir, d.name()) {
		return nil, fmt.Errorf("the directory for drafts %s is on another file system than %s, so that nothing could be renamed into place", d.dir, dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("storage directory: %w", err)
	}
	top, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("storage directory: %w", err)
	}
	return &local{disk: k, drafts: d, root: root, top: top, seed: maphash.MakeSeed(), ordered: inOrder(dir), settled: map[string]bool{}}, nil
}

func (l *local) Close() error {
	return errors.Join(l.top.Close(), l.root.Close())
}

// open is a hit's whole way through this package: it must stay one open and one fstat.
func (l *local) open(_ context.Context, name string) (c Content, err error) {
	if l.disk.seam == nil {
		c, err = l.openFile(name)
	} else {
		err = l.disk.seam("open", name, func() (err error) {
			c, err = l.openFile(name)
			return err
		})
	}
	return c, missing(err)
}

func (l *local) stat(_ context.Context, name string) (size int64, err error) {
	err = l.disk.call("stat", name, func() (err error) {
		size, err = l.statFile(name)
		return err
	})
	return size, missing(err)
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return err
}

func (l *local) remove(_ context.Context, dir string, lasting bool) error {
	return l.takeAway(dir, lasting, func() error { return l.root.RemoveAll(dir) })
}

func (l *local) untag(_ context.Context, dir string, keep func() (bool, error)) error {
	return l.takeAway(dir, true, func() error {
		if kept, err := keep(); kept || err != nil {
			return err
		}
		// The link goes first, so that a removal cut short leaves no tag that still answers.
		if err := l.root.RemoveAll(dir + "/current"); err != nil {
			return err
		}
		return l.root.RemoveAll(dir)
	})
}

// takeAway has remove remove a directory while nothing comes into it.
func (l *local) takeAway(dir string, lasting bool, remove func() error) error {
	err := l.disk.call("remove", dir, func() error {
		entry := l.entry(dir)
		entry.Lock()
		defer entry.Unlock()
		return remove()
	})
	if err != nil || !lasting {
		return full(err) // some file systems need room to forget
	}
	parent, err := l.openDir(path.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	return full(l.disk.syncDir(parent))
}

func (l *local) entry(dir string) *sync.RWMutex { return &l.entries[l.entryIndex(dir)] }

func (l *local) entryIndex(dir string) int {
	return int(maphash.String(l.seed, entryOf(dir)) % uint64(len(l.entries)))
}

// unreadable is list's own trouble with a directory, as opposed to its caller's.
type unreadable struct {
	dir string
	err error
}

func (u *unreadable) Error() string { return "list " + u.dir + ": " + u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }

// list reads a piece of the directory at a time: one of a million entries takes no more memory
// than one of a thousand.
func (l *local) list(ctx context.Context, dir string, fn func(name string) error) error {
	f, err := l.openDir(dir)
	if err != nil {
		return &unreadable{dir, missing(err)}
	}
	defer f.Close()
	for {
		var names []string
		err := l.disk.call("list", dir, func() (err error) {
			names, err = f.Readdirnames(1024)
			return err
		})
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &unreadable{dir, err}
		}
	}
}

func (l *local) openDir(dir string) (f *os.File, err error) {
	err = l.disk.call("open directory", dir, func() (err error) {
		f, err = l.root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
		return err
	})
	return f, err
}

func (l *local) content(ctx context.Context, fn visit) error {
	for _, alg := range algorithms {
		dir := blobsDir + "/" + alg.String()
		err := l.each(ctx, dir, fn, func(shard string) error {
			if !isHex(shard, 2) {
				return nil
			}
			dir := dir + "/" + shard
			return l.each(ctx, dir, fn, func(hex string) error {
				name := dir + "/" + hex + "/data"
				d, ok := parseBlobPath(name)
				if !ok {
					return nil
				}
				size, err := l.stat(ctx, name)
				if errors.Is(err, ErrNotFound) {
					return nil
				}
				return fn(d, size, err)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each lists a directory and tells fn when that cannot be done.
func (l *local) each(ctx context.Context, dir string, fn visit, entry func(name string) error) error {
	err := l.list(ctx, dir, entry)
	if u, ok := errors.AsType[*unreadable](err); !ok || u.dir != dir {
		return err
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return fn("", 0, err)
}

// sweep has nothing to do: what is unfinished lies with the drafts.
func (l *local) sweep(context.Context) error { return nil }
