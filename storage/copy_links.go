package storage

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// link is a link file.
type link struct {
	name string
	// digest is what the link has to say, by its name; "" for the link of a tag, which says what the
	// tag points to now.
	digest digest.Digest
}

// Links copies the links that the bucket has not, and those of all tags. copied is called for each
// that is there now, and left with what is no link, for people. Both are called by several
// goroutines.
func (c *Copy) Links(ctx context.Context, copied func(), left func(problem string)) error {
	err := concurrently(ctx, 2*copiers, func(ctx context.Context, todo chan<- link) error {
		return c.from.eachLink(ctx, func(l link) error {
			// The link of a tag is as long whatever it says.
			if have, ok := c.met(l.name); ok && have == int64(len(l.digest)) {
				copied()
				return nil
			}
			return hand(ctx, todo, l)
		})
	}, func(ctx context.Context, l link) error { return c.link(ctx, l, copied, left) })
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

func (c *Copy) link(ctx context.Context, l link, copied func(), left func(string)) error {
	d, err := c.from.readLink(ctx, l.name)
	if err == nil && l.digest != "" && d != l.digest {
		err = fmt.Errorf("its link says %s: %w", d, errNoLink)
	}
	switch {
	case errors.Is(err, errNoLink):
		left(fmt.Sprintf("%s: %v", path.Dir(l.name), err))
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", l.name, err)
	}
	if err := c.persist(ctx, func() error { return c.to.driver.PutContent(ctx, "/"+l.name, []byte(d)) }); err != nil {
		return fmt.Errorf("store %s: %w", l.name, err)
	}
	copied()
	return nil
}

// eachLink calls fn with every link of every repository, the history of tags among them, until fn
// fails. Those of a tag come history first, as they are written. What does not belong into the layout
// is left out; a directory that cannot be read is an error.
func (s *Store) eachLink(ctx context.Context, fn func(link) error) error {
	return s.linksBelow(ctx, reposDir, "", fn)
}

func (s *Store) linksBelow(ctx context.Context, dir, prefix string, fn func(link) error) error {
	return s.present(ctx, dir, func(child string) error {
		name := dir + "/" + child
		switch {
		case child == "_layers":
			return s.digestLinks(ctx, name, fn)
		case child == "_manifests":
			if err := s.digestLinks(ctx, name+"/revisions", fn); err != nil {
				return err
			}
			return s.tagLinks(ctx, name+"/tags", fn)
		case checkRepo(prefix+child) != nil: // also what else begins with "_"
			return nil
		}
		return s.linksBelow(ctx, name, prefix+child+"/", fn)
	})
}

// digestLinks are those in <dir>/<algorithm>/<hex>/link.
func (s *Store) digestLinks(ctx context.Context, dir string, fn func(link) error) error {
	for _, alg := range algorithms {
		err := s.present(ctx, dir+"/"+alg.String(), func(hex string) error {
			d := digest.Digest(alg.String() + ":" + hex)
			if _, _, err := split(d); err != nil {
				return nil
			}
			return fn(link{linkDir(dir, d) + "/link", d})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) tagLinks(ctx context.Context, dir string, fn func(link) error) error {
	return s.present(ctx, dir, func(tag string) error {
		if checkTag(tag) != nil {
			return nil
		}
		if err := s.digestLinks(ctx, dir+"/"+tag+"/index", fn); err != nil {
			return err
		}
		return fn(link{name: dir + "/" + tag + "/current/link"})
	})
}

// present lists a directory, if there is one. A file where a directory should be has nothing in it.
func (s *Store) present(ctx context.Context, dir string, fn func(name string) error) error {
	err := s.tree.list(ctx, dir, fn)
	u, ok := errors.AsType[*unreadable](err)
	if ok && u.dir == dir && (errors.Is(err, ErrNotFound) || errors.Is(err, unix.ENOTDIR)) {
		return nil
	}
	return err
}
