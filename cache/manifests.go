package cache

import (
	"context"
	"errors"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// catalogPatience is how long a request waits for the catalog. It answers in microseconds;
// one that does not is in trouble, and upstream is the better source then.
const catalogPatience = time.Second

// corruptFor is how long a digest is not asked for again after upstream sent other bytes for
// it (FAULTS U11).
const corruptFor = time.Minute

// Manifest returns a manifest by its digest, which never changes: once here it is served
// without upstream.
func (c *Cache) Manifest(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	p, err := c.project(repo)
	if err != nil {
		return registry.Manifest{}, err
	}
	k := contentKey{repo, d}
	l := c.find(ctx, k)
	if err := p.rules.permitDigest(repo, d, l != nil); err != nil {
		p.figures.denied.Add(1)
		return registry.Manifest{}, err
	}
	if l != nil {
		if m, ok := c.manifestHere(ctx, k, l); ok {
			if err := c.vouch(ctx, p, k); err != nil {
				return registry.Manifest{}, err
			}
			c.touch(l, d, time.Now())
			p.figures.count(ctx, registry.Hit)
			return m, nil
		}
	}
	fetch, joined := c.fetch(ctx, p, k)
	m, err := fetch.await(ctx, joined, "manifest")
	if err == nil {
		err = c.vouch(ctx, p, k)
	}
	if err != nil {
		return registry.Manifest{}, err
	}
	if joined {
		p.figures.count(ctx, registry.Join)
	} else {
		p.figures.count(ctx, registry.Miss)
	}
	return m, nil
}

// manifestHere returns a manifest of a repository that links it, from memory or the store.
// Doubt is a miss: a damaged one is fetched again and heals.
func (c *Cache) manifestHere(ctx context.Context, k contentKey, l *link) (registry.Manifest, bool) {
	if m, ok := c.memory.manifest(k.digest); ok {
		c.keepLink(k, l, m.Size)
		return m, true
	}
	body, err := c.store.Read(ctx, k.digest, registry.MaxManifest)
	if err != nil {
		if !errors.Is(err, storage.ErrNotFound) {
			c.fault("read a stored manifest", err, "repo", k.repo.String(), "digest", k.digest)
		}
		return registry.Manifest{}, false
	}
	m, refs, err := registry.ParseManifest("", k.digest, body)
	if err != nil {
		return registry.Manifest{}, false
	}
	if t := c.storedType(ctx, k); t != "" {
		// What upstream called it decides where the manifest itself does not say.
		m.MediaType = t
	}
	c.learn(k.repo, m, refs)
	c.keepLink(k, l, m.Size)
	return m, true
}

// storedType is the media type under which a manifest came, or "" when nobody knows.
func (c *Cache) storedType(ctx context.Context, k contentKey) string {
	var found catalog.Found
	err := c.consult(ctx, func(ctx context.Context) (err error) {
		found, err = c.catalog.Find(ctx, k.repo, k.digest)
		return err
	})
	if err != nil {
		return ""
	}
	return found.MediaType
}

// find returns the proof that a repository has a digest, or nil if there is none. That a manifest
// is made of it is one only for what may be lent.
func (c *Cache) find(ctx context.Context, k contentKey) *link {
	l := c.named(ctx, k)
	if l != nil && !l.own() && !c.recall(ctx, k, l) && !c.lent(ctx, k) {
		return nil
	}
	return l
}

// recall asks the catalog, once, whether a repository has a link of its own to what a manifest in
// memory names there, which is so after a restart. For content in a directory that is found out by
// linking it again, which costs nothing; in a bucket it would be three requests before a copy on this
// node could be served.
func (c *Cache) recall(ctx context.Context, k contentKey, l *link) bool {
	if c.store.Together() || l.recalled.Swap(true) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, catalogPatience)
	defer cancel()
	found, err := c.catalog.Find(ctx, k.repo, k.digest)
	if err != nil {
		c.fault("look up a digest", err, "repo", k.repo.String(), "digest", k.digest)
	}
	if err != nil || !found.Linked || !found.Direct || c.forgotten.since(l.born, k.repo, string(k.digest)) {
		return false
	}
	l.direct.Store(true)
	return true
}

// named is what is known of a digest in a repository, be it only that a manifest names it.
func (c *Cache) named(ctx context.Context, k contentKey) *link {
	if l := c.memory.link(k); l != nil {
		return l
	}
	look, err := c.lookUp(ctx, k)
	found, born := look.Found, look.born
	if err != nil {
		c.fault("look up a digest", err, "repo", k.repo.String(), "digest", k.digest)
		found = catalog.Found{Size: -1}
		found.Linked = c.laidOut(ctx, k)
		found.Direct = found.Linked
	}
	if !found.Linked {
		return nil
	}
	l := c.memory.addLink(k, found.Size)
	l.direct.Store(found.Direct)
	if c.forgotten.since(born, k.repo, string(k.digest)) {
		c.memory.drop(k, l) // it was found before that, and says what is so no more
		return nil
	}
	return l
}

// fetchManifest brings a manifest from upstream, or from another fetch of it under way.
func (c *Cache) fetchManifest(ctx context.Context, p *project, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	k := contentKey{repo, d}
	if l := c.find(ctx, k); l != nil {
		if m, ok := c.manifestHere(ctx, k, l); ok {
			return m, nil
		}
	}
	fetch, joined := c.fetch(ctx, p, k)
	return fetch.await(ctx, joined, "manifest")
}

// fetch has upstream asked for a manifest, for however many. It goes on when ctx has ended.
func (c *Cache) fetch(ctx context.Context, p *project, k contentKey) (*call[registry.Manifest], bool) {
	born := c.forgotten.number.Load()
	return c.fetches.joinFor(ctx, errand{"fetch manifest", k.repo, string(k.digest)}, k, c.work.start, func(span registry.Span) (registry.Manifest, error) {
		// Unknown as a manifest is not unknown as a blob.
		refused := refusalKey{k.repo, "manifest " + string(k.digest)}
		if err := c.memory.refusal(refused); err != nil {
			return registry.Manifest{}, err
		}
		if l := c.find(c.life, k); l != nil {
			if m, ok := c.memory.manifest(k.digest); ok {
				return m, nil // it came between the caller's look and this call
			}
		}
		sent, err := p.Upstream.Manifest(registry.WithSpan(c.life, span), k.repo, k.digest)
		p.health.note(err)
		if registry.Unknown(err) {
			c.memory.refuse(refused, err, p.Negative)
		}
		if err != nil {
			return registry.Manifest{}, err
		}
		m, err := c.take(p, k, sent, born)
		if err != nil {
			c.memory.refuse(refused, err, corruptFor)
		}
		return m, err
	})
}

// take reads a manifest that upstream has sent, makes it known and keeps it. born is when it was
// asked for.
func (c *Cache) take(p *project, k contentKey, sent registry.Manifest, born uint64) (registry.Manifest, error) {
	m, refs, err := registry.ParseManifest(sent.MediaType, k.digest, sent.Bytes)
	if err != nil {
		p.figures.corrupt.Add(1)
		return registry.Manifest{}, corrupt(p.Name, k.digest, err)
	}
	l := c.learn(k.repo, m, refs)
	l.proven.Store(true)
	if p.keptElsewhere(k.digest) {
		l.direct.Store(true)
		return m, nil
	}
	p.figures.upstream.Add(m.Size)
	c.keepManifest(k, l, m, refs, born)
	return m, nil
}

// learn puts a manifest into memory, and the proof that what it names belongs to its
// repository: a client asks for that next, before the catalog has heard of it. It returns the
// manifest's own link.
func (c *Cache) learn(repo registry.Repo, m registry.Manifest, refs registry.References) *link {
	c.memory.addManifest(m)
	for _, list := range [][]registry.Descriptor{refs.Blobs(), refs.Manifests} {
		for _, ref := range list {
			c.memory.addNamed(contentKey{repo, ref.Digest}, ref.Size, ref.MediaType)
		}
	}
	return c.memory.addLink(contentKey{repo, m.Digest}, m.Size)
}

// keepManifest stores a manifest behind the answer: the client has it from memory already.
func (c *Cache) keepManifest(k contentKey, l *link, m registry.Manifest, refs registry.References, born uint64) {
	l.direct.Store(true)
	l.triedAt.Store(time.Now().UnixNano())
	c.keeps.join(k, c.work.start, func() (struct{}, error) {
		c.calm.wait(c.life)
		return c.storeManifest(k, l, m, refs, born)
	})
}

// storeManifest stores a manifest and its link, and has both written to the catalog.
func (c *Cache) storeManifest(k contentKey, l *link, m registry.Manifest, refs registry.References, born uint64) (struct{}, error) {
	ctx, cancel := c.keeping()
	defer cancel()
	left, ok := c.forgotten.enter(born, k.repo, string(k.digest))
	if !ok {
		l.unkept()
		return struct{}{}, nil
	}
	c.store.Traffic.Come(k.digest, awayPatience)
	put := func(ctx context.Context) error {
		if err := c.store.Put(ctx, m.Digest, m.Bytes); err != nil {
			return err
		}
		return c.store.LinkManifest(ctx, k.repo.String(), m.Digest)
	}
	if err := put(ctx); err != nil {
		c.linkEnded(k, l, false, left)
		c.totals.passed.Add(1)
		c.fault("store a manifest", err, "repo", k.repo.String(), "digest", m.Digest)
		if errors.Is(err, storage.ErrFull) {
			c.want(m.Size)
		}
		return struct{}{}, err
	}
	c.linked(k, arrival{
		write: func(tx *catalog.Tx) error { return tx.AddManifest(k.repo, m, refs) },
		again: put,
		ended: func(written bool) { c.linkEnded(k, l, written, left) },
	})
	return struct{}{}, nil
}

// linkEnded ends the coming of content. If it has got no link of its own, or the catalog does not
// know that, whoever uses it tries again.
func (c *Cache) linkEnded(k contentKey, l *link, known bool, left func()) {
	if !known {
		l.direct.Store(false)
	}
	c.store.Traffic.Came(k.digest)
	left()
}

// unkept says that there will be no link of its own from what was just begun, for which there was
// no reason but that it has been forgotten. So who asks next is not kept waiting.
func (l *link) unkept() {
	l.triedAt.Store(0)
	l.direct.Store(false)
}

// keepAgain is how long after a link could not be kept it is tried again: a full disk is not
// asked for each hit.
const keepAgain = time.Minute

// keepLink gives a repository a link of its own to content that it has by a manifest's word
// only, so that a stock registry on this storage serves it there too (promise 10).
func (c *Cache) keepLink(k contentKey, l *link, size int64) {
	if l.direct.Load() {
		return
	}
	now := time.Now().UnixNano()
	if tried := l.triedAt.Load(); now-tried < int64(keepAgain) && tried <= now || !l.direct.CompareAndSwap(false, true) {
		return
	}
	l.triedAt.Store(now)
	if c.forgotten.since(l.born, k.repo, string(k.digest)) {
		// The request began before that. Who asks after it has to find another link.
		c.memory.drop(k, l)
		return
	}
	manifest, isManifest := c.memory.manifest(k.digest)
	if isManifest {
		_, refs, err := registry.ParseManifest(manifest.MediaType, k.digest, manifest.Bytes)
		if err == nil {
			c.keepManifest(k, l, manifest, refs, l.born)
		}
		return
	}
	c.work.start(func() {
		ctx, cancel := c.keeping()
		defer cancel()
		left, ok := c.forgotten.enter(l.born, k.repo, string(k.digest))
		if !ok {
			l.unkept()
			return
		}
		c.store.Traffic.Come(k.digest, awayPatience)
		link := func(ctx context.Context) error {
			if _, err := c.store.Stat(ctx, k.digest); err != nil {
				return err // nothing may link what is not here
			}
			return c.store.LinkBlob(ctx, k.repo.String(), k.digest)
		}
		if err := link(ctx); err != nil {
			c.linkEnded(k, l, false, left)
			c.fault("link content to a repository", err, "repo", k.repo.String(), "digest", k.digest)
			return
		}
		c.linked(k, arrival{
			write: func(tx *catalog.Tx) error { return tx.AddBlob(k.repo, k.digest, size) },
			again: link,
			ended: func(written bool) { c.linkEnded(k, l, written, left) },
		})
	})
}
