package estate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
)

// mayIn is may for what is in a repository.
func (e *Estate) mayIn(p registry.Principal, action registry.Action, kind registry.Kind, repo registry.Repo) error {
	if repo.Name == "" || registry.CheckName(repo.String()) != nil {
		return unknown("repository.none", "%q is no repository", registry.Clip(repo.String()))
	}
	return e.access.Authorize(p, action, registry.Resource{Kind: kind, Repo: repo})
}

// Warm brings an image here before anybody pulls it, for some platforms ("linux/amd64") or, with
// none, for all.
func (e *Estate) Warm(ctx context.Context, p registry.Principal, repo registry.Repo, reference string, platforms []string) (Job, error) {
	if err := e.mayIn(p, registry.Create, access.Cache, repo); err != nil {
		return Job{}, err
	}
	if row, err := e.lookup(ctx, Ref{Name: repo.Project}); err != nil {
		return Job{}, err
	} else if row.Hosted() {
		return Job{}, invalid("warm.hosted", "project %s is no proxy: what is there was pushed, and need not be fetched", repo.Project)
	}
	if err := checkWarming(reference, platforms); err != nil {
		return Job{}, err
	}
	target := repo.String() + ":" + reference
	if strings.Contains(reference, ":") {
		target = repo.String() + "@" + reference
	}
	one, err := e.jobs.start(access.Warming, target, p.Name(), "bytes", func(ctx context.Context, step func(done, total int64)) (string, error) {
		w, err := e.config.Cache.Warm(ctx, repo, reference, platforms, step)
		return fmt.Sprintf("%d images are here, %d blobs (%d bytes) were fetched", w.Images, w.Blobs, w.Bytes), err
	})
	if err != nil {
		return Job{}, err
	}
	return one, e.record(ctx, deed{p, registry.Create, access.Warming, target, fmt.Sprintf("job %d", one.ID)})
}

// maxPlatforms is how many can be asked for: images come for a dozen.
const maxPlatforms = 50

// checkWarming says what of an image and its platforms cannot be.
func checkWarming(reference string, platforms []string) error {
	if _, err := registry.ParseDigest(reference); err != nil && registry.CheckTag(reference) != nil {
		return Wrong("reference", "reference.wrong", "%q is neither a tag nor a digest", registry.Clip(reference))
	}
	return CheckPlatforms(platforms)
}

// CheckPlatforms says what of platforms cannot be one.
func CheckPlatforms(platforms []string) error {
	odd := func(platform string) bool {
		parts := strings.Split(platform, "/")
		return len(parts) < 2 || len(parts) > 3 || len(platform) > 100 || slices.Contains(parts, "") || !plain(platform)
	}
	if len(platforms) > maxPlatforms || slices.ContainsFunc(platforms, odd) {
		return Wrong("platforms", "platforms.wrong", "platforms are at most %d such as linux/amd64 or linux/arm/v7; none is for all", maxPlatforms)
	}
	return nil
}

// Flights lists what is being downloaded now of the projects that somebody may look at, the oldest
// first.
func (e *Estate) Flights(p registry.Principal) []cache.Flight {
	var all []cache.Flight
	for _, f := range e.config.Cache.Flights() {
		if e.mayIn(p, registry.List, registry.Artifact, f.Repo) == nil {
			all = append(all, f)
		}
	}
	return all
}
