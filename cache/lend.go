package cache

import (
	"context"
	"slices"

	"roadstead/registry"
)

// A manifest says of content only that somebody knew its digest. Upstream may have it from
// anybody, and have taken it without having the content: were that proof enough, whoever can
// push a manifest to some public registry could read here what people keep in a private project
// (FAULTS B8). So the bytes that such a manifest names are lent from where they are only when
// everybody may read them there, or whoever reads them here; else upstream is asked whether it has
// them too, once.

// mostLenders bounds how many repositories are looked at for one that lends. The empty layer is
// in every second image, and an early one will do.
const mostLenders = 1000

// lends reports whether what is in project from may be read in project to by everybody who can
// name it.
func (c *Cache) lends(from, to string) bool {
	if from == to {
		return true
	}
	p := (*c.projects.Load())[from] // a hosted one is none of them
	return p != nil && !p.Private
}

// lent reports whether content that only a manifest of k's repository names may be read there:
// it is not here yet, and upstream will be asked for it, or somebody lends it.
func (c *Cache) lent(ctx context.Context, k contentKey) bool {
	c.flightsMu.Lock()
	f := c.flights[k.digest]
	c.flightsMu.Unlock()
	if f != nil {
		return c.lends(f.key.repo.Project, k.repo.Project)
	}
	if !c.here(ctx, k.digest) {
		return true
	}
	for after, seen := "", 0; seen < mostLenders; {
		const page = 100
		var holders []registry.Repo
		err := c.consult(ctx, func(ctx context.Context) (err error) {
			holders, err = c.catalog.Holders(ctx, k.digest, after, page)
			return err
		})
		if err != nil {
			c.fault("look for who lends a digest", err, "repo", k.repo.String(), "digest", k.digest)
			return c.laidOut(ctx, k)
		}
		if slices.ContainsFunc(holders, func(r registry.Repo) bool { return c.lends(r.Project, k.repo.Project) }) {
			return true
		}
		if len(holders) < page {
			return false
		}
		after, seen = holders[page-1].String(), seen+page
	}
	return false
}
