package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

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
	return l.enter(name, func(dir *os.File, base string) error {
		l.replacing.RLock()
		defer l.replacing.RUnlock()
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
	err = l.enter(to, func(dir *os.File, base string) (err error) {
		// Interleaving without the lock: a scrub reads damaged content; a commit renames whole
		// content over it; the scrub moves the whole content away.
		l.replacing.Lock()
		defer l.replacing.Unlock()
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
		return false, err
	}
	l.root.Remove(path.Dir(from)) // if it is empty now, for tidiness
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

// enter makes the directory of name, has rename put something there, and syncs what changed.
func (l *local) enter(name string, rename func(dir *os.File, base string) error) error {
	// Somebody may remove a directory between its making and the rename, which Remove does
	// with an empty one. It cannot go on for ever: each time is another digest's removal.
	for try := 1; ; try++ {
		err := l.enterOnce(name, rename)
		if try == 4 || !errors.Is(err, fs.ErrNotExist) {
			return full(err)
		}
		l.mu.Lock()
		clear(l.settled)
		l.mu.Unlock()
	}
}

func (l *local) enterOnce(name string, rename func(dir *os.File, base string) error) error {
	unsettled, err := l.makeDirs(path.Dir(name))
	if err != nil {
		return err
	}
	dir, err := l.openDir(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = l.disk.call("rename", name, func() error { return rename(dir, path.Base(name)) })
	if err != nil {
		return fmt.Errorf("rename to %s: %w", name, err)
	}
	if err := l.disk.syncDir(dir); err != nil {
		return err
	}
	return l.settle(unsettled)
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
