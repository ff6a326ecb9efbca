package cache

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
)

// listingKey is a question whose answer is a list: tags after a tag, or referrers of a digest.
type listingKey struct {
	repo   registry.Repo
	digest registry.Digest // of the subject; "" asks for tags
	after  string          // last tag of the page before, or the artifact type of referrers
	n      int
}

// listing is upstream's answer to one.
type listing struct {
	tags      []string
	referrers []registry.Descriptor
	at        time.Time
}

// weight is about what a listing takes in memory, in bytes.
func (l listing) weight() int {
	n := 0
	for _, tag := range l.tags {
		n += len(tag) + 16
	}
	for _, d := range l.referrers {
		n += 256 + len(d.MediaType) + len(d.ArtifactType) + len(d.Data)
		for key, value := range d.Annotations {
			n += len(key) + len(value) + 32
		}
		for _, u := range d.URLs {
			n += len(u) + 16
		}
	}
	return n
}

// Tags lists upstream's tags together with those that are here. Without upstream those that
// are here, and what it last said, have to do.
func (c *Cache) Tags(ctx context.Context, repo registry.Repo, after string, n int) ([]string, error) {
	p, err := c.permitted(repo)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > registry.MaxPage {
		n = registry.MaxPage
	}
	var page []string
	for len(page) < n {
		want := n - len(page)
		part, whole, err := c.tagPage(ctx, p, repo, after, want)
		if err != nil {
			return nil, err
		}
		for _, tag := range part {
			after = tag
			if p.rules.permitTag(repo, tag) == nil {
				page = append(page, tag)
			}
		}
		if whole {
			break
		}
	}
	return page, nil
}

// tagPage returns one page, and whether nothing comes after it.
func (c *Cache) tagPage(ctx context.Context, p *project, repo registry.Repo, after string, n int) (page []string, whole bool, err error) {
	here, hereErr := c.catalog.Tags(ctx, repo, after, n)
	if hereErr != nil {
		c.fault("list the tags that are here", hereErr, "repo", repo.String())
	}
	there, err := c.list(ctx, p, listingKey{repo: repo, after: after, n: n})
	if p.Offline && len(here) == 0 && !c.listed(ctx, repo) {
		return nil, false, errOffline
	}
	if err != nil && (!p.standIn(err) || len(here) == 0 && !c.listed(ctx, repo)) {
		return nil, false, err
	}
	page = merge(here, there.tags, strings.Compare)
	if len(page) > n {
		page = page[:n]
	}
	return page, len(page) < n, nil
}

// listed reports whether any tag of a repository is here.
func (c *Cache) listed(ctx context.Context, repo registry.Repo) bool {
	tags, err := c.catalog.Tags(ctx, repo, "", 1)
	return err == nil && len(tags) > 0
}

// Referrers lists upstream's referrers together with those that are here.
func (c *Cache) Referrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	p, err := c.permitted(repo)
	if err != nil {
		return nil, err
	}
	here, hereErr := c.catalog.Referrers(ctx, repo, d, artifactType)
	if hereErr != nil {
		c.fault("list the referrers that are here", hereErr, "repo", repo.String(), "digest", d)
	}
	there, err := c.list(ctx, p, listingKey{repo: repo, digest: d, after: artifactType})
	if err != nil && !registry.Unknown(err) && (!p.standIn(err) || len(here) == 0) {
		return nil, err
	}
	return merge(here, there.referrers, func(a, b registry.Descriptor) int {
		return strings.Compare(string(a.Digest), string(b.Digest))
	}), nil
}

// list answers from memory while that is fresh, else from upstream, else from memory again. Where upstream
// is never asked, what it once said and what is here is all there is.
func (c *Cache) list(ctx context.Context, p *project, k listingKey) (listing, error) {
	old, known := c.memory.list(k)
	if known && time.Since(old.at) < p.TTL || p.Offline {
		p.figures.count(ctx, registry.Hit)
		return old, nil
	}
	ask, joined := c.listings.join(k, c.work.start, func() (listing, error) {
		l := listing{at: time.Now()}
		var err error
		if k.digest == "" {
			l.tags, err = p.Upstream.Tags(c.life, k.repo, k.after, k.n)
			l.tags = slices.Clone(l.tags) // a page may be the end of a longer list
		} else {
			l.referrers, err = p.Upstream.Referrers(c.life, k.repo, k.digest, k.after)
		}
		p.health.note(err)
		if err != nil {
			return listing{}, err
		}
		c.memory.addList(k, l)
		return l, nil
	})
	if known && p.health.patience() == 0 {
		p.figures.countStale(ctx, errTrouble)
		return old, nil
	}
	l, err := ask.wait(ctx)
	switch {
	case err == nil && joined:
		p.figures.count(ctx, registry.Join)
	case err == nil:
		p.figures.count(ctx, registry.Miss)
	case ctx.Err() != nil:
	case p.standIn(err):
		p.figures.countStale(ctx, err)
		if known {
			return old, nil
		}
	}
	if err != nil {
		return listing{}, fmt.Errorf("ask upstream: %w", err)
	}
	return l, nil
}

// merge joins two lists without repeating what is in both, in order.
func merge[T any](a, b []T, compare func(T, T) int) []T {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, compare)
	return slices.CompactFunc(all, func(x, y T) bool { return compare(x, y) == 0 })
}
