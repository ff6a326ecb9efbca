package cache

import (
	"context"
	"errors"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// saveEvery is how often an unchanged tag's check is written to the catalog. After a restart
// such a tag looks older than it is, which costs one HEAD; writing each check would cost a
// write a minute for each tag in use.
const saveEvery = 10 * time.Minute

// Resolve says what a tag points to: from the record while it is fresh, else from upstream,
// else, when upstream cannot be asked, from the record again. What it points to is verified before
// that is said, where it has to be.
func (c *Cache) Resolve(ctx context.Context, repo registry.Repo, tag string) (registry.Descriptor, error) {
	p, err := c.project(repo)
	if err != nil {
		return registry.Descriptor{}, err
	}
	desc, err := c.resolve(ctx, p, repo, tag)
	if err == nil {
		err = c.vouchTag(ctx, p, contentKey{repo, desc.Digest}, tag)
	}
	if err != nil {
		return registry.Descriptor{}, err
	}
	return desc, nil
}

func (c *Cache) resolve(ctx context.Context, p *project, repo registry.Repo, tag string) (registry.Descriptor, error) {
	if err := p.rules.permitTag(repo, tag); err != nil {
		p.figures.denied.Add(1)
		return registry.Descriptor{}, err
	}
	k := tagKey{repo, tag}
	now, born := time.Now(), c.forgotten.number.Load()
	record, known, trouble := c.tag(ctx, k)
	if trouble && p.Cooldown > 0 {
		// Where nobody knows where it was it would follow upstream at once, as a new one does.
		if was, ok := c.tagLaidOut(ctx, k); ok {
			was.seen, was.ChangedAt = record.seen, now
			record, known = was, true
		}
	}
	if known && p.fresh(record, now) {
		if record.Gone {
			p.figures.hits.Add(1)
			return registry.Descriptor{}, gone(repo, tag)
		}
		c.touch(c.memory.addLink(contentKey{repo, record.Digest}, record.Size), record.Digest, now)
		p.figures.count(ctx, registry.Hit)
		p.figures.countHeld(ctx, record)
		return record.Descriptor, nil
	}

	check, joined := c.refreshes.joinFor(ctx, errand{"check tag", repo, tag}, k, c.work.start, func(span registry.Span) (tagRecord, error) {
		return c.refresh(registry.WithSpan(c.life, span), p, k, record, known, born)
	})
	standIn, usable := record, known && p.usable(record, now)
	if trouble && p.StaleFor == 0 {
		standIn, usable = c.tagLaidOut(ctx, k)
	}
	answer, err := waitFor(ctx, check, joined, usable, p.health.patience())
	if err == nil {
		p.figures.countHeld(ctx, answer)
	}
	switch {
	case err == nil && joined:
		p.figures.count(ctx, registry.Join)
	case err == nil && answer.news:
		p.figures.count(ctx, registry.Miss)
	case err == nil:
		p.figures.count(ctx, registry.Hit)
	case ctx.Err() != nil:
		return registry.Descriptor{}, err
	case usable && p.standIn(err):
		if errors.Is(err, errPatience) {
			// One request has waited; until upstream has answered again no other does.
			p.health.note(err)
		}
		p.figures.countStale(ctx, err)
		return standIn.Descriptor, nil
	default:
		return registry.Descriptor{}, err
	}
	return answer.Descriptor, nil
}

// errPatience ends the wait for a check that an older answer can stand in for; with errTrouble
// there is none.
var (
	errPatience = &registry.Fault{Code: registry.Unavailable, Message: "upstream takes long to answer"}
	errTrouble  = &registry.Fault{Code: registry.Unavailable, Message: "upstream did not answer the last question"}
)

// waitFor waits for a check: without a usable record until it ends, with one no longer than
// patience.
func waitFor(ctx context.Context, check *call[tagRecord], joined, usable bool, patience time.Duration) (tagRecord, error) {
	if !usable {
		return check.await(ctx, joined, "tag")
	}
	if patience == 0 {
		return tagRecord{}, errTrouble
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	return check.await(ctx, joined, "tag")
}

// tag finds the record of a tag, in memory or in the catalog. A catalog in trouble, which is said, knows
// nothing: upstream will be asked.
func (c *Cache) tag(ctx context.Context, k tagKey) (r tagRecord, known, trouble bool) {
	if r, ok := c.memory.tag(k); ok {
		return r, true, false
	}
	look, err := c.lookUpTag(ctx, k)
	if errors.Is(err, catalog.ErrNotFound) {
		return tagRecord{seen: look.seen}, false, false
	}
	if err != nil {
		c.fault("read a tag's record", err, "repo", k.repo.String(), "tag", k.tag)
		return tagRecord{seen: look.seen}, false, true
	}
	r = tagRecord{Tag: look.Tag, savedAt: look.CheckedAt, seen: look.seen}
	c.knowTag(k, r, look.born)
	return r, true, false
}

// refresh asks upstream what a tag points to, and brings the manifest here before it says so:
// a record only ever points to a manifest that has been seen whole, so that it can stand in
// for upstream, and a tag that moves during a pull takes nothing away from it.
//
// ctx outlives the client that asked; upstream's own time limits end it.
func (c *Cache) refresh(ctx context.Context, p *project, k tagKey, old tagRecord, known bool, born uint64) (tagRecord, error) {
	if r, ok := c.memory.tag(k); ok && !r.CheckedAt.Equal(old.CheckedAt) && p.fresh(r, time.Now()) {
		// Another check ended between our look and this call.
		if r.Gone {
			return tagRecord{}, gone(k.repo, k.tag)
		}
		r.news = false
		return r, nil
	}
	now := time.Now()
	was := known && !old.Gone || p.Cooldown > 0 && old.Digest != ""
	desc, held, err := c.ask(ctx, p, k, old, was, born)
	p.health.note(err)
	switch {
	case registry.Unknown(err):
		c.tagGone(p, k, old, known, now, born)
		return tagRecord{}, err
	case err != nil:
		return tagRecord{}, err
	}
	next := tagRecord{Tag: catalog.Tag{Descriptor: desc, CheckedAt: now, ChangedAt: now}, seen: old.seen, news: held == "", held: held}
	if known && !old.Gone && old.Digest == desc.Digest {
		next.ChangedAt, next.savedAt, next.news = old.ChangedAt, old.savedAt, false
	}
	c.saveTag(k, next, now, born)
	return next, nil
}

// ask has upstream say what a tag points to, and the manifest brought here if it is not the
// one of the old record. Where there is no old one, asking for the manifest at once saves a
// round trip; where there is, a HEAD is all that an unmoved tag costs, and Docker Hub does not
// count it.
//
// held says why the answer is the old one although upstream has another.
func (c *Cache) ask(ctx context.Context, p *project, k tagKey, old tagRecord, known bool, born uint64) (desc registry.Descriptor, held string, err error) {
	waits := p.Cooldown > 0 && p.CooldownNew || !known && c.waits(ctx, p, k)
	if t, ok := p.Upstream.(interface {
		Tagged(context.Context, registry.Repo, string) (registry.Manifest, error)
	}); ok && !known && !waits {
		sent, err := t.Tagged(ctx, k.repo, k.tag)
		if err != nil {
			return registry.Descriptor{}, "", err
		}
		m, err := c.take(p, contentKey{k.repo, sent.Digest}, sent, born)
		return m.Descriptor, "", err
	}
	desc, err = p.Upstream.Resolve(ctx, k.repo, k.tag)
	if err != nil {
		return registry.Descriptor{}, "", err
	}
	if known && old.Digest == desc.Digest {
		c.followed(ctx, p, k, old.Digest)
		if !old.Gone {
			return old.Descriptor, "", nil // what a tag led to that was gone may have been evicted since
		}
	} else if known {
		if known, err = c.servable(ctx, p, k, old); err != nil {
			return registry.Descriptor{}, "", err
		}
		if !known {
			waits = waits || c.waits(ctx, p, k)
		}
		if known {
			held, err := c.withhold(ctx, p, k, desc)
			if held != "" || err != nil {
				return old.Descriptor, held, err
			}
		}
	}
	if !known && waits {
		if err := c.holdNew(ctx, p, k, desc); err != nil {
			return registry.Descriptor{}, "", err
		}
	}
	m, err := c.fetchManifest(ctx, p, k.repo, desc.Digest)
	return m.Descriptor, "", err
}

// tagGone remembers that upstream does not have a tag. Content that the tag led to stays and
// is served by digest.
func (c *Cache) tagGone(p *project, k tagKey, old tagRecord, known bool, now time.Time, born uint64) {
	if known && p.KeepGone {
		// The old record goes on to be served; it counts as checked, so that upstream is
		// not asked for each request.
		old.CheckedAt = now
		c.saveTag(k, old, now, born)
		return
	}
	// It keeps the digest that it had: a pin holds what upstream has thrown away.
	r := tagRecord{Tag: catalog.Tag{Descriptor: old.Descriptor, CheckedAt: now, ChangedAt: now, Gone: true}, seen: old.seen}
	c.knowTag(k, r, born)
	if !known || old.Gone {
		return // nobody but this memory has ever heard of it
	}
	c.save(k, save{record: r, born: born, moved: true})
}

// saveTag makes a record known: to memory at once, to the layout and the catalog when it says
// something that they should know after a restart.
func (c *Cache) saveTag(k tagKey, r tagRecord, now time.Time, born uint64) {
	if _, still := c.memory.tag(k); !still {
		// It was forgotten while it was being checked: evicted, and its link with it.
		r.savedAt = time.Time{}
	}
	moved := r.savedAt.IsZero()
	if age := now.Sub(r.savedAt); !moved && age > -skew && age < saveEvery {
		c.knowTag(k, r, born)
		return
	}
	r.savedAt = now
	c.knowTag(k, r, born)
	c.save(k, save{record: r, born: born, moved: moved})
}

// knowTag puts a record into memory that was being made since born, unless it has been forgotten
// meanwhile. It looks afterwards: a forgetting that comes later than that look takes the record out
// of memory itself.
func (c *Cache) knowTag(k tagKey, r tagRecord, born uint64) {
	c.memory.addTag(k, r)
	if c.forgotten.since(born, k.repo, k.tag, string(r.Digest)) {
		c.memory.untag(k, r.Digest)
	}
}

func gone(repo registry.Repo, tag string) error {
	return &registry.Fault{Code: registry.ManifestUnknown, Message: "upstream has no " + repo.String() + ":" + tag}
}
