package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// A tag that moves upstream may have been moved by somebody who should not, and such things are found
// out within days. So a project may let a tag follow only when upstream has had it where it is for a
// while. The time is counted from when the catalog first heard of it, for all nodes, and begins anew
// when the tag moves on: what upstream has taken back never gets here. When an image says that it was
// made counts for nothing, because whoever made it says so.

// waits reports whether a tag is held that leads to nothing here, because there was no room for that or
// somebody had it forgotten: it does not follow any sooner for that. A catalog that cannot say takes it for
// new, for the same reason for which one in trouble keeps no pull from upstream.
func (c *Cache) waits(ctx context.Context, p *project, k tagKey) bool {
	if p.Cooldown == 0 {
		return false
	}
	var hold catalog.Hold
	err := c.consult(ctx, func(ctx context.Context) (err error) {
		hold, err = c.catalog.HoldOf(ctx, k.repo, k.tag)
		return err
	})
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		c.fault("look whether a tag is held", err, "repo", k.repo.String(), "tag", k.tag)
	}
	return err == nil && p.pending(hold, time.Now())
}

// pending reports whether a tag is not to follow yet.
func (p *project) pending(h catalog.Hold, now time.Time) bool {
	return !h.Released && now.Before(h.SeenAt.Add(p.Cooldown))
}

// servable reports whether a tag can go on as it was: what could not be served is nothing to go on with.
// If it was gone, or evicted, so may be what it led to, which is brought here again by its digest.
func (c *Cache) servable(ctx context.Context, p *project, k tagKey, old tagRecord) (bool, error) {
	var err error
	if old.Gone {
		_, err = c.fetchManifest(ctx, p, k.repo, old.Digest)
	}
	if err == nil && p.Verify.Mode == Enforce {
		err = c.vouchTag(ctx, p, contentKey{k.repo, old.Digest}, k.tag)
	}
	if errors.Is(err, registry.Denied) || registry.Unknown(err) {
		return false, nil
	}
	return err == nil, err
}

// withhold says why a tag is not to follow upstream to desc yet, or "" if it is.
func (c *Cache) withhold(ctx context.Context, p *project, k tagKey, desc registry.Descriptor) (held string, err error) {
	if p.Cooldown > 0 {
		until, err := c.cool(ctx, p, k, desc)
		if err != nil {
			// Nobody knows since when upstream has had it there. The old one is good.
			c.fault("hold a tag", err, "repo", k.repo.String(), "tag", k.tag)
			return "upstream has moved it, and since when cannot be told now", nil
		}
		if !until.IsZero() {
			return fmt.Sprintf("upstream has moved it to %s, which it follows on %s", desc.Digest, until.UTC().Format(time.RFC3339)), nil
		}
	}
	if p.Verify.Mode != Enforce {
		return "", nil
	}
	err = c.vouchTag(ctx, p, contentKey{k.repo, desc.Digest}, k.tag)
	if errors.Is(err, registry.Denied) {
		return fmt.Sprintf("upstream has moved it to %s, which is not followed: %s", desc.Digest, plainly(err)), nil
	}
	return "", err
}

// plainly is what a client is told of a refusal.
func plainly(err error) string {
	if fault, ok := errors.AsType[*registry.Fault](err); ok {
		return fault.Message
	}
	return err.Error()
}

// cool returns until when a tag stays where it is although upstream has it at desc, or no time.
func (c *Cache) cool(ctx context.Context, p *project, k tagKey, desc registry.Descriptor) (until time.Time, err error) {
	if t, err := c.catalog.Tag(ctx, k.repo, k.tag); err == nil && t.Digest == desc.Digest && !t.Gone {
		return time.Time{}, nil // another node has followed
	}
	now := time.Now()
	hold, err := c.catalog.HoldOf(ctx, k.repo, k.tag)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && hold.Digest != desc.Digest {
		err = c.writeVerdicts(func(tx *catalog.Tx) error {
			hold, err = tx.Hold(k.repo, k.tag, desc, now)
			return err
		})
		if err == nil {
			c.log.Info("a tag is held where it is", "repo", k.repo.String(), "tag", k.tag, "upstream", desc.Digest, "for", p.Cooldown)
		}
	}
	if err != nil {
		return time.Time{}, err
	}
	if !p.pending(hold, now) {
		return time.Time{}, nil
	}
	return hold.SeenAt.Add(p.Cooldown), nil
}

// holdNew refuses a tag that leads to nothing here until upstream has had it at desc for long enough.
func (c *Cache) holdNew(ctx context.Context, p *project, k tagKey, desc registry.Descriptor) error {
	until, err := c.cool(ctx, p, k, desc)
	if err != nil {
		return &registry.Fault{Code: registry.Unavailable, Message: "it cannot be told now for how long upstream has had " + k.repo.String() + ":" + k.tag, Err: err}
	}
	if until.IsZero() {
		return nil
	}
	p.figures.held.Add(1)
	return denied("where upstream has %s:%s is new, and project %s serves nothing before it has known of it for %s: it does on %s, or when an administrator releases the tag", k.repo, k.tag, p.Name, p.Cooldown, until.UTC().Format(time.RFC3339))
}

// followed forgets to what a tag was to move, now that upstream has it at d, where it is here: if it
// moves there again the time begins anew. The hold of a move that has been made stays.
func (c *Cache) followed(ctx context.Context, p *project, k tagKey, d registry.Digest) {
	if p.Cooldown == 0 {
		return
	}
	hold, err := c.catalog.HoldOf(ctx, k.repo, k.tag)
	if err == nil && hold.Digest != d {
		err = c.writeVerdicts(func(tx *catalog.Tx) error { return tx.Unhold(k.repo, k.tag) })
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		c.fault("forget the hold of a tag", err, "repo", k.repo.String(), "tag", k.tag)
	}
}
