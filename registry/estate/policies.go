package estate

import (
	"context"
	"strings"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/signature"
	"roadstead/storage/catalog"
)

// maxKeys is how many texts of public keys a project may have: each is tried for each signature.
const maxKeys = 20

// checkVerify says what of a verification cannot be.
func checkVerify(v *catalog.Verify) error {
	switch {
	case v == nil:
		return nil
	case v.Mode != cache.Warn && v.Mode != cache.Enforce:
		return Wrong("verify", "verify.mode", "signatures are verified to %s or to %s", cache.Warn, cache.Enforce)
	case len(v.Keys) == 0 || len(v.Keys) > maxKeys:
		return Wrong("verify_keys", "verify.keys", "signatures are verified with 1 to %d public keys in PEM", maxKeys)
	}
	for _, text := range v.Keys {
		if _, err := signature.ParseKeys([]byte(text)); err != nil {
			return Wrong("verify_keys", "verify.key", "a public key cannot be used: %v", err)
		}
	}
	return nil
}

// Policy says what the policies of a proxy mean for a tag or a digest. ok is false of what is no proxy's.
func (e *Estate) Policy(ctx context.Context, p registry.Principal, repo registry.Repo, reference string) (state cache.Policy, ok bool, err error) {
	repo, row, err := e.within(ctx, p, registry.Read, registry.Artifact, Ref{Name: repo.Project}, repo.Name)
	if err != nil || row.Hosted() || e.config.Cache == nil {
		return state, false, err
	}
	if _, err := registry.ParseDigest(reference); err != nil && registry.CheckTag(reference) != nil {
		return state, false, Wrong("reference", "reference.wrong", "%q is neither a tag nor a digest", registry.Clip(reference))
	}
	state, err = e.config.Cache.Explain(ctx, repo, reference)
	if registry.Unknown(err) {
		return state, false, nil // the project is not served yet
	}
	if e.may(p, registry.Read, access.Cache, repo.Project) != nil {
		// Who pulls is told what is so, and not by whom and for what reason.
		state.Actor = ""
		if state.By == "override" {
			state.Why = ""
		}
	}
	return state, err == nil, err
}

// overruled finds a repository of which whoever administers its project may overrule the policies.
func (e *Estate) overruled(ctx context.Context, p registry.Principal, repo registry.Repo) (registry.Repo, error) {
	repo, row, err := e.within(ctx, p, registry.Update, Projects, Ref{Name: repo.Project}, repo.Name)
	if err == nil && row.Hosted() {
		err = invalid("overrule.hosted", "project %s is no proxy: what was pushed to it waits for nothing", repo.Project)
	}
	return repo, err
}

// Release lets a tag follow upstream that is held where it was, and has it follow at once.
func (e *Estate) Release(ctx context.Context, p registry.Principal, repo registry.Repo, tag string) error {
	repo, err := e.overruled(ctx, p, repo)
	if err != nil {
		return err
	}
	err = e.access.Audited(ctx, p.Name(), registry.Update, access.Cache, repo.String()+":"+tag, "the tag follows upstream now", func(tx *catalog.Tx) error {
		_, err := tx.Release(repo, tag)
		return missing(err, "release.none", "%s:%s is not held: nothing has to be released", repo, tag)
	})
	if err != nil {
		return err
	}
	// To the end, whoever waits for it no longer.
	_, _, err = e.config.Cache.Refresh(context.WithoutCancel(ctx), repo, tag)
	return err
}

// maxReason is how long the reason of an override may be, in bytes.
const maxReason = 1000

// Override has a digest served that no signature is good for, and what it names. Why is for the audit log
// and for whoever asks later.
func (e *Estate) Override(ctx context.Context, p registry.Principal, repo registry.Repo, d registry.Digest, reason string) error {
	repo, err := e.overruled(ctx, p, repo)
	if err != nil {
		return err
	}
	reason = strings.TrimSpace(reason)
	if reason == "" || len(reason) > maxReason || !text(reason) {
		return Wrong("reason", "override.reason", "write in up to %d bytes why it is served without a signature: it is noted in the audit log", maxReason)
	}
	err = e.access.Audited(ctx, p.Name(), registry.Update, access.Cache, repo.String()+"@"+d.String(), "served without a signature: "+reason, func(tx *catalog.Tx) error {
		return cache.Override(tx, repo, d, p.Name(), reason)
	})
	if err == nil {
		e.config.Cache.Reconsider(repo)
	}
	return err
}

// Withdraw takes an override back.
func (e *Estate) Withdraw(ctx context.Context, p registry.Principal, repo registry.Repo, d registry.Digest) error {
	repo, err := e.overruled(ctx, p, repo)
	if err != nil {
		return err
	}
	err = e.access.Audited(ctx, p.Name(), registry.Delete, access.Cache, repo.String()+"@"+d.String(), "not served without a signature any more", func(tx *catalog.Tx) error {
		return cache.Withdraw(tx, repo, d)
	})
	if err == nil {
		e.config.Cache.Reconsider(repo)
	}
	return err
}
