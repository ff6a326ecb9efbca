package cache

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/signature"
	"roadstead/storage/catalog"
)

// judge finds out on what a manifest may be trusted, from the catalog or from upstream, and writes it
// down with all that the manifest names before it says so: the next question is for that, and may come
// to another node. An error that is no refusal says that it could not be found out.
func (c *Cache) judge(p *project, k contentKey) (verdict, error) {
	refused := refusalKey{k.repo, "verify " + string(k.digest)}
	if err := c.memory.refusal(refused); err != nil {
		return verdict{}, err
	}
	ctx := c.life // outlives the client that asked; upstream's own time limits end it
	basis, done := c.judged(ctx, p, k)
	if done {
		v := remembered(basis)
		c.memory.addVerdict(k, v)
		return v, nil
	}
	m, err := c.fetchManifest(ctx, p, k.repo, k.digest)
	if err != nil {
		return verdict{}, err
	}
	_, refs, err := registry.ParseManifest(m.MediaType, k.digest, m.Bytes)
	if err != nil {
		return verdict{}, err
	}
	root := registry.Digest("")
	if basis == "" && signature.Accessory(refs) {
		basis = byAccessory
	}
	if basis == "" {
		var found string
		if basis, found, err = c.signed(ctx, p, k, m); basis == "" {
			// Also where its own signatures cannot be looked for: most have none, and those of its index
			// may be here.
			var unsure error
			if basis, root, unsure = c.covered(ctx, p, k); basis == "" {
				err = cmp.Or(err, unsure)
			} else {
				err = nil
			}
		}
		if err != nil {
			return verdict{}, err
		}
		if basis == "" {
			return c.mistrust(p, k, refused, found)
		}
		c.log.Info("a signature is verified", "repo", k.repo.String(), "digest", k.digest, "key", basis)
	}
	c.trust(k, basis, root, refs)
	return remembered(basis), nil
}

// judged is what the catalog says of a manifest that is good for the project as it is now. done says that
// there is no more to find out: what the manifest names is known to be as good, or it was looked at lately
// where it is only warned of.
func (c *Cache) judged(ctx context.Context, p *project, k contentKey) (basis string, done bool) {
	rows, err := c.verdicts(ctx, k)
	if err != nil {
		// Upstream has the signatures themselves.
		c.fault("read the verdicts on a manifest", err, "repo", k.repo.String(), "digest", k.digest)
	}
	accessory := false
	for _, row := range rows {
		switch {
		case row.Basis == byAccessory:
			// What an accessory names is given out as a blob. Whoever makes one names what he likes, manifests
			// too, so that is no word for these: they are looked at themselves.
			accessory = accessory || row.Whole
		case !p.Verify.trusts(row.Basis):
		case row.Whole:
			return row.Basis, true
		default:
			basis = row.Basis
		}
	}
	if basis == "" && accessory {
		return byAccessory, true
	}
	lately := len(rows) > 0 && rows[0].Basis == "" && time.Since(rows[0].At) < warnAgain
	return basis, basis == "" && lately && p.Verify.Mode == Warn
}

// covered looks for an index of the repository that names the manifest and may be trusted itself: who
// signs an index signs what is in it.
func (c *Cache) covered(ctx context.Context, p *project, k contentKey) (basis string, root registry.Digest, err error) {
	parents, err := c.namedBy(ctx, k)
	if err != nil {
		c.fault("look for what names a manifest", err, "repo", k.repo.String(), "digest", k.digest)
		return "", "", nil
	}
	var unsure error
	for _, parent := range parents {
		w, _ := c.judgements.join(contentKey{k.repo, parent}, c.work.start, func() (verdict, error) {
			return c.judge(p, contentKey{k.repo, parent})
		})
		v, err := w.wait(ctx)
		switch {
		case err == nil && v.basis != byAccessory && p.Verify.trusts(v.basis):
			return v.basis, parent, nil
		case err == nil || errors.Is(err, registry.Denied) || registry.Unknown(err):
		case !p.Offline:
			return "", "", err
		default:
			unsure = cmp.Or(unsure, err) // and the next costs no wait
		}
	}
	return "", "", unsure
}

// trust writes down that a manifest is good, and what it names. A catalog that cannot be written to
// makes a later question to upstream out of it.
func (c *Cache) trust(k contentKey, basis string, root registry.Digest, refs registry.References) {
	now := time.Now()
	rows := []catalog.Verdict{{Digest: k.digest, Basis: basis, Root: root, Whole: true, At: now}}
	named := refs.Blobs()
	if basis != byAccessory {
		named = append(named, refs.Manifests...) // a list of signatures says nothing of what is in it
	}
	for _, d := range named {
		rows = append(rows, catalog.Verdict{Digest: d.Digest, Basis: basis, Root: k.digest, At: now})
	}
	err := c.writeVerdicts(func(tx *catalog.Tx) error {
		if of, ok := strings.CutPrefix(basis, byOverride); ok {
			// It may have been taken back while the manifest was on its way, and would be in force again.
			if said, err := tx.Said(k.repo, registry.Digest(of), basis); err != nil || !said {
				return err
			}
		}
		return errors.Join(tx.DropVerdicts(k.repo, k.digest, ""), tx.PutVerdicts(k.repo, rows...))
	})
	if err != nil {
		c.fault("write a verdict", err, "repo", k.repo.String(), "digest", k.digest)
	}
	c.memory.addVerdict(k, remembered(basis))
	if basis == byAccessory {
		return // memory does not tell a blob from a manifest, see judged
	}
	for _, d := range refs.Blobs() {
		c.memory.addVerdict(contentKey{k.repo, d.Digest}, remembered(basis))
	}
}

// mistrust writes down that nothing good was found.
func (c *Cache) mistrust(p *project, k contentKey, refused refusalKey, found string) (verdict, error) {
	err := c.writeVerdicts(func(tx *catalog.Tx) error {
		return tx.PutVerdicts(k.repo, catalog.Verdict{Digest: k.digest, Reason: found, At: time.Now()})
	})
	if err != nil {
		c.fault("write a verdict", err, "repo", k.repo.String(), "digest", k.digest)
	}
	no := p.unsigned(k, found)
	c.log.Warn("an image is not signed as it should be", "repo", k.repo.String(), "digest", k.digest, "found", found, "mode", p.Verify.Mode)
	if p.Verify.Mode == Warn {
		p.figures.unverified.Add(1)
		v := remembered("")
		c.memory.addVerdict(k, v)
		return v, nil
	}
	c.memory.refuse(refused, no, p.Negative)
	return verdict{}, no
}

// verdicts asks the catalog, no longer than a request can wait for it.
func (c *Cache) verdicts(ctx context.Context, k contentKey) (rows []catalog.Verdict, err error) {
	err = c.consult(ctx, func(ctx context.Context) (err error) {
		rows, err = c.catalog.Verdicts(ctx, k.repo, k.digest)
		return err
	})
	return rows, err
}

// namedBy asks it for the manifests of a repository that name a digest.
func (c *Cache) namedBy(ctx context.Context, k contentKey) (all []registry.Digest, err error) {
	err = c.consult(ctx, func(ctx context.Context) (err error) {
		all, err = c.catalog.NamedBy(ctx, k.repo, k.digest, mostParents)
		return err
	})
	return all, err
}

// verdictPatience bounds the writing of a verdict, for which a client waits.
const verdictPatience = 5 * time.Second

func (c *Cache) writeVerdicts(write func(*catalog.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.life), verdictPatience)
	defer cancel()
	return c.catalog.Update(ctx, write)
}
