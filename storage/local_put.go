package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// put syncs every file, makes the directories, renames, and syncs each directory that has got
// an entry. Until the last of these a power cut may take a name away again, so nothing is
// acknowledged before; at no time does a name stand for anything but a whole file.
//
// What waits for the disk waits together: the journal of a file system brings to the disk in
// one go what several ask for at the same time, so that five files cost little more than one.
func (l *local) put(ctx context.Context, items ...*item) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := l.putOnce(items, !l.distrust.Load())
	if errors.Is(err, errGone) {
		err = l.putOnce(items, false)
	}
	return full(err)
}

// errGone says that a link was here and is not any more.
var errGone = errors.New("a link has gone away")

// putOnce takes links that are here already for written, if it may trust them.
func (l *local) putOnce(items []*item, trust bool) error {
	var all []*staged
	defer func() {
		for _, s := range all {
			s.close(l.disk)
		}
	}()
	var syncs []func() error
	for _, it := range items {
		s, err := l.stage(it, trust)
		if err != nil {
			return err
		}
		all = append(all, s)
		syncs = append(syncs, func() error { return s.sync(l.disk) })
	}
	if err := l.together(syncs); err != nil {
		return err
	}
	var n news
	defer n.close()
	if err := l.renameAll(all, &n); err != nil {
		return err
	}
	return l.settle(&n)
}

// staged is a file that is about to get its name.
type staged struct {
	*item
	file *os.File
	ours bool // nobody else's, and to be removed if it stays where it is
	here bool // it has the name already
}

func (l *local) stage(it *item, trust bool) (*staged, error) {
	if it.src != nil {
		return &staged{item: it, file: it.src}, nil
	}
	if it.link && trust {
		if f := l.same(it); f != nil {
			return &staged{item: it, file: f, here: true}, nil
		}
	}
	f, err := l.drafts.create()
	if err != nil {
		return nil, err
	}
	s := &staged{item: it, file: f, ours: true}
	if _, err := l.disk.write(f, it.b); err != nil {
		s.close(l.disk)
		return nil, err
	}
	return s, nil
}

// same opens the file that has an item's name, when it has its bytes too. It need not be on
// disk yet: whoever has put it there may be about to sync it.
func (l *local) same(it *item) *os.File {
	c, err := l.open(context.Background(), it.name)
	if err != nil {
		return nil // what is wrong shows when it is written, if anything is
	}
	f, ok := c.ReadSeekCloser.(*os.File)
	if !ok || c.Size != int64(len(it.b)) {
		c.Close()
		return nil
	}
	b := make([]byte, c.Size)
	if _, err := io.ReadFull(f, b); err != nil || !bytes.Equal(b, it.b) {
		c.Close()
		return nil
	}
	return f
}

func (s *staged) sync(k *disk) error {
	err := k.sync(s.file)
	s.synced = err == nil
	return err
}

func (s *staged) close(k *disk) {
	if s.ours {
		k.remove(s.file.Name()) // not there any more when all went well
	}
	if s.src == nil {
		s.file.Close()
	}
}

// together syncs. Once that has failed, nothing is taken to be on disk any more because it can
// be read: the kernel tells of what it has lost once, and then shows it all the same.
func (l *local) together(syncs []func() error) error {
	err := l.disk.together(syncs)
	if err != nil {
		l.distrust.Store(true)
	}
	return err
}

// renameAll gives the files their names, in order. It holds the locks of all of them, so that
// who removes a tag meets the tag and its history or neither.
func (l *local) renameAll(all []*staged, n *news) error {
	var locks []int
	for _, s := range all {
		locks = append(locks, l.entryIndex(path.Dir(s.name)))
	}
	slices.Sort(locks) // in one order for everybody
	for _, i := range slices.Compact(locks) {
		l.entries[i].RLock()
		defer l.entries[i].RUnlock()
	}
	for _, s := range all {
		if !s.here {
			continue
		}
		if _, err := l.stat(context.Background(), s.name); errors.Is(err, ErrNotFound) {
			return errGone
		} else if err != nil {
			return err
		}
	}
	for _, s := range all {
		err := l.enter(s.name, n, func(dir *os.File, base string) error {
			if s.here {
				return nil
			}
			n.last = dir
			return unix.Renameat(unix.AT_FDCWD, s.file.Name(), int(dir.Fd()), base)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// news is what changed in directories and is to be brought to the disk.
type news struct {
	dirs  []*os.File // in which something was renamed
	names []string   // of those
	last  *os.File   // the one of the last rename; nil when there was none
	above []string   // directories of which it is not known that their own entries are on disk
}

func (n *news) close() {
	for _, f := range n.dirs {
		f.Close()
	}
}

// settle brings it all to the disk: each directory once, by syncing it, and the entry of one
// above by syncing the directory that it is in. Where changes reach the disk in order the last
// one is enough: what this put found here, directories and links, was there before.
func (l *local) settle(n *news) error {
	if l.ordered && n.last != nil {
		if err := l.together([]func() error{func() error { return l.disk.syncDir(n.last) }}); err != nil {
			return err
		}
		l.known(n)
		return nil
	}
	var syncs []func() error
	for _, f := range n.dirs {
		syncs = append(syncs, func() error { return l.disk.syncDir(f) })
	}
	for _, dir := range n.above {
		parent := path.Dir(dir)
		if slices.Contains(n.names, parent) {
			continue
		}
		f, err := l.openDir(parent)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed again since
		}
		if err != nil {
			return err
		}
		n.dirs, n.names = append(n.dirs, f), append(n.names, parent)
		syncs = append(syncs, func() error { return l.disk.syncDir(f) })
	}
	if err := l.together(syncs); err != nil {
		return err
	}
	l.known(n)
	return nil
}

// known remembers the directories that last.
func (l *local) known(n *news) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, dir := range n.above {
		if !lasting(dir) {
			continue
		}
		if len(l.settled) >= mostSettled {
			clear(l.settled)
		}
		l.settled[dir] = true
	}
}
