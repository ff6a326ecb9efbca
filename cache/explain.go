package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/signature"
	"roadstead/storage/catalog"
)

// Policy is what a project's rules on signatures and on tags that move mean for an image, as far as it
// is known here.
type Policy struct {
	Digest registry.Digest // what is served for the reference, while upstream has it; "": nothing is

	Mode     string          // of the verification of signatures: Warn, Enforce, or "" for none
	Verified bool            // it may be trusted by the keys of now
	By       string          // the ID of the key; "override" or "accessory" where it is no key
	Of       registry.Digest // the index that is signed in its place, or the image that was let through
	Actor    string          // who has let it through
	At       time.Time       // when it was verified, let through, or looked at in vain
	Why      string          // why it is not verified, or was let through; "" where it is, or nobody has looked

	Cooldown time.Duration // of the project
	Held     *Held         // nil: the tag is where upstream has it, as far as is known. Without a Digest a pull is denied until then
}

// Held is what a tag does not point to yet.
type Held struct {
	Digest   registry.Digest
	Since    time.Time // when it was first seen to point there upstream
	Until    time.Time // when it follows
	Released bool      // somebody has said that it is to follow now
}

// Explain says what the policies of a project mean for a tag or a digest. It asks the catalog and
// nobody else.
func (c *Cache) Explain(ctx context.Context, repo registry.Repo, reference string) (Policy, error) {
	p, err := c.project(repo)
	if err != nil {
		return Policy{}, err
	}
	e := Policy{Mode: p.Verify.Mode, Cooldown: p.Cooldown}
	if e.Digest, err = registry.ParseDigest(reference); err != nil {
		if e.Digest, e.Held, err = c.explainTag(ctx, p, repo, reference); err != nil {
			return Policy{}, err
		}
	}
	if e.Mode == "" || e.Digest == "" {
		return e, nil
	}
	rows, err := c.catalog.Verdicts(ctx, repo, e.Digest)
	if err != nil {
		return Policy{}, fmt.Errorf("explain %s: %w", repo, err)
	}
	for _, row := range rows {
		trusted := p.Verify.trusts(row.Basis) && (row.Whole || row.Basis != byAccessory)
		if e.Verified || !trusted && (row.Basis != "" || e.Why != "") {
			continue
		}
		e.Verified, e.By, e.Of, e.Actor, e.At, e.Why = trusted, row.Basis, row.Root, row.Actor, row.At, row.Reason
		if by, of, ok := strings.Cut(row.Basis, " "); ok {
			e.By, e.Of = by, registry.Digest(of)
		}
	}
	if tag := reference != e.Digest.String(); e.Verified && tag && e.Mode == Enforce && e.By == byAccessory && !signature.OfDigest(reference) {
		e.Verified, e.Why = false, "it is made of signatures or the like, which are served by digest only" // see vouchTag
	}
	return e, nil
}

func (c *Cache) explainTag(ctx context.Context, p *project, repo registry.Repo, tag string) (d registry.Digest, held *Held, err error) {
	r, ok := c.memory.tag(tagKey{repo, tag})
	if !ok {
		r.Tag, err = c.catalog.Tag(ctx, repo, tag)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return "", nil, fmt.Errorf("explain %s:%s: %w", repo, tag, err)
	}
	if err == nil && !r.Gone {
		d = r.Digest
	}
	if p.Cooldown == 0 {
		return d, nil, nil
	}
	hold, err := c.catalog.HoldOf(ctx, repo, tag)
	switch {
	case errors.Is(err, catalog.ErrNotFound) || err == nil && hold.Digest == d:
		return d, nil, nil
	case err != nil:
		return "", nil, fmt.Errorf("explain %s:%s: %w", repo, tag, err)
	}
	if d == "" && r.Evicted() && p.pending(hold, time.Now()) {
		d = r.Digest
	}
	return d, &Held{Digest: hold.Digest, Since: hold.SeenAt, Until: hold.SeenAt.Add(p.Cooldown), Released: hold.Released}, nil
}
