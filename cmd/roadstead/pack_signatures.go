package main

import (
	"context"
	"errors"
	"fmt"

	"roadstead/registry"
	"roadstead/registry/archive"
	"roadstead/registry/signature"
	"roadstead/rewrite"
	"roadstead/storage/catalog"
)

// looks reports whether the signatures of a repository's images go along: somebody wants them, or its
// project looks at them, and so will that of the other side.
func (p *packing) looks(repo registry.Repo) bool {
	if p.docker {
		return false
	}
	if p.signatures {
		return true
	}
	for _, one := range p.cfg.proxies() {
		if one.Name == repo.Project {
			return one.Verify.Mode != ""
		}
	}
	return false
}

// take takes an image in, with the signatures of what it is made of.
func (p *packing) take(ctx context.Context, f found, name rewrite.Image, repo registry.Repo) error {
	p.add(f)
	if f.image.Accessory || !p.looks(repo) {
		return nil
	}
	signed := false
	for _, d := range f.manifests {
		all, err := p.signaturesOf(ctx, repo, d)
		if err != nil {
			return err
		}
		for _, one := range all {
			signed = true
			called := rewrite.Image{Host: name.Host, Name: name.Name, Tag: one.tag}
			if one.tag == "" {
				called.Digest = one.digest
			}
			err := p.accessory(ctx, called, registry.Descriptor{MediaType: one.mediaType, Digest: one.digest})
			if err != nil {
				return err
			}
		}
	}
	if !signed {
		fmt.Fprintf(p.std.out, "%s: no signature of it is here, and none goes along; bring those that there are with: %s\n", name, p.warm(name)+" --signatures")
	}
	return nil
}

// accessory takes a signature in, if it is here whole.
func (p *packing) accessory(ctx context.Context, name rewrite.Image, d registry.Descriptor) error {
	f := found{seen: map[registry.Digest]bool{}}
	if err := f.gather(ctx, p, d); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(f.missing) > 0 || f.lacks != "" || len(f.contents) == 0 {
		fmt.Fprintf(p.std.out, "%s, a signature, is left out: it is not here whole\n", name)
		return nil
	}
	top := f.contents[0]
	f.image = archive.Image{Name: name.String(), Accessory: true, Descriptor: registry.Descriptor{MediaType: top.MediaType, Digest: top.Digest, Size: top.Size}}
	p.add(f)
	return nil
}

// signed is a manifest of signatures.
type signed struct {
	tag       string // cosign's own; "": it refers to what it signs
	digest    registry.Digest
	mediaType string
}

// signaturesOf finds those of a manifest that are here.
func (p *packing) signaturesOf(ctx context.Context, repo registry.Repo, d registry.Digest) (all []signed, err error) {
	tag := signature.Tag(d)
	t, err := p.data.Catalog.Tag(ctx, repo, tag)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	if err == nil && !t.Gone && t.Digest != "" {
		all = append(all, signed{tag, t.Digest, t.MediaType})
	}
	list, err := p.data.Catalog.Referrers(ctx, repo, d, "")
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if signature.IsBundle(r.ArtifactType) {
			all = append(all, signed{"", r.Digest, r.MediaType})
		}
	}
	return all, nil
}
