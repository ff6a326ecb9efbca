package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"roadstead/registry"
)

// platform is what an index is searched for.
type platform struct{ os, architecture, variant string }

func parsePlatform(text string) (platform, error) {
	os, rest, ok := strings.Cut(text, "/")
	architecture, variant, named := strings.Cut(rest, "/")
	if !ok || os == "" || architecture == "" || named && variant == "" || strings.Contains(variant, "/") {
		return platform{}, &registry.Fault{Code: registry.ManifestInvalid, Message: fmt.Sprintf("%q is no platform: write os/architecture or os/architecture/variant, such as linux/amd64 or linux/arm/v7", registry.Clip(text))}
	}
	return platform{os, architecture, variant}, nil
}

func (p platform) String() string {
	return strings.TrimSuffix(p.os+"/"+p.architecture+"/"+p.variant, "/")
}

// matches reports whether an index's entry is for p. Without a variant every one is; v8 is the only
// one of arm64 that people leave out on either side.
func (p platform) matches(d registry.Descriptor) bool {
	is := d.Platform
	if is == nil || is.OS != p.os || is.Architecture != p.architecture {
		return false
	}
	variant := is.Variant
	if variant == "" && p.architecture == "arm64" {
		variant = "v8"
	}
	return p.variant == "" || p.variant == variant
}

// wanted reports whether an entry of an index is to be brought. One that says nothing of its
// platform may be anything.
func (w *warming) wanted(d registry.Descriptor) bool {
	return len(w.platforms) == 0 || d.Platform == nil || slices.ContainsFunc(w.platforms, func(p platform) bool { return p.matches(d) })
}

// manifest brings a manifest and, of an index, those below it, and notes their blobs. What is wrong
// with one below is noted as well; only what is wrong with this one is returned.
func (w *warming) manifest(ctx context.Context, d registry.Digest, trace *registry.Trace) error {
	if w.seen[d] {
		return nil
	}
	if err := w.room(); err != nil {
		return err
	}
	w.seen[d] = true
	w.hold(d)
	m, err := w.cache.Manifest(registry.WithTrace(ctx, trace), w.repo, d)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	if fetched(trace) {
		w.done.Bytes += m.Size
	}
	_, refs, err := registry.ParseManifest(m.MediaType, d, m.Bytes)
	if err != nil {
		return err
	}
	if refs.Manifests != nil {
		return w.index(ctx, refs.Manifests)
	}
	return w.image(refs.Blobs())
}

// fetched reports whether an answer came from upstream.
func fetched(t *registry.Trace) bool {
	return t.Outcome == registry.Miss || t.Outcome == registry.Join
}

func (w *warming) room() error {
	if len(w.seen)+len(w.blobs) < mostWarmed {
		return nil
	}
	return &registry.Fault{Code: registry.TooLarge, Message: fmt.Sprintf("it names more than %d manifests and blobs: choose a platform", mostWarmed)}
}

func (w *warming) index(ctx context.Context, entries []registry.Descriptor) error {
	missing := slices.Clone(w.platforms)
	for _, entry := range entries {
		missing = slices.DeleteFunc(missing, func(p platform) bool { return entry.Platform == nil || p.matches(entry) })
		if !w.wanted(entry) {
			continue
		}
		if err := w.manifest(ctx, entry.Digest, &registry.Trace{}); err != nil {
			if ctx.Err() != nil || errors.Is(err, registry.TooLarge) || registry.Passing(err) {
				return err
			}
			w.fail(err)
		}
	}
	for _, p := range missing {
		w.fail(&registry.Fault{Code: registry.ManifestUnknown, Message: fmt.Sprintf("the index has no image for %s", p)})
	}
	return nil
}

func (w *warming) image(blobs []registry.Descriptor) error {
	var image []*warmBlob
	for _, desc := range blobs {
		b := w.blobs[desc.Digest]
		if b == nil {
			if err := w.room(); err != nil {
				return err
			}
			b = &warmBlob{Descriptor: desc}
			w.blobs[desc.Digest] = b
			w.order = append(w.order, b)
			w.total += desc.Size
			w.hold(desc.Digest)
		}
		image = append(image, b)
	}
	if !w.apart {
		w.images = append(w.images, image)
	}
	return nil
}
