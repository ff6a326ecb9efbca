package main

import (
	"context"
	"fmt"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/hosted"
	"roadstead/storage/catalog"
)

// switchboard is one registry out of two: each question goes to the room that has the project.
// What that returns is handed out as it is: a file in a wrapper would no longer be sent by the
// kernel.
type switchboard struct {
	hosted  *hosted.Registry
	cache   *cache.Cache
	catalog *catalog.DB
	known   func(project string) bool // what is served, of either kind
}

// room is what a registry of either kind can answer.
type room interface {
	registry.Reader
	StatBlob(context.Context, registry.Repo, registry.Digest) (registry.Descriptor, error)
	Doubt(registry.Repo, registry.Digest, error)
}

// room never gives a hosted project to the cache, so that what is not there is not looked for at
// an upstream (FAULTS A11).
func (s switchboard) room(repo registry.Repo) room {
	if s.hosted.Has(repo.Project) {
		return s.hosted
	}
	return s.cache
}

// Resolve is that of the room.
func (s switchboard) Resolve(ctx context.Context, repo registry.Repo, tag string) (registry.Descriptor, error) {
	return s.room(repo).Resolve(ctx, repo, tag)
}

// Manifest is that of the room.
func (s switchboard) Manifest(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	return s.room(repo).Manifest(ctx, repo, d)
}

// Blob is that of the room.
func (s switchboard) Blob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	return s.room(repo).Blob(ctx, repo, d)
}

// Tags is that of the room.
func (s switchboard) Tags(ctx context.Context, repo registry.Repo, after string, n int) ([]string, error) {
	return s.room(repo).Tags(ctx, repo, after, n)
}

// Referrers is that of the room.
func (s switchboard) Referrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	return s.room(repo).Referrers(ctx, repo, d, artifactType)
}

// StatBlob is that of the room.
func (s switchboard) StatBlob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Descriptor, error) {
	return s.room(repo).StatBlob(ctx, repo, d)
}

// Doubt tells the room that a blob of it could not be read to its end.
func (s switchboard) Doubt(repo registry.Repo, d registry.Digest, err error) {
	s.room(repo).Doubt(repo, d, err)
}

// Repositories lists at most n full names of repositories of either kind that sort after the name
// "after". Of proxies it lists what is here, not what upstream has: no registry of that size can
// be listed. What is left of projects that are not served any more is not listed.
func (s switchboard) Repositories(ctx context.Context, after string, n int) ([]string, error) {
	if n < 0 || n > registry.MaxPage {
		n = registry.MaxPage
	}
	var served []string
	for len(served) < n {
		want := n - len(served)
		names, err := s.catalog.Repositories(ctx, after, want)
		if err != nil {
			return nil, fmt.Errorf("list repositories: %w", err)
		}
		for _, name := range names {
			after = name
			if s.known(registry.SplitRepo(name).Project) {
				served = append(served, name)
			}
		}
		if len(names) < want {
			break
		}
	}
	return served, nil
}
