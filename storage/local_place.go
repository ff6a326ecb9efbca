package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

func (l *local) move(ctx context.Context, from, to string, seen Content) (moved bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	source, err := l.openDir(path.Dir(from))
	if err != nil {
		return false, missing(err)
	}
	defer source.Close()
	var n news
	defer n.close()
	if moved, err = l.moveOnce(source, from, to, seen, &n); err != nil {
		return false, full(missing(err))
	}
	if err := l.settle(&n); err != nil || !moved {
		return false, full(err)
	}
	if err := l.disk.syncDir(source); err != nil {
		return false, full(err)
	}
	return true, nil
}

// moveOnce looks and moves in one step. Interleaving without the lock: a scrub reads damaged
// content; a commit renames whole content over it; the scrub moves the whole content away.
func (l *local) moveOnce(source *os.File, from, to string, seen Content, n *news) (moved bool, err error) {
	entry := l.entry(path.Dir(from))
	entry.Lock()
	defer entry.Unlock()
	err = l.enter(to, n, func(dir *os.File, base string) error {
		moved = seen.ReadSeekCloser == nil || l.still(seen, source, path.Base(from))
		if !moved {
			return nil
		}
		n.last = dir
		return unix.Renameat(int(source.Fd()), path.Base(from), int(dir.Fd()), base)
	})
	return moved, err
}

func (l *local) still(seen Content, dir *os.File, base string) bool {
	f, ok := seen.ReadSeekCloser.(*os.File)
	if !ok {
		return false
	}
	var was, is unix.Stat_t
	if unix.Fstat(int(f.Fd()), &was) != nil || unix.Fstatat(int(dir.Fd()), base, &is, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return was.Dev == is.Dev && was.Ino == is.Ino
}

// enter makes the directory of a name and has rename put something there, which is news. The
// caller holds the lock of what is renamed.
func (l *local) enter(name string, n *news, rename func(dir *os.File, base string) error) error {
	// Nobody in this process takes the directory away in between, but an operator may.
	for try := 1; ; try++ {
		err := l.enterOnce(name, n, rename)
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		l.mu.Lock()
		clear(l.settled)
		l.mu.Unlock()
	}
}

func (l *local) enterOnce(name string, n *news, rename func(dir *os.File, base string) error) error {
	unsettled, err := l.makeDirs(path.Dir(name))
	if err != nil {
		return err
	}
	dir, err := l.openDir(path.Dir(name))
	if err != nil {
		return err
	}
	err = l.disk.call("rename", name, func() error { return rename(dir, path.Base(name)) })
	if err != nil {
		dir.Close()
		return fmt.Errorf("rename to %s: %w", name, err)
	}
	n.dirs, n.names = append(n.dirs, dir), append(n.names, path.Dir(name))
	for _, part := range unsettled {
		if !slices.Contains(n.above, part) {
			n.above = append(n.above, part)
		}
	}
	return nil
}

// makeDirs makes dir and what is missing above, and returns those of which it is not known
// that they are on disk. One that exists is among them: whoever made it may not have synced
// it yet.
func (l *local) makeDirs(dir string) (unsettled []string, err error) {
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		part := dir[:i]
		l.mu.Lock()
		known := l.settled[part]
		l.mu.Unlock()
		if known {
			continue
		}
		err := l.disk.call("mkdir", part, func() error { return l.root.Mkdir(part, 0o777) })
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		unsettled = append(unsettled, part)
	}
	return unsettled, nil
}
