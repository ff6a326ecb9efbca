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
	if err := s.putLink(ctx, linkDir(dir(repo), d), d); err != nil {
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
	dir := tagsDir(repo) + "/" + tag
	// The history first: a tag that is nowhere in its own history surprises the stock
	// registry's garbage collector, a history ahead of its tag does not.
	if err := s.putLink(ctx, linkDir(dir+"/index", d), d); err != nil {
		return fmt.Errorf("tag %s:%s: %w", repo, tag, err)
	}
	if err := s.putLink(ctx, dir+"/current", d); err != nil {
		return fmt.Errorf("tag %s:%s: %w", repo, tag, err)
	}
	return nil
}

// Untag removes a tag and its history. That it is missing is fine.
func (s *Store) Untag(ctx context.Context, repo, tag string) error {
	if err := errors.Join(checkRepo(repo), checkTag(tag)); err != nil {
		return err
	}
	dir := tagsDir(repo) + "/" + tag
	// The link goes first, so that a removal cut short leaves no tag that still answers.
	err := s.tree.remove(ctx, dir+"/current", false)
	if err == nil {
		err = s.tree.remove(ctx, dir, true)
	}
	if err != nil {
		return fmt.Errorf("untag %s:%s: %w", repo, tag, err)
	}
	return nil
}

// UntagFrom is Untag for a tag that points to d, and does nothing to one that has been moved.
func (s *Store) UntagFrom(ctx context.Context, repo, tag string, d digest.Digest) error {
	if err := errors.Join(check(repo, d), checkTag(tag)); err != nil {
		return err
	}
	now, err := s.readLink(ctx, tagsDir(repo)+"/"+tag+"/current/link")
	if err == nil && now != d {
		return nil
	}
	return s.Untag(ctx, repo, tag)
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

func (s *Store) putLink(ctx context.Context, dir string, d digest.Digest) error {
	return s.tree.put(ctx, dir+"/link", []byte(d))
}

func check(repo string, d digest.Digest) error {
	_, _, err := split(d)
	return errors.Join(checkRepo(repo), err)
}
