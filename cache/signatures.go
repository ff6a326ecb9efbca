package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/registry/signature"
)

// mostSignatures bounds how many signatures of one image are looked at, and mostReferrers how many
// manifests that refer to it. Whoever can push to upstream can attach any number.
const (
	mostSignatures = 20
	mostReferrers  = 50
)

// findings are what was found instead of a good signature, counted.
type findings map[string]int

func (f findings) String() string {
	if len(f) == 0 {
		return "no signature was found"
	}
	var all []string
	for _, what := range slices.Sorted(maps.Keys(f)) {
		all = append(all, fmt.Sprintf("%d × %s", f[what], what))
	}
	return strings.Join(all, "; ")
}

// signed looks for a good signature of a manifest: below cosign's tag, and among the bundles that refer to
// it. Upstream is asked itself and not by way of another node, which would have to trust what it passes
// on; when it does not answer, what is here of them has to do. Without one, found says what there was
// instead; an error, that upstream did not answer and nothing good is here.
func (c *Cache) signed(ctx context.Context, p *project, k contentKey, m registry.Manifest) (key, found string, err error) {
	if p.Offline {
		return c.signedHere(ctx, p, k, m, errOffline)
	}
	up := p.Upstream
	if d, ok := up.(interface{ Direct() registry.Reader }); ok {
		up = d.Direct()
	}
	s := search{in: up, keys: p.Verify.Keys, k: k, manifest: m, found: findings{}}
	key, err = s.run(ctx)
	if err == nil {
		return key, s.found.String(), nil
	}
	p.health.note(err)
	return c.signedHere(ctx, p, k, m, err)
}

// signedHere is signed where upstream cannot be asked, and why.
func (c *Cache) signedHere(ctx context.Context, p *project, k contentKey, m registry.Manifest, why error) (key, found string, err error) {
	s := search{in: here{c}, keys: p.Verify.Keys, k: k, manifest: m, found: findings{}}
	if key, err := s.run(ctx); key != "" || err != nil {
		return key, "", err
	}
	if errors.Is(why, registry.Throttled) {
		return "", "", why
	}
	no := &registry.Fault{
		Code: registry.Unavailable, Err: why,
		Message: fmt.Sprintf("the signature of %s@%s cannot be looked for now, and project %s serves nothing unsigned: upstream does not answer, and here is none (%s)", k.repo, k.digest, p.Name, s.found),
	}
	if p.Offline {
		no.Answered = true
		no.Message = fmt.Sprintf("%s@%s has no signature here that project %s trusts (%s), this server is offline, and that project serves nothing unsigned: import the image with its signatures, or have an administrator let it through", k.repo, k.digest, p.Name, s.found)
	}
	return "", "", no
}

// search is one search for a signature.
type search struct {
	in interface {
		Resolve(context.Context, registry.Repo, string) (registry.Descriptor, error)
		Manifest(context.Context, registry.Repo, registry.Digest) (registry.Manifest, error)
		Blob(context.Context, registry.Repo, registry.Digest) (registry.Blob, error)
		Referrers(context.Context, registry.Repo, registry.Digest, string) ([]registry.Descriptor, error)
	}
	keys     signature.Keys
	k        contentKey
	manifest registry.Manifest
	found    findings
	tried    int
}

// run returns the ID of the key of the first good signature, or "". An error says that not all was seen.
func (s *search) run(ctx context.Context) (key string, err error) {
	key, tagErr := s.tagged(ctx)
	if key != "" {
		return key, nil
	}
	key, listErr := s.referred(ctx)
	if key != "" {
		return key, nil
	}
	return "", cmp.Or(tagErr, listErr)
}

// tagged looks at the layers of the manifest that cosign's own tag leads to.
func (s *search) tagged(ctx context.Context) (key string, err error) {
	tag := signature.Tag(s.k.digest)
	var m registry.Manifest
	if t, ok := s.in.(interface {
		Tagged(context.Context, registry.Repo, string) (registry.Manifest, error)
	}); ok {
		m, err = t.Tagged(ctx, s.k.repo, tag)
	} else {
		var desc registry.Descriptor
		if desc, err = s.in.Resolve(ctx, s.k.repo, tag); err == nil {
			m, err = s.in.Manifest(ctx, s.k.repo, desc.Digest)
		}
	}
	if registry.Unknown(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return s.layers(ctx, m, func(l registry.Descriptor, content []byte) (signature.Key, error) {
		return s.keys.Layer(s.k.digest, l.Annotations, content)
	}, func(kind string) bool { return kind == signature.MediaTypePayload })
}

// referred looks at the bundles that refer to the manifest.
func (s *search) referred(ctx context.Context) (key string, err error) {
	list, err := s.in.Referrers(ctx, s.k.repo, s.k.digest, "")
	if registry.Unknown(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	list = slices.DeleteFunc(slices.Clone(list), func(d registry.Descriptor) bool {
		return d.ArtifactType != "" && !signature.IsBundle(d.ArtifactType) || d.Size > registry.MaxManifest
	})
	for _, d := range list[:min(len(list), mostReferrers)] {
		m, err := s.in.Manifest(ctx, s.k.repo, d.Digest)
		if registry.Unknown(err) {
			continue // it has just been removed
		}
		if err != nil {
			return "", err
		}
		key, err := s.layers(ctx, m, func(_ registry.Descriptor, content []byte) (signature.Key, error) {
			return s.keys.Bundle(s.k.digest, s.manifest.Bytes, content)
		}, signature.IsBundle)
		if key != "" || err != nil {
			return key, err
		}
	}
	return "", nil
}

// layers tries the layers of some kind of a manifest, each of which is a signature.
func (s *search) layers(ctx context.Context, m registry.Manifest, verify func(registry.Descriptor, []byte) (signature.Key, error), is func(kind string) bool) (string, error) {
	_, refs, err := registry.ParseManifest(m.MediaType, m.Digest, m.Bytes)
	if err != nil {
		s.found["a manifest that cannot be read"]++
		return "", nil
	}
	for _, l := range refs.Layers {
		if !is(l.MediaType) {
			continue
		}
		if s.tried++; s.tried > mostSignatures {
			s.found["more than are looked at"]++
			break
		}
		content, err := s.read(ctx, l)
		if errors.Is(err, errLarge) || registry.Unknown(err) {
			s.found["a signature that is not there, or too large"]++
			continue
		}
		if err != nil {
			return "", err
		}
		key, err := verify(l, content)
		if err == nil {
			return key.ID, nil
		}
		if !errors.Is(err, signature.ErrAttestation) { // which nobody takes for a signature
			s.found["a signature, but "+err.Error()]++
		}
	}
	return "", nil
}

var errLarge = errors.New("it is too large for a signature")

// read reads a blob whole, which proves it.
func (s *search) read(ctx context.Context, d registry.Descriptor) ([]byte, error) {
	if d.Size > signature.MaxSize {
		return nil, errLarge
	}
	b, err := s.in.Blob(ctx, s.k.repo, d.Digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	content, err := io.ReadAll(io.LimitReader(b, signature.MaxSize+1))
	if err == nil && len(content) > signature.MaxSize {
		err = errLarge
	}
	return content, err
}
