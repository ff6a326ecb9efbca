package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/signature"
)

// Verify says what is asked of the signatures of a project's images. The zero value asks nothing.
type Verify struct {
	Mode string         // Warn or Enforce; "": signatures are not looked at
	Keys signature.Keys // those that an image may be signed with
}

// The modes of verification.
const (
	// Warn serves everything, and says of what is not signed that it is not: in the log, by a figure
	// and in the console. No client waits for it.
	Warn = "warn"

	// Enforce serves nothing but what is signed, from the very first pull on.
	Enforce = "enforce"
)

// On what a verdict rests beside a key, of which it has the ID. A signature is itself served unsigned:
// it has to be read before there is anything to trust.
const (
	byAccessory = "accessory"
	byOverride  = "override " // and the digest that somebody has let through
)

// overridden is the basis of what is served because somebody has let a manifest through.
func overridden(d registry.Digest) string { return byOverride + d.String() }

// trusts reports whether a verdict is good for a project as it is configured now. Keys come and go, and
// what rests on one goes with it.
func (v Verify) trusts(basis string) bool {
	return v.Keys.Has(basis) || basis == byAccessory || strings.HasPrefix(basis, byOverride)
}

// String names the keys, for messages.
func (v Verify) String() string {
	var all []string
	for _, k := range v.Keys {
		all = append(all, k.Short())
	}
	return strings.Join(all, ", ")
}

// verdict is a catalog.Verdict as memory has it.
type verdict struct {
	basis string
	until time.Time // when the catalog is asked again; zero: never, a signature stays one
}

const (
	// overrideFor is how long an override is taken for granted that another node may have taken back.
	overrideFor = 10 * time.Second

	// warnAgain is how often an image that is not signed is looked at again where it is served all the
	// same: each look is two or three questions to upstream.
	warnAgain = time.Hour
)

// vouch says whether a manifest may be served: nil, or why not. Where that is only warned of it never
// says no, and finds out behind the answer.
func (c *Cache) vouch(ctx context.Context, p *project, k contentKey) error {
	_, err := c.vouched(ctx, p, k)
	return err
}

// vouchTag is vouch for what a tag leads to. An accessory is not served for an image: there are clients
// that would run it.
func (c *Cache) vouchTag(ctx context.Context, p *project, k contentKey, tag string) error {
	basis, err := c.vouched(ctx, p, k)
	if err == nil && p.Verify.Mode == Enforce && basis == byAccessory && !signature.OfDigest(tag) {
		p.figures.unverified.Add(1)
		return denied("%s:%s is %s, which is made of signatures or the like and not of an image, and project %s serves such unsigned by digest only: pull it by that, or have an administrator let it through", k.repo, tag, k.digest, p.Name)
	}
	return err
}

// vouched is vouch, and says on what the manifest is trusted.
func (c *Cache) vouched(ctx context.Context, p *project, k contentKey) (basis string, err error) {
	if p.Verify.Mode == "" {
		return "", nil
	}
	v, known := c.memory.verdict(k)
	if known && p.Verify.trusts(v.basis) {
		return v.basis, nil
	}
	if p.Verify.Mode == Warn {
		if known {
			p.figures.unverified.Add(1)
		} else {
			c.judgements.join(k, c.work.start, func() (verdict, error) { return c.judge(p, k) })
		}
		return "", nil
	}
	w, _ := c.judgements.join(k, c.work.start, func() (verdict, error) { return c.judge(p, k) })
	v, err = w.wait(ctx)
	if err == nil && !p.Verify.trusts(v.basis) {
		// The keys have been changed while somebody else's question was answered.
		return c.vouched(ctx, p, k)
	}
	if errors.Is(err, registry.Denied) {
		p.figures.unverified.Add(1)
	}
	return v.basis, err
}

// vouchBlob says whether a blob may be served: where signatures are enforced only one that a manifest
// names which may be.
func (c *Cache) vouchBlob(ctx context.Context, p *project, k contentKey) error {
	if p.Verify.Mode != Enforce {
		return nil
	}
	if v, known := c.memory.verdict(k); known && p.Verify.trusts(v.basis) {
		return nil
	}
	rows, err := c.verdicts(ctx, k)
	if err != nil {
		c.fault("read the verdicts on a blob", err, "repo", k.repo.String(), "digest", k.digest)
	}
	for _, row := range rows {
		if !p.Verify.trusts(row.Basis) {
			continue
		}
		if row.Basis != byAccessory { // memory does not tell a blob from a manifest, see judged
			c.memory.addVerdict(k, remembered(row.Basis))
		}
		return nil
	}
	// It was brought here before signatures were asked for, or before these keys were.
	parents, err := c.namedBy(ctx, k)
	if err != nil {
		return &registry.Fault{Code: registry.Unavailable, Message: "it cannot be told now whether a signed image has this blob", Err: err}
	}
	var unsure error
	for _, parent := range parents {
		switch err := c.vouch(ctx, p, contentKey{k.repo, parent}); {
		case err == nil || registry.Passing(err) && !p.Offline:
			return err
		case registry.Passing(err):
			unsure = cmp.Or(unsure, err) // the next may be signed, and costs no wait
		}
	}
	if unsure != nil {
		return unsure
	}
	p.figures.unverified.Add(1)
	return denied("%s@%s belongs to no image here whose signature project %s has verified: pull the image by its tag or digest first", k.repo, k.digest, p.Name)
}

// mostParents bounds how many manifests are asked whether they vouch for what they name. The empty
// layer is in every second one; a late one is found when it is pulled.
const mostParents = 20

func remembered(basis string) verdict {
	v := verdict{basis: basis}
	switch {
	case basis == "":
		v.until = time.Now().Add(warnAgain)
	case strings.HasPrefix(basis, byOverride):
		v.until = time.Now().Add(overrideFor)
	}
	return v
}

// unsigned is the refusal of a manifest, by what was found instead of a good signature.
func (p *project) unsigned(k contentKey, found string) error {
	return denied("%s@%s is not signed with a key that project %s trusts (%s): %s", k.repo, k.digest, p.Name, p.Verify, found)
}

func checkVerify(v Verify) error {
	switch {
	case v.Mode != "" && v.Mode != Warn && v.Mode != Enforce:
		return fmt.Errorf("verify: %q is neither %s nor %s", v.Mode, Warn, Enforce)
	case v.Mode != "" && len(v.Keys) == 0:
		return errors.New("verify: there is no key to verify signatures with")
	}
	return nil
}
