package storage

import (
	"context"
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Hot is a directory of this machine with copies of content that lies behind a driver.
type Hot struct {
	// Dir is made if it is missing, and belongs to one process. Where it is on the file system of
	// the drafts they become copies by a rename. Empty: there are no copies.
	Dir string

	// Size is how many bytes the copies may have together, and Share is the same in percent of
	// their file system, if Size is zero. What would be more than half of it is not copied: it
	// would push out everything else.
	Size  int64
	Share int
}

// hot keeps copies of the content that is asked for in a directory, so that it is served as from a
// directory although it is kept behind a driver. It can be lost at any time and is never asked
// what there is: whoever wants to know that asks the driver.
//
// A copy comes from a draft or a small piece of content that has just been stored, or, the first
// time that somebody reads a piece from its first byte, from the driver, see [fill]. It is compared
// with its digest and synced before it gets its name, and has a seal, see [seal], which is looked at
// each time it is opened. [Store.Tend] reads them all again once a week.
//
// What is wrong with the directory is nobody's trouble but ours: content is then read from the
// driver as if there were no copies.
type hot struct {
	disk   *disk
	dir    string
	most   int64   // bytes that the copies may have together
	little int64   // as the constant of that name says, but in tests
	within *Store  // for drafts among the copies
	remote *remote // where the content is

	life context.Context // of the fills
	end  context.CancelFunc
	work sync.WaitGroup

	slots   chan struct{} // one for each that is being copied
	buffers sync.Pool     // of *[piece]byte
	trouble atomic.Pointer[trouble]
	counts  hotCounts

	mu       sync.Mutex // before that of a fill
	closed   bool
	shelf    shelf
	fills    map[digest.Digest]*fill
	coming   map[digest.Digest]bool // what is copied and nobody reads yet; true: and is not to be kept
	filling  int64                  // bytes that the fills are to bring
	walked   bool                   // all that earlier processes have left is on the shelf
	trimming bool                   // somebody is at it
}

// The directories below that of the copies, beside one for each algorithm.
const fillingDir = "filling"

// mostFills bounds how many pieces are being copied at once, each with a buffer. More are read from
// the driver and not copied.
const mostFills = 64

// newHot starts nothing and looks at nothing, however much there is. That the directory cannot be
// used is no error: it may be, later.
func newHot(c Config, s *Store, r *remote) *hot {
	h := &hot{disk: s.disk, dir: c.Hot.Dir, remote: r, little: little, fills: map[digest.Digest]*fill{}, coming: map[digest.Digest]bool{}, slots: make(chan struct{}, mostFills)}
	h.shelf.start()
	h.buffers.New = func() any { return new([piece]byte) }
	h.life, h.end = context.WithCancel(context.Background())
	h.within = &Store{disk: s.disk, space: s.space}
	h.within.drafts = drafts{disk: s.disk, dir: filepath.Join(h.dir, fillingDir), run: s.drafts.run}
	if err := s.disk.makeDir(h.within.drafts.dir); err != nil {
		h.note(err)
	}
	if together(c.Drafts, h.within.drafts.dir, s.drafts.name()) {
		s.space.yield = h.yield
	} else {
		h.within.space = &space{disk: s.disk, dir: h.within.drafts.dir, floor: c.Floor, statfs: statfs, yield: h.yield}
	}
	if h.most = c.Hot.Size; h.most == 0 {
		_, total, err := h.within.space.free()
		if err != nil {
			h.note(err)
		}
		h.most = total / 100 * int64(c.Hot.Share)
	}
	return h
}

// together reports whether a file can be renamed from one directory into the other. The kernel
// compares their mounts before it looks for the file, so a name that does not exist is enough, on a
// read-only file system too.
func together(a, b, none string) bool {
	return !errors.Is(unix.Rename(filepath.Join(a, none), filepath.Join(b, none)), unix.EXDEV)
}

// close ends what is under way and waits for it.
func (h *hot) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.end()
	h.work.Wait()
}

// path is where the copy of d is. The caller has checked d.
func (h *hot) path(d digest.Digest) string {
	alg, hex := string(d.Algorithm()), d.Encoded()
	return filepath.Join(h.dir, alg, hex[:2], hex)
}

// seal is the time of the last change that a whole copy is given. Whatever writes to the file, and
// whatever leaves it longer or shorter than it was, breaks the seal, at no cost for whoever looks.
// It is long ago, so that a file system which notes reads only when they come after changes does
// not note each.
func seal(d digest.Digest, size int64) time.Time {
	h := fnv.New64a()
	h.Write([]byte(d))
	var b [8]byte
	for i := range b {
		b[i] = byte(size >> (8 * i))
	}
	h.Write(b[:])
	return time.Unix(1+int64(h.Sum64()%(1<<30)), 0)
}

// sealed reports whether a file is the copy of d that was put there, as far as can be told without
// reading it. Some file systems keep whole seconds only.
func sealed(d digest.Digest, info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.ModTime().Unix() == seal(d, info.Size()).Unix()
}

// open opens the copy of d, if there is a good one: a hit is one open and one fstat.
func (h *hot) open(d digest.Digest) (Content, bool) {
	name := h.path(d)
	f, info, err := h.look(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.lost(d)
	case err != nil:
		h.note(err)
	case !sealed(d, info):
		f.Close()
		h.counts.damaged.Add(1)
		h.drop(d)
	default:
		h.counts.hits.Add(1)
		h.used(d, info.Size(), name)
		return Content{ReadSeekCloser: f, Size: info.Size(), hot: h}, true
	}
	h.counts.misses.Add(1)
	return Content{}, false
}

func (h *hot) look(name string) (f *os.File, info fs.FileInfo, err error) {
	err = h.disk.call("open", name, func() (err error) {
		if f, err = os.Open(name); err != nil {
			return err
		}
		if info, err = f.Stat(); err != nil {
			f.Close()
		}
		return err
	})
	return f, info, err
}

// size is how long a good copy is.
func (h *hot) size(d digest.Digest) (int64, bool) {
	info, err := os.Lstat(h.path(d))
	if err != nil || !sealed(d, info) {
		return 0, false
	}
	return info.Size(), true
}

// drop removes the copy of d, and reports whether there was one, and has one that is just being made
// not kept. Who reads it reads on. Interleavings with a fill that ends:
//
//	its name, then drop        the copy is removed here
//	drop, then its name        the fill finds that it is doomed, and removes it
func (h *hot) drop(d digest.Digest) bool {
	h.mu.Lock()
	if f := h.fills[d]; f != nil {
		f.doom()
	}
	if _, coming := h.coming[d]; coming {
		h.coming[d] = true
	}
	there := h.shelf.remove(d)
	h.mu.Unlock()
	err := h.disk.call("remove", h.path(d), func() error { return os.Remove(h.path(d)) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.note(err)
	}
	return there || err == nil
}

// trouble is what was last wrong with the directory.
type trouble struct {
	err error
	at  time.Time
}

// rest is how long nothing is copied after the directory has given trouble: a disk that fails is
// not asked again for each blob, and one that is well again is used soon.
const rest = 10 * time.Second

// note notes that something is wrong with the directory.
func (h *hot) note(err error) {
	h.counts.faults.Add(1)
	h.trouble.Store(&trouble{err, time.Now()})
}

// resting reports whether nothing is to be copied now.
func (h *hot) resting() bool {
	t := h.trouble.Load()
	return t != nil && time.Since(t.at) < rest
}
