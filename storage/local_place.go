package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// place is the second half of a commit; the first is the sync of src. Then: make the directory,
// rename, sync the directory, sync every directory above that has got a new entry. Until the
// last of these a power cut may take the name away again, so nothing is acknowledged before;
// at no time does the name stand for anything but whole content.
func (l *local) place(ctx context.Context, src, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.enter(name, l.entry(path.Dir(name)).RLocker(), func(dir *os.File, base string) error {
		return unix.Renameat(unix.AT_FDCWD, src, int(dir.Fd()), base)
	})
}

func (l *local) move(ctx context.Context, from, to string, seen Content) (moved bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	source, err := l.openDir(path.Dir(from))
	if err != nil {
		return false, missing(err)
	}
	defer source.Close()
	// Interleaving without the lock: a scrub reads damaged content; a commit renames whole
	// content over it; the scrub moves the whole content away.
	err = l.enter(to, l.entry(path.Dir(from)), func(dir *os.File, base string) error {
		if seen.ReadSeekCloser != nil && !l.still(seen, source, path.Base(from)) {
			moved = false
			return nil
		}
		moved = true
		return unix.Renameat(int(source.Fd()), path.Base(from), int(dir.Fd()), base)
	})
	if err != nil || !moved {
		return false, missing(err)
	}
	if err := l.disk.syncDir(source); err != nil {
		return false, full(err)
	}
	return true, nil
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

// enter makes the directory of name and has rename put something there, holding lock, and then
// syncs what changed.
func (l *local) enter(name string, lock sync.Locker, rename func(dir *os.File, base string) error) error {
	// Nobody in this process takes the directory away in between, but an operator may.
	for try := 1; ; try++ {
		err := l.enterOnce(name, lock, rename)
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return full(err)
		}
		l.mu.Lock()
		clear(l.settled)
		l.mu.Unlock()
	}
}

func (l *local) enterOnce(name string, lock sync.Locker, rename func(dir *os.File, base string) error) error {
	dir, unsettled, err := l.renameInto(name, lock, rename)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := l.disk.syncDir(dir); err != nil {
		return err
	}
	return l.settle(unsettled)
}

func (l *local) renameInto(name string, lock sync.Locker, rename func(dir *os.File, base string) error) (dir *os.File, unsettled []string, err error) {
	lock.Lock()
	defer lock.Unlock()
	if unsettled, err = l.makeDirs(path.Dir(name)); err != nil {
		return nil, nil, err
	}
	if dir, err = l.openDir(path.Dir(name)); err != nil {
		return nil, nil, err
	}
	err = l.disk.call("rename", name, func() error { return rename(dir, path.Base(name)) })
	if err != nil {
		dir.Close()
		return nil, nil, fmt.Errorf("rename to %s: %w", name, err)
	}
	return dir, unsettled, nil
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

// settle brings the entries of directories to the disk, by syncing the directory each is in.
func (l *local) settle(dirs []string) error {
	for _, dir := range dirs {
		parent, err := l.openDir(path.Dir(dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed again since
		}
		if err != nil {
			return err
		}
		err = l.disk.syncDir(parent)
		parent.Close()
		if err != nil {
			return err
		}
		if !lasting(dir) {
			continue
		}
		l.mu.Lock()
		if len(l.settled) >= mostSettled {
			clear(l.settled)
		}
		l.settled[dir] = true
		l.mu.Unlock()
	}
	return nil
}
