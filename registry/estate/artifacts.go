package estate

import (
	"context"
	"errors"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Shown is an artifact with all that people are shown of it. All of it but sizes and digests is its
// author's word.
type Shown struct {
	catalog.Artifact
	Look
	Repo      registry.Repo
	Manifest  []byte // as it is stored; nil: it is not here
	Missing   bool   // it has a configuration that is not here, or cannot be read
	Platforms []Platform
	Referrers []registry.Descriptor
}

// Platform is a manifest of an index.
type Platform struct {
	registry.Descriptor
	Stored bool  // it is here
	Total  int64 // of it and all it is made of, in bytes; 0: not known
}

// mostWeighed bounds of how many images of an index it is looked up how large they are. The largest
// honest ones have some thirty.
const mostWeighed = 64

// Shown returns what a tag or a digest stands for in a repository. It reads what is here and asks no
// upstream, and it is no pull.
func (e *Estate) Shown(ctx context.Context, p registry.Principal, repo registry.Repo, reference string) (Shown, error) {
	repo, row, err := e.within(ctx, p, registry.Read, registry.Artifact, Ref{Name: repo.Project}, repo.Name)
	if err != nil {
		return Shown{}, err
	}
	is, err := e.artifactFor(ctx, p, repo, reference)
	if err != nil {
		return Shown{}, err
	}
	s := Shown{Artifact: is, Look: e.Look(ctx, repo, is), Repo: repo, Manifest: e.read(ctx, repo, is.Digest, registry.MaxManifest)}
	// Every configuration of an image says for which system it is.
	s.Missing = registry.IsImageConfig(s.ConfigType) && s.OS == "" && s.Architecture == ""
	children, err := e.catalog.Children(ctx, repo, is.Digest)
	if err != nil {
		return Shown{}, missing(err, "artifact.unknown", "there is no artifact %s in %s", registry.Clip(reference), repo)
	}
	stored := map[registry.Digest]bool{}
	for _, c := range children {
		stored[c.Digest] = c.Stored
	}
	for _, d := range s.Children {
		platform := Platform{Descriptor: d, Stored: stored[d.Digest]}
		if platform.Stored && len(s.Platforms) < mostWeighed {
			if child, err := e.catalog.Artifact(ctx, repo, d.Digest.String()); err == nil {
				platform.Total = child.Total
			}
		}
		s.Platforms = append(s.Platforms, platform)
	}
	if row.Hosted() {
		s.Referrers, err = e.catalog.DirectReferrers(ctx, repo, is.Digest, "")
	} else {
		s.Referrers, err = e.catalog.Referrers(ctx, repo, is.Digest, "")
	}
	return s, err
}

// Fresh says how fresh a tag of a proxy is, and whether a pin holds it; ok is false for what has no
// upstream.
func (e *Estate) Fresh(ctx context.Context, p registry.Principal, repo registry.Repo, tag string) (f cache.Freshness, pinned, ok bool, err error) {
	repo, row, err := e.within(ctx, p, registry.Read, registry.Artifact, Ref{Name: repo.Project}, repo.Name)
	if err != nil || row.Hosted() || e.config.Cache == nil {
		return f, false, false, err
	}
	f, err = e.config.Cache.Freshness(ctx, repo, tag)
	if registry.Unknown(err) {
		return f, false, false, nil
	}
	return f, e.config.Cache.Pinned(repo, tag), err == nil, err
}

// Refresh asks upstream now what a tag of a proxy points to, and reports whether that is another
// manifest than before.
func (e *Estate) Refresh(ctx context.Context, p registry.Principal, repo registry.Repo, tag, remote string) (moved bool, err error) {
	repo, row, err := e.within(ctx, p, registry.Update, access.Cache, Ref{Name: repo.Project}, repo.Name)
	if err != nil {
		return false, err
	}
	if row.Hosted() || registry.CheckTag(tag) != nil {
		return false, invalid("refresh.hosted", "only a tag of a proxy has an upstream to ask")
	}
	moved, _, err = e.config.Cache.Refresh(ctx, repo, tag)
	outcome := registry.Done
	if err != nil {
		outcome = registry.Failed
		if errors.Is(err, registry.Denied) {
			outcome = registry.Refused
		}
	}
	e.access.Record(registry.Event{
		Principal: p, Action: registry.Update, Resource: registry.Resource{Kind: access.Cache, Repo: repo},
		Reference: tag, Remote: remote, Outcome: outcome,
	})
	return moved, err
}

// MayDelete reports whether somebody may take something of a kind out of a project: an artifact, a tag
// or a repository.
func (e *Estate) MayDelete(p registry.Principal, project catalog.Project, kind registry.Kind) bool {
	if !project.Hosted() {
		kind = access.Cache
	}
	return e.may(p, registry.Delete, kind, project.Name) == nil
}
