package cache

import (
	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Gone drops what is remembered of content and tags that another node with the same store and catalog
// has taken away, and of policies that somebody has overruled there. What is remembered beside that is as
// right as before, and to lose it harms nobody: it is asked for again.
//
// A pull that was under way here when somebody had content or a tag forgotten there is served to its
// end, and does not bring it back. One that was just being written down brings content back: the removal
// was not told in time. Of a tag the catalog knows it (catalog.Tx.SaveTag), however late the news is.
func (c *Cache) Gone(changes []catalog.Change) {
	g := amiss{evicted: map[registry.Digest]bool{}}
	for _, change := range changes {
		switch change.Topic {
		case catalog.Anything:
			g.anything = true
		case catalog.TagGone:
			if _, err := c.project(change.Repo); err != nil {
				continue
			}
			c.barred(change.Repo, change.Tag)
			g.tags = append(g.tags, tagKey{change.Repo, change.Tag})
		case catalog.Overruled:
			if _, err := c.project(change.Repo); err != nil {
				continue
			}
			c.Reconsider(change.Repo)
			if k := (tagKey{change.Repo, change.Tag}); change.Tag != "" {
				c.work.start(func() { c.follow(k) })
			}
		case catalog.ContentGone:
			if change.Repo == (registry.Repo{}) {
				g.evicted[change.Digest] = true
				continue
			}
			if _, err := c.project(change.Repo); err != nil {
				continue // it is nothing of ours
			}
			c.barred(change.Repo, string(change.Digest))
			g.unlinked = append(g.unlinked, contentKey{change.Repo, change.Digest})
		}
	}
	c.memory.gone(g)
	for d := range g.evicted {
		c.store.Cool(d)
	}
}

// follow asks upstream for a tag that has been released elsewhere, if it is remembered here where it was.
func (c *Cache) follow(k tagKey) {
	if _, ok := c.memory.tag(k); !ok {
		return
	}
	if _, _, err := c.Refresh(c.life, k.repo, k.tag); err != nil {
		c.log.Debug("a tag that was released does not follow yet", "repo", k.repo.String(), "tag", k.tag, "err", err)
	}
}

// amiss is what memory is wrong about.
type amiss struct {
	anything bool
	evicted  map[registry.Digest]bool // from all repositories
	unlinked []contentKey
	tags     []tagKey
}

// gone drops it, with one walk however much that is: an eviction elsewhere is thousands of digests.
func (m *memory) gone(g amiss) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.anything {
		m.links.Purge()
		m.tags.Purge()
		m.refusals.Purge() // of what may have been imported
		return
	}
	for d := range g.evicted {
		m.small.Remove(smallKey{d, false})
		m.small.Remove(smallKey{d, true})
	}
	if len(g.evicted) > 0 {
		for _, k := range m.links.Keys() {
			if l, ok := m.links.Peek(k); ok && g.evicted[k.digest] {
				l.unlinked()
			}
		}
	}
	for _, k := range g.unlinked {
		m.links.Remove(k)
	}
	for _, k := range g.tags {
		m.tags.Remove(k)
	}
}

// unlinked has whoever comes to have the content again link it again.
func (l *link) unlinked() {
	l.direct.Store(false)
	l.triedAt.Store(0)
}
