package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Repository is what the links say of one. Only links whose content is stored count; a tag
// counts when the manifest it points to is one of the repository's.
type Repository struct {
	Name      string
	Layers    []digest.Digest // sorted
	Manifests []digest.Digest // sorted
	Tags      map[string]digest.Digest

	// Problems says, for people, what is wrong and was left out. A directory that is no
	// repository but cannot be read, or has no business there, comes with nothing else.
	Problems []string
}

// mostProblems bounds the memory for one repository's problems. Whoever has more does not read
// them one by one.
const mostProblems = 1000

// Repositories calls fn with every repository, one at a time and in no order, until fn fails.
// Files and directories that do not belong are no error: they are a repository's Problems.
func (s *Store) Repositories(ctx context.Context, fn func(Repository) error) error {
	return s.visitRepository(ctx, "", fn)
}

// visitRepository looks at the directory of a name and at those below. A repository may have
// others below it: it is one when it has a directory of the layout's own.
func (s *Store) visitRepository(ctx context.Context, name string, fn func(Repository) error) error {
	dir, prefix := reposDir, ""
	if name != "" {
		dir, prefix = reposDir+"/"+name, name+"/"
	}
	r := reading{store: s, Repository: Repository{Name: name}}
	is := false
	var stop error // fn's, as opposed to the listing's
	err := s.tree.list(ctx, dir, func(child string) error {
		switch {
		case child == "_layers" || child == "_manifests" || child == "_uploads":
			is = is || name != ""
		case strings.HasPrefix(child, "_"):
			// Other tools keep things of their own in such directories.
		case checkRepo(prefix+child) != nil:
			r.problem("%q cannot be a repository", clip(child))
		default:
			stop = s.visitRepository(ctx, prefix+child, fn)
		}
		return stop
	})
	switch {
	case stop != nil:
		return stop
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !errors.Is(err, ErrNotFound):
		r.problem("%v", err)
	}
	if is {
		if err := r.read(ctx); err != nil {
			return err
		}
	}
	if !is && len(r.Problems) == 0 {
		return nil
	}
	return fn(r.done())
}

// reading is a repository that is being read.
type reading struct {
	Repository
	store *Store
	more  int // problems that were not kept
}

func (r *reading) problem(format string, args ...any) {
	if len(r.Problems) >= mostProblems {
		r.more++
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

func (r *reading) done() Repository {
	if r.more > 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("and %d more", r.more))
	}
	return r.Repository
}

func (r *reading) read(ctx context.Context) error {
	var err error
	if r.Layers, err = r.links(ctx, "layer", layersDir(r.Name)); err != nil {
		return err
	}
	if r.Manifests, err = r.links(ctx, "manifest", revisionsDir(r.Name)); err != nil {
		return err
	}
	r.Tags = map[string]digest.Digest{}
	return r.each(ctx, tagsDir(r.Name), func(tag string) error {
		if err := checkTag(tag); err != nil {
			r.problem("%v", err)
			return nil
		}
		d, err := r.store.readLink(ctx, tagsDir(r.Name)+"/"+tag+"/current/link")
		if err != nil {
			r.problem("tag %s: %v", tag, err)
			return nil
		}
		if _, ok := slices.BinarySearch(r.Manifests, d); !ok {
			r.problem("tag %s points to %s, which is not a manifest here", tag, d)
			return nil
		}
		r.Tags[tag] = d
		return nil
	})
}

// links reads the links of one kind, <dir>/<algorithm>/<hex>/link.
func (r *reading) links(ctx context.Context, kind, dir string) ([]digest.Digest, error) {
	var all []digest.Digest
	for _, alg := range algorithms {
		err := r.each(ctx, dir+"/"+alg.String(), func(hex string) error {
			d := digest.Digest(alg.String() + ":" + hex)
			if _, _, err := split(d); err != nil {
				r.problem("%s link: %v", kind, err)
				return nil
			}
			if r.linked(ctx, kind, linkDir(dir, d), d) {
				all = append(all, d)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(all)
	return all, nil
}

// linked reports whether a link is in order and leads to something.
func (r *reading) linked(ctx context.Context, kind, dir string, d digest.Digest) bool {
	got, err := r.store.readLink(ctx, dir+"/link")
	if err == nil && got != d {
		err = fmt.Errorf("its link says %s", got)
	}
	if err != nil {
		r.problem("%s %s: %v", kind, d, err)
		return false
	}
	size, err := r.store.Stat(ctx, d)
	switch {
	case errors.Is(err, ErrNotFound):
		r.problem("%s %s is linked and not stored", kind, d)
		return false
	case err != nil:
		// It is linked and something is there; what that is worth shows when it is read.
		r.problem("%s %s: %v", kind, d, err)
	case hollow(d, size):
		r.problem("%s %s is linked and its content is empty", kind, d)
		return false
	}
	return true
}

// each lists a directory of a repository. That it cannot be read is a problem; that it is not
// there is none.
func (r *reading) each(ctx context.Context, dir string, fn func(name string) error) error {
	err := r.store.tree.list(ctx, dir, fn)
	if u, ok := errors.AsType[*unreadable](err); !ok || u.dir != dir {
		return err
	}
	if !errors.Is(err, ErrNotFound) {
		r.problem("%v", err)
	}
	return nil
}

// TaggedAt says when a tag was last pointed to something, by the time of its link: zero where the
// storage does not say.
func (s *Store) TaggedAt(ctx context.Context, repo, tag string) (time.Time, error) {
	if err := errors.Join(checkRepo(repo), checkTag(tag)); err != nil {
		return time.Time{}, err
	}
	c, err := s.tree.open(ctx, tagsDir(repo)+"/"+tag+"/current/link")
	if err != nil {
		return time.Time{}, fmt.Errorf("time of tag %s:%s: %w", repo, tag, err)
	}
	defer c.Close()
	f, ok := c.ReadSeekCloser.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return time.Time{}, nil
	}
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, fmt.Errorf("time of tag %s:%s: %w", repo, tag, err)
	}
	return info.ModTime(), nil
}

// Linked reports whether a repository has a digest by a link of its own, as a blob or as a manifest. It
// does not look at the content.
func (s *Store) Linked(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	if err := check(repo, d); err != nil {
		return false, err
	}
	for _, dir := range []string{layersDir(repo), revisionsDir(repo)} {
		got, err := s.readLink(ctx, linkDir(dir, d)+"/link")
		switch {
		case err == nil && got == d:
			return true, nil
		case err != nil && !errors.Is(err, errNoLink):
			return false, fmt.Errorf("link of %s in %s: %w", d, repo, err)
		}
	}
	return false, nil
}

// Tagged says what a tag points to, or ErrNotFound.
func (s *Store) Tagged(ctx context.Context, repo, tag string) (digest.Digest, error) {
	if err := errors.Join(checkRepo(repo), checkTag(tag)); err != nil {
		return "", err
	}
	d, err := s.readLink(ctx, tagsDir(repo)+"/"+tag+"/current/link")
	if errors.Is(err, errNoLink) {
		err = ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("tag %s:%s: %w", repo, tag, err)
	}
	return d, nil
}

// errNoLink says that a link is missing or is none, as opposed to one that cannot be read.
var errNoLink = errors.New("no link")

func (s *Store) readLink(ctx context.Context, name string) (digest.Digest, error) {
	c, err := s.tree.open(ctx, name)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		return "", fmt.Errorf("it has %w", errNoLink)
	}
	if err != nil {
		return "", err
	}
	defer c.Close()
	// A link is at most 135 bytes. What is longer is none, and need not be read to know that.
	if c.Size > 256 {
		return "", fmt.Errorf("its link is %d bytes long: %w", c.Size, errNoLink)
	}
	b, err := io.ReadAll(io.LimitReader(c, 256))
	if err != nil {
		return "", err
	}
	d, err := parseLink(b)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoLink, err)
	}
	return d, nil
}
