package hosted

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// push is a manifest on its way in.
type push struct {
	repo  registry.Repo
	tags  []string
	m     registry.Manifest
	refs  registry.References
	needs []need
}

// need is what a manifest is made of and the repository has to have.
type need struct {
	digest   registry.Digest
	manifest bool // as a manifest
}

// PutManifest stores a manifest, then the links to it, then its row, and answers when all of that
// is synced. It checks twice what it needs and what forbids it: before anything is written, so
// that a refused push leaves nothing behind, and with the row, when nobody else can write.
func (r *Registry) PutManifest(ctx context.Context, repo registry.Repo, in registry.ManifestPush) (registry.Pushed, error) {
	proj, err := r.project(repo)
	if err != nil {
		return registry.Pushed{}, err
	}
	p, err := newPush(repo, in)
	if err != nil {
		return registry.Pushed{}, err
	}
	if err := r.bring(ctx, p.bringing(r, proj)); err != nil {
		return registry.Pushed{}, r.refuse(err)
	}
	r.totals.manifests.Add(1)
	r.totals.bytes.Add(p.m.Size)
	pushed := registry.Pushed{Digest: p.m.Digest}
	if p.refs.Subject != nil {
		pushed.Subject = p.refs.Subject.Digest
	}
	return pushed, nil
}

// newPush reads what is being pushed and refuses what two readers could understand in two ways.
func newPush(repo registry.Repo, in registry.ManifestPush) (*push, error) {
	if len(in.Bytes) > registry.MaxManifest {
		return nil, &registry.Fault{Code: registry.TooLarge, Message: fmt.Sprintf("the manifest is %d bytes long, at most %d are allowed", len(in.Bytes), registry.MaxManifest)}
	}
	d := in.Digest
	if d == "" {
		d = digest.SHA256.FromBytes(in.Bytes)
	}
	if got := d.Algorithm().FromBytes(in.Bytes); got != d {
		return nil, &registry.Fault{Code: registry.DigestInvalid, Message: fmt.Sprintf("the manifest's bytes are those of %s and not of %s", got, d)}
	}
	m, refs, err := registry.ParseManifest(in.ContentType, d, in.Bytes)
	if err == nil {
		err = checkType(in.ContentType, m)
	}
	if err != nil {
		return nil, &registry.Fault{Code: registry.ManifestInvalid, Message: err.Error()}
	}
	tags := slices.Compact(slices.Sorted(slices.Values(in.Tags)))
	return &push{repo: repo, tags: tags, m: m, refs: refs, needs: needs(refs)}, nil
}

// checkType is stricter than reading: what a manifest is must follow from its bytes, because they
// are stored once, whoever pushes them. So the sender calls it what it calls itself (FAULTS B1),
// and what calls itself nothing is one of the OCI types, which its content tells apart.
func checkType(contentType string, m registry.Manifest) error {
	if contentType == "" {
		contentType = m.MediaType
	}
	if base, _, err := mime.ParseMediaType(contentType); err == nil {
		contentType = base
	}
	if !strings.EqualFold(contentType, m.MediaType) {
		return fmt.Errorf("its Content-Type is %q and its media type %q: send it as what it is", registry.Clip(contentType), registry.Clip(m.MediaType))
	}
	own, _, err := registry.ParseManifest("", m.Digest, m.Bytes)
	if err == nil && own.MediaType != m.MediaType {
		err = fmt.Errorf("it was sent as %q and has to say so in its mediaType", registry.Clip(m.MediaType))
	}
	return err
}

// needs lists what the repository has to have, each digest once. Layers with URLs may live
// elsewhere for good (FAULTS B15), and a subject may come later.
func needs(refs registry.References) []need {
	var all []need
	seen := map[need]bool{}
	add := func(n need) {
		if !seen[n] {
			seen[n] = true
			all = append(all, n)
		}
	}
	for _, b := range refs.Blobs() {
		if len(b.URLs) == 0 {
			add(need{digest: b.Digest})
		}
	}
	for _, m := range refs.Manifests {
		add(need{digest: m.Digest, manifest: slices.Contains(registry.ManifestTypes, m.MediaType)})
	}
	return all
}

func (p *push) digests() []registry.Digest {
	all := make([]registry.Digest, len(p.needs))
	for i, n := range p.needs {
		all[i] = n.digest
	}
	return all
}

// mostNamed is how many missing blobs an error names.
const mostNamed = 5

// missing says what the repository lacks of what it has to have, or nil.
func (p *push) missing(has map[registry.Digest]bool) error {
	var lacking []string
	for _, n := range p.needs {
		if manifest, ok := has[n.digest]; !ok || n.manifest && !manifest {
			lacking = append(lacking, string(n.digest))
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	named := strings.Join(lacking[:min(len(lacking), mostNamed)], ", ")
	if more := len(lacking) - mostNamed; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return &registry.Fault{Code: registry.ManifestBlobUnknown, Message: fmt.Sprintf("%s does not have %s: push that first", p.repo, named)}
}

// mayPush says why a push would be refused, as far as that is known before it.
func (r *Registry) mayPush(ctx context.Context, proj *project, p *push) error {
	has, err := r.catalog.Has(ctx, p.repo, p.digests())
	if err != nil {
		return trouble(err)
	}
	if err := p.missing(has); err != nil {
		return err
	}
	if err := r.mayTag(ctx, proj, p.repo, p.m.Digest, p.tags); err != nil {
		return err
	}
	return r.mayHold(ctx, proj, p.m.Digest, p.m.Size)
}

// mayTag says why some tags must not be pointed to d, as far as that is known before it is done.
func (r *Registry) mayTag(ctx context.Context, proj *project, repo registry.Repo, d registry.Digest, tags []string) error {
	for _, tag := range tags {
		t, err := r.catalog.Tag(ctx, repo, tag)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return trouble(err)
		}
		if err := proj.mayPoint(repo, tag, t, d); err != nil {
			return err
		}
	}
	return nil
}

// bringing stores the manifest, links it, and points its tags to it.
func (p *push) bringing(r *Registry, proj *project) bringing {
	return bringing{
		repo: p.repo, digest: p.m.Digest, tags: p.tags, project: proj.ID,
		check: func(ctx context.Context) error { return r.mayPush(ctx, proj, p) },
		place: func(ctx context.Context) error {
			return r.store.PutManifest(ctx, p.repo.String(), p.m.Digest, p.m.Bytes, p.tags...)
		},
		write: p.write,
	}
}

// write makes the rows of a manifest and its tags.
func (p *push) write(tx *catalog.Tx, proj *project) error {
	has, err := tx.Has(p.repo, p.digests())
	if err != nil {
		return err
	}
	if err := p.missing(has); err != nil {
		return err
	}
	if err := tx.AddManifest(p.repo, p.m, p.refs); err != nil {
		return err
	}
	return point(tx, proj, p.repo, p.m.Descriptor, p.tags)
}

// point makes the rows of tags that point to a manifest, if the rules of the project allow it.
func point(tx *catalog.Tx, proj *project, repo registry.Repo, m registry.Descriptor, tags []string) error {
	now := time.Now()
	for _, tag := range tags {
		was, err := tx.Tag(repo, tag)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		if err := proj.mayPoint(repo, tag, was, m.Digest); err != nil {
			return err
		}
		t := catalog.Tag{Descriptor: m, CheckedAt: now, ChangedAt: now}
		if was.Digest == m.Digest {
			t.ChangedAt = was.ChangedAt
		}
		if err := tx.PutTag(repo, tag, t); err != nil {
			return err
		}
		if err := tx.Linked(catalog.Unlinked{Repo: repo, Tag: tag, Digest: m.Digest}); err != nil {
			return err
		}
	}
	return nil
}
