package cache

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"roadstead/registry"
	"roadstead/registry/signature"
)

// What a warm-up has brought with its signatures is verified by these where upstream cannot be asked, the
// first time that somebody looks; and nothing else is.
func TestSignaturesThatAreHere(t *testing.T) {
	const repo = "team/app"
	ours, theirs := newSigner(t), newSigner(t)
	o := newOrigin()
	tagged, bundled := o.putImage(t, repo, "tagged", []byte("signed by tag")), o.putImage(t, repo, "bundled", []byte("signed by bundle"))
	ours.tagSignature(t, o, repo, tagged.manifest.Digest)
	ours.bundle(t, o, repo, bundled.manifest)
	part := o.putImage(t, repo, "", []byte("a part"))
	index := o.putManifest(t, repo, "index", map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex, "manifests": []any{
		map[string]any{"mediaType": part.manifest.MediaType, "digest": part.manifest.Digest, "size": part.manifest.Size, "platform": map[string]any{"os": "linux", "architecture": "amd64"}},
	}})
	ours.tagSignature(t, o, repo, index.Digest)
	inside := o.putImage(t, repo, "", []byte("signed itself"))
	o.putManifest(t, repo, "inside", map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex, "manifests": []any{
		map[string]any{"mediaType": inside.manifest.MediaType, "digest": inside.manifest.Digest, "size": inside.manifest.Size},
	}})
	ours.bundle(t, o, repo, inside.manifest)
	foreign := o.putImage(t, repo, "foreign", []byte("signed by somebody else"))
	theirs.tagSignature(t, o, repo, foreign.manifest.Digest)
	o.putImage(t, repo, "bare", []byte("not signed"))
	o.putImage(t, repo, "base", []byte("signed by tag")) // it is not, and another that is has its layer

	near := proxy(t, o)
	var targets []Target
	for _, tag := range []string{"tagged", "bundled", "index", "inside", "foreign", "bare", "base"} {
		targets = append(targets, Target{hub(repo), tag})
	}
	b, err := near.NewBatch(BatchOrder{Targets: targets, Signatures: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := states(b); slices.ContainsFunc(got, func(s string) bool { return !strings.HasSuffix(s, " here") }) {
		t.Errorf("%q", got)
	}
	near.settle(t)
	near.stop()

	o.set(func() { o.fail = down })
	for name, p := range map[string]Project{
		"offline":          {Offline: true, Verify: Verify{Mode: Enforce, Keys: ours.keys}},
		"upstream is away": {Verify: Verify{Mode: Enforce, Keys: ours.keys}},
	} {
		p.Name, p.Upstream = "docker.io", o
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() // of its own: what is verified is written down
			if err := os.CopyFS(dir, os.DirFS(near.dir)); err != nil {
				t.Fatal(err)
			}
			o.asked()
			far := newHouse(t, dir, Config{Projects: []Project{p}})
			defer far.stop()
			// By digest first: nobody has looked at the index that covers the part.
			for _, img := range []image{part, inside} {
				if _, err := far.Manifest(t.Context(), hub(repo), img.manifest.Digest); err != nil {
					t.Error(err)
				}
				if _, err := far.read(t, hub(repo), img.layer); err != nil {
					t.Error(err)
				}
			}
			if _, err := far.read(t, hub(repo), tagged.layer); err != nil && p.Offline {
				t.Errorf("a layer of an image that nobody has looked at: %v", err)
			}
			for _, tag := range []string{"tagged", "bundled", "index"} {
				if err := far.pull(t, hub(repo), tag); err != nil {
					t.Errorf("%s: %v", tag, err)
				}
			}
			for tag, found := range map[string]string{"foreign": "made with another key", "bare": "no signature was found"} {
				err := far.pull(t, hub(repo), tag)
				if !errors.Is(err, registry.Unavailable) || !strings.Contains(err.Error(), found) {
					t.Errorf("%s: %v, want it unavailable because %s", tag, err, found)
				}
			}
			if e, err := far.Explain(t.Context(), hub(repo), "tagged"); err != nil || !e.Verified || e.By != ours.keys[0].ID {
				t.Errorf("it is explained as %+v, %v", e, err)
			}
			if p.Offline {
				wantAsked(t, o)
			}
		})
	}
}

// Where a project looks at signatures they come with an image by themselves, and count for none.
func TestWarmBringsSignatures(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	img := o.putImage(t, repo, "1", []byte("signed twice"))
	sig := s.tagSignature(t, o, repo, img.manifest.Digest)
	s.bundle(t, o, repo, img.manifest)
	h := proxy(t, o, enforcing(s))
	w, err := h.Warm(t.Context(), hub(repo), "1", nil, nil)
	if err != nil || w.Images != 1 {
		t.Errorf("%+v, %v, want one image", w, err)
	}
	h.settle(t)
	if tag, err := h.catalog.Tag(t.Context(), hub(repo), signature.Tag(img.manifest.Digest)); err != nil || tag.Digest != sig.Digest {
		t.Errorf("the tag of the signatures is %+v, %v", tag, err)
	}
	if all, err := h.catalog.Referrers(t.Context(), hub(repo), img.manifest.Digest, ""); err != nil || len(all) != 1 {
		t.Errorf("referrers are %+v, %v", all, err)
	}
	plain := proxy(t, o)
	o.asked()
	if _, err := plain.Warm(t.Context(), hub(repo), "1", nil, nil); err != nil {
		t.Fatal(err)
	}
	if asked := o.asked(); slices.ContainsFunc(asked, func(q string) bool { return strings.Contains(q, ".sig") || strings.HasPrefix(q, "referrers") }) {
		t.Errorf("where nobody looks at signatures upstream was asked %q", asked)
	}
}
