package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// A link is a small file that holds a digest. With the links the stock registry can serve the
// repository, and the catalog can be rebuilt. All of them survive a power cut when the call
// returns nil, and making one again changes nothing. repo is the full name,
// "docker.io/library/busybox".

// LinkBlob makes a blob a repository's.
func (s *Store) LinkBlob(ctx context.Context, repo string, d digest.Digest) error {
	return s.link(ctx, repo, d, layersDir)
}

// LinkManifest makes a manifest a repository's.
func (s *Store) LinkManifest(ctx context.Context, repo string, d digest.Digest) error {
	return s.link(ctx, repo, d, revisionsDir)
}

func (s *Store) link(ctx context.Context, repo string, d digest.Digest, dir func(repo string) string) error {
	if err := check(repo, d); err != nil {
		return err
	}
	if err := s.tree.put(ctx, linkItem(linkDir(dir(repo), d), d)); err != nil {
		return fmt.Errorf("link %s in %s: %w", d, repo, err)
	}
	return nil
}

// Tag points a tag to a manifest. What it has pointed to before stays in the tag's history, as
// with the stock registry.
func (s *Store) Tag(ctx context.Context, repo, tag string, d digest.Digest) error {
	if err := errors.Join(check(repo, d), checkTag(tag)); err != nil {
		return err
	}
	if err := s.tree.put(ctx, tagItems(repo, tag, d)...); err != nil {
		return fmt.Errorf("tag %s:%s: %w", repo, tag, err)
	}
	return nil
}

// tagItems has the history first: a tag that is nowhere in its own history surprises the stock
// registry's garbage collector, a history ahead of its tag does not.
func tagItems(repo, tag string, d digest.Digest) []*item {
	dir := tagsDir(repo) + "/" + tag
	return []*item{linkItem(linkDir(dir+"/index", d), d), linkItem(dir+"/current", d)}
}

func linkItem(dir string, d digest.Digest) *item {
	return &item{name: dir + "/link", b: []byte(d), link: true}
}

// Untag removes a tag and its history. That it is missing is fine.
func (s *Store) Untag(ctx context.Context, repo, tag string) error {
	return s.untag(ctx, repo, tag, func() (bool, error) { return false, nil })
}

// UntagFrom is Untag for a tag that points to d, and does nothing to one that has been moved. In
// a directory the two are one step; behind a driver a tag that is moved at that moment is lost.
// A tag whose link is damaged points to nothing else.
func (s *Store) UntagFrom(ctx context.Context, repo, tag string, d digest.Digest) error {
	if err := check(repo, d); err != nil {
		return err
	}
	return s.untag(ctx, repo, tag, func() (bool, error) {
		now, err := s.readLink(ctx, tagsDir(repo)+"/"+tag+"/current/link")
		if errors.Is(err, errNoLink) {
			return false, nil
		}
		return now != d, err
	})
}

func (s *Store) untag(ctx context.Context, repo, tag string, keep func() (bool, error)) error {
	if err := errors.Join(checkRepo(repo), checkTag(tag)); err != nil {
		return err
	}
	if err := s.tree.untag(ctx, tagsDir(repo)+"/"+tag, keep); err != nil {
		return fmt.Errorf("untag %s:%s: %w", repo, tag, err)
	}
	return nil
}

// UnlinkTagged takes a digest out of a repository, with those of the given tags that point to it. It
// does as much of that as it can.
func (s *Store) UnlinkTagged(ctx context.Context, repo string, tags []string, d digest.Digest) error {
	var errs []error
	for _, tag := range tags {
		errs = append(errs, s.UntagFrom(ctx, repo, tag, d))
	}
	return errors.Join(append(errs, s.Unlink(ctx, repo, d))...)
}

// Unlink takes a digest out of a repository, as a blob and as a manifest. That it is not in it
// is fine. Tags that point to it stay.
func (s *Store) Unlink(ctx context.Context, repo string, d digest.Digest) error {
	if err := check(repo, d); err != nil {
		return err
	}
	for _, dir := range []string{revisionsDir(repo), layersDir(repo)} {
		if err := s.tree.remove(ctx, linkDir(dir, d), true); err != nil {
			return fmt.Errorf("unlink %s in %s: %w", d, repo, err)
		}
	}
	return nil
}

func check(repo string, d digest.Digest) error {
	_, _, err := split(d)
	return errors.Join(checkRepo(repo), err)
}
