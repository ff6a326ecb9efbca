package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"roadstead/registry"
	"roadstead/registry/archive"
	"roadstead/registry/signature"
	"roadstead/rewrite"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// packing is one export.
type packing struct {
	cfg       Config // with the proxies that somebody has made
	data      *Data
	std       streams
	table     *rewrite.Table
	self      []string
	platforms []platform // none: all

	signatures bool // of all images, and not only where they are looked at
	docker     bool // the format, which can carry none

	images   []archive.Image
	sizes    []int64 // of each, with all that it is made of
	contents []registry.Descriptor
	manifest map[registry.Digest]bool
	carried  []archive.Carried // all that the other side has then
	seen     map[registry.Digest]bool
	named    map[string]bool
}

func newPacking(ctx context.Context, cfg Config, data *Data, std streams) (*packing, error) {
	now, err := readHolding(ctx, data.Catalog)
	if err != nil {
		return nil, err
	}
	p := &packing{
		cfg: now.effective(cfg), data: data, std: std,
		manifest: map[registry.Digest]bool{}, seen: map[registry.Digest]bool{}, named: map[string]bool{},
	}
	if u, err := url.Parse(cfg.URL); err == nil && u.Host != "" {
		p.self = append(p.self, u.Host)
	}
	p.table, err = newTable(p.cfg, now.beside(p.cfg))
	return p, err
}

// choose finds the images that are to be written. Of those that are named none may lack anything.
func (p *packing) choose(ctx context.Context, names []string, project string) error {
	lacking := 0
	for _, text := range names {
		name, err := rewrite.ParseImage(text)
		if err != nil {
			return err
		}
		repo, err := p.table.Place(name, p.self...)
		if err != nil {
			return err
		}
		found, err := p.image(ctx, name, repo)
		if err != nil {
			return err
		}
		if found.lacks == "" {
			if err := p.take(ctx, found, name, repo); err != nil {
				return err
			}
			continue
		}
		lacking++
		fmt.Fprintf(p.std.out, "%s: %s; bring it with: %s\n", name, found.lacks, p.warm(name))
	}
	if lacking > 0 {
		return fmt.Errorf("%d of %d images are not here whole, and nothing is written", lacking, len(names))
	}
	if project == "" {
		return nil
	}
	return p.all(ctx, project)
}

// warm is the command that brings an image.
func (p *packing) warm(name rewrite.Image) string {
	text := "roadstead warm"
	for _, one := range p.platforms {
		text += " --platform " + one.String()
	}
	return text + " " + name.String()
}

// all chooses the images of a project that are here whole, and says which are not.
func (p *packing) all(ctx context.Context, project string) error {
	host, err := p.host(project)
	if err != nil {
		return err
	}
	before := len(p.images)
	err = p.data.Catalog.ProjectTags(ctx, project, func(repo registry.Repo, tag string, d registry.Digest) error {
		name := rewrite.Image{Host: host, Name: repo.Name, Tag: tag}
		if host != project && slices.Contains(p.self, host) {
			name.Name = repo.String()
		}
		found, err := p.image(ctx, name, repo)
		if err != nil {
			return err
		}
		if found.lacks == "" {
			return p.take(ctx, found, name, repo)
		}
		fmt.Fprintf(p.std.out, "%s is left out: %s\n", name, found.lacks)
		return nil
	})
	if err == nil && len(p.images) == before {
		err = fmt.Errorf("no image of project %s is here whole", project)
	}
	return err
}

// host is what images of a project are called by: its registry, or this server.
func (p *packing) host(project string) (string, error) {
	for _, one := range p.cfg.proxies() {
		if one.Name == project && len(one.Names) > 0 {
			return one.Names[0], nil
		}
	}
	switch {
	case !p.table.Known(project):
		return "", fmt.Errorf("there is no project %s", project)
	case len(p.self) == 0:
		return "", fmt.Errorf("how images of project %s are called is not known: write \"url\" into the configuration, what clients call this server", project)
	}
	return p.self[0], nil
}

// found is an image with what it is made of.
type found struct {
	image     archive.Image
	contents  []registry.Descriptor
	manifests []registry.Digest
	seen      map[registry.Digest]bool
	missing   []registry.Digest
	lacks     string // why it cannot be written; "": it can
}

// image finds an image.
func (p *packing) image(ctx context.Context, name rewrite.Image, repo registry.Repo) (found, error) {
	f := found{image: archive.Image{Name: name.String()}, seen: map[registry.Digest]bool{}}
	top := registry.Descriptor{Digest: name.Digest}
	if top.Digest == "" {
		t, err := p.data.Catalog.Tag(ctx, repo, name.Tag)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && (t.Gone || t.Digest == "") {
			f.lacks = "it is not here"
			return f, nil
		}
		if err != nil {
			return f, err
		}
		top = t.Descriptor
	}
	has, err := p.data.Catalog.Find(ctx, repo, top.Digest)
	if err != nil {
		return f, err
	}
	if !has.Linked {
		f.lacks = "it is not here"
		return f, nil
	}
	m, refs, err := p.read(ctx, registry.Descriptor{MediaType: has.MediaType, Digest: top.Digest})
	if errors.Is(err, storage.ErrNotFound) {
		f.lacks = "its manifest is not here"
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	top = m.Descriptor
	if f.image.Accessory = signature.OfDigest(name.Tag) && signature.Accessory(refs); f.image.Accessory && p.docker {
		f.lacks = "it is a signature or the like, and an archive of Docker's has nothing but images"
		return f, nil
	}
	keeps := false // the index, because it is what is signed
	if refs.Manifests != nil && p.looks(repo) {
		of, err := p.signaturesOf(ctx, repo, top.Digest)
		if err != nil {
			return f, err
		}
		keeps = len(of) > 0
	}
	if refs.Manifests != nil && name.Digest == "" && len(p.platforms) == 1 && !keeps {
		// Under a tag the image for one platform is as good as the index of many.
		i := slices.IndexFunc(refs.Manifests, p.platforms[0].matches)
		if i < 0 {
			f.lacks = "it has no image for " + p.platforms[0].String()
			return f, nil
		}
		top = refs.Manifests[i]
	}
	f.image.Descriptor = registry.Descriptor{MediaType: top.MediaType, Digest: top.Digest, Size: top.Size, Platform: top.Platform}
	if err := f.gather(ctx, p, f.image.Descriptor); err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	if n := len(f.missing); n > 0 && f.lacks == "" {
		f.lacks = fmt.Sprintf("%s of what it is made of is not here", f.missing[0])
		if n > 1 {
			f.lacks = fmt.Sprintf("%s and %d more of what it is made of are not here", f.missing[0], n-1)
		}
	}
	return f, nil
}

func (p *packing) read(ctx context.Context, d registry.Descriptor) (registry.Manifest, registry.References, error) {
	body, err := p.data.Store.Read(ctx, d.Digest, registry.MaxManifest)
	if err != nil {
		return registry.Manifest{}, registry.References{}, err
	}
	return registry.ParseManifest(d.MediaType, d.Digest, body)
}

// gather finds what a manifest is made of, itself first, and of an index what is wanted of it.
func (f *found) gather(ctx context.Context, p *packing, d registry.Descriptor) error {
	if f.seen[d.Digest] {
		return nil
	}
	f.seen[d.Digest] = true
	m, refs, err := p.read(ctx, d)
	if errors.Is(err, storage.ErrNotFound) {
		f.missing = append(f.missing, d.Digest)
		return nil
	}
	if err != nil {
		return err
	}
	f.contents = append(f.contents, m.Descriptor)
	f.manifests = append(f.manifests, m.Digest)
	for _, want := range p.platforms {
		if refs.Manifests != nil && !slices.ContainsFunc(refs.Manifests, func(c registry.Descriptor) bool { return c.Platform == nil || want.matches(c) }) {
			f.lacks = "it has no image for " + want.String()
			return nil
		}
	}
	for _, child := range refs.Manifests {
		wanted := len(p.platforms) == 0 || child.Platform == nil || slices.ContainsFunc(p.platforms, func(one platform) bool { return one.matches(child) })
		if !wanted {
			continue
		}
		if err := f.gather(ctx, p, child); err != nil {
			return err
		}
	}
	for _, blob := range refs.Blobs() {
		if f.seen[blob.Digest] {
			continue
		}
		f.seen[blob.Digest] = true
		size, err := p.data.Store.Stat(ctx, blob.Digest)
		switch {
		case errors.Is(err, storage.ErrNotFound) && len(blob.URLs) > 0: // it lives elsewhere for good
		case errors.Is(err, storage.ErrNotFound) || err == nil && size != blob.Size:
			f.missing = append(f.missing, blob.Digest)
		case err != nil:
			return err
		default:
			f.contents = append(f.contents, blob)
		}
	}
	return nil
}

// add takes an image in, and of its contents what no other has brought.
func (p *packing) add(f found) {
	if p.named[f.image.Name] {
		return
	}
	p.named[f.image.Name] = true
	var size int64
	for _, d := range f.contents {
		size += d.Size
		if !p.seen[d.Digest] {
			p.seen[d.Digest] = true
			p.contents = append(p.contents, d)
			p.carried = append(p.carried, archive.Carried{Digest: d.Digest, Size: d.Size, Name: f.image.Name})
		}
	}
	for _, d := range f.manifests {
		p.manifest[d] = true
	}
	p.images, p.sizes = append(p.images, f.image), append(p.sizes, size)
}
