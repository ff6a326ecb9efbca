// Package storage keeps content by its digest, in the layout that the distribution registry
// and Harbor use, in a directory or behind any of distribution's storage drivers. New content
// comes in through a [Draft], which can be read while it grows and is invisible until it is
// verified and committed.
//
// What is visible is whole, and what was acknowledged survives a crash and a power cut. Bytes
// are checked where they enter ([Draft.Verify], [Store.Put]); everything behind may trust them,
// and [Store.Scrub] finds those that have rotted since.
//
// Nothing here knows of requests, manifests, upstreams or who may read what.
package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"roadstead/storage/witness"
)

// What can be wrong with content. All other errors are trouble of the disk or the driver, and
// none of them says that content does not exist.
var (
	ErrNotFound = errors.New("no such content")
	ErrDamaged  = errors.New("content is damaged")
	ErrFull     = errors.New("storage is full")
	ErrMismatch = errors.New("content does not match its digest")
)

// Config says where content lives.
type Config struct {
	// Driver reaches the content, which lies below docker/registry/v2. It is not used, and may
	// be nil, when Root is set. What it can do beyond the interface is made use of, as the driver of
	// storage/s3 has it: OpenRange, StatFile, PutAt, Copy and Sweep, Presign for Locate, and
	// Patient for work that nobody waits for.
	Driver storagedriver.StorageDriver

	// Root is the directory of a filesystem driver. With it content is opened as bare *os.File
	// and drafts are renamed into place, which no driver can do. Empty for other drivers.
	Root string

	// Drafts is the directory for drafts. With Root it has to be on the same file system, and
	// empty means Root/drafts. Without Root it has to be set.
	Drafts string

	// Floor is how many bytes drafts leave free on their file system. Zero means 1 GiB or 5 %
	// of the file system, whichever is smaller; negative means none.
	Floor int64

	// Hot is where copies of what is used lie. With Root, where nothing would be gained, there are
	// none.
	Hot Hot

	// Scrubbers is how many pieces of content Scrub reads at once. Zero means 1.
	Scrubbers int
}

// Store is content by digest. All methods may be called concurrently.
type Store struct {
	Traffic Traffic // of the content, for whoever brings it or takes it away

	// Apart, where other processes store content in the same place, calls do, which takes away what is
	// there of d, and returns its error. Whoever of them stores d and has not written that down before
	// do begins stores it once more when do has returned. The ctx of do ends within seconds. nil: there
	// are no others. It is set before the Store is used.
	Apart func(ctx context.Context, d digest.Digest, do func(context.Context) error) error

	tree      tree
	disk      *disk
	space     *space
	hot       *hot // nil: there are no copies
	drafts    drafts
	scrubbers int
}

// New opens a store. A directory that is missing is made; one that cannot be written to is no
// error as long as it is there, so that what is cached can be served.
func New(c Config) (*Store, error) {
	if c.Root == "" && c.Driver == nil {
		return nil, errors.New("storage: neither a directory nor a driver")
	}
	if c.Drafts == "" && c.Root == "" {
		return nil, errors.New("storage: a directory for drafts is needed with this driver")
	}
	if c.Drafts == "" {
		c.Drafts = filepath.Join(c.Root, draftsDir)
	}
	s := &Store{disk: &disk{}, scrubbers: max(c.Scrubbers, 1)}
	s.drafts = drafts{disk: s.disk, dir: c.Drafts, run: strings.ToLower(rand.Text()[:10])}
	s.space = &space{disk: s.disk, dir: c.Drafts, floor: c.Floor, statfs: statfs}
	if err := s.disk.makeDir(c.Drafts); err != nil {
		return nil, fmt.Errorf("directory for drafts: %w", err)
	}
	if c.Root == "" {
		r := &remote{driver: c.Driver, disk: s.disk, drafts: &s.drafts}
		s.tree = r
		if c.Hot.Dir != "" && (c.Hot.Size > 0 || c.Hot.Share > 0) {
			s.hot = newHot(c, s, r)
		}
		return s, nil
	}
	l, err := openLocal(c.Root, s.disk, &s.drafts)
	if err != nil {
		return nil, err
	}
	if s.disk.witness, err = witness.New(c.Root); err != nil {
		l.Close()
		return nil, err
	}
	s.tree = l
	return s, nil
}

// Close lets go of the directory. Content and drafts that are open stay usable.
func (s *Store) Close() error {
	if s.hot != nil {
		s.hot.close()
	}
	return errors.Join(s.tree.Close(), s.disk.witness.Close())
}

// Free says how many bytes an unprivileged process can still write on the file system of the
// drafts, and how large that is. What drafts have reserved is not subtracted.
func (s *Store) Free() (free, total int64, err error) { return s.space.free() }

// Floor says how many bytes of a file system of that size are kept free.
func (s *Store) Floor(total int64) int64 { return s.space.keep(total) }

// Together reports whether drafts and content share a file system, so that removing content makes
// room for drafts.
func (s *Store) Together() bool {
	_, here := s.tree.(*local)
	return here
}

// Lack says how many bytes of content have to go until a draft of n bytes has room; zero when it
// has. Where they are not Together it is always zero.
func (s *Store) Lack(n int64) (int64, error) {
	if !s.Together() {
		return 0, nil
	}
	return s.space.lack(n)
}

// SweepDrafts removes what drafts of earlier processes have left. Call it only when the directory is
// locked: another process's drafts look the same.
func (s *Store) SweepDrafts(ctx context.Context) error {
	if s.hot != nil {
		s.hot.within.drafts.sweep(ctx) // what is wrong there is noted when it is used
	}
	return s.drafts.sweep(ctx)
}

// Tidy removes what uploads to a bucket have left that nobody has gone on with for a day, be it
// another process that began them. It may be called at any time.
func (s *Store) Tidy(ctx context.Context) error {
	if err := s.tree.sweep(ctx); err != nil {
		return fmt.Errorf("sweep unfinished uploads: %w", err)
	}
	return nil
}

// drafts is the directory where files lie until they are renamed into place.
type drafts struct {
	disk *disk
	dir  string
	run  string // of this process alone, so that a sweep spares its own drafts
	last atomic.Int64
}

const draftPrefix = "draft-"

func (d *drafts) name() string {
	return fmt.Sprintf("%s%s-%d", draftPrefix, d.run, d.last.Add(1))
}

func (d *drafts) own(name string) bool {
	return strings.HasPrefix(name, draftPrefix+d.run+"-")
}

func (d *drafts) create() (f *os.File, err error) {
	name := filepath.Join(d.dir, d.name())
	err = d.disk.inDir(d.dir, func() (err error) {
		f, err = d.disk.create(name)
		return err
	})
	return f, err
}

func (d *drafts) sweep(ctx context.Context) error {
	entries, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sweep drafts: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !strings.HasPrefix(e.Name(), draftPrefix) || d.own(e.Name()) || e.IsDir() {
			continue
		}
		if err := d.disk.remove(filepath.Join(d.dir, e.Name())); err != nil {
			errs = append(errs, fmt.Errorf("sweep drafts: %w", err))
		}
	}
	return errors.Join(errs...)
}

// full turns the ways in which a disk says that there is no room into ErrFull.
func full(err error) error {
	if !errors.Is(err, ErrFull) && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
