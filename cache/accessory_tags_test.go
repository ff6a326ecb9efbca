package cache

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/signature"
)

// emptyConfig is the configuration of an artifact that has none.
var emptyConfig = map[string]any{"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest.FromString("{}"), "size": 2}

// What cosign and others attach to an image under a tag of its digest is read unsigned: by that tag, by digest,
// and with what it is made of. Under a tag by which people pull an image it is not.
func TestWhatIsAttachedIsReadUnsigned(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	h := proxy(t, o, enforcing(s))
	for name, row := range map[string]struct {
		suffix, kind string
		doc          map[string]any
	}{
		"an attestation":               {".att", "application/vnd.dsse.envelope.v1+json", nil},
		"an SBOM of SPDX":              {".sbom", "text/spdx", nil},
		"an SBOM of SPDX in JSON":      {".sbom", "text/spdx+json", nil},
		"an SBOM of CycloneDX":         {".sbom", "application/vnd.cyclonedx+json", nil},
		"an SBOM of syft":              {".sbom", "application/vnd.syft+json", nil},
		"an SBOM by artifact type":     {".sbom", "application/json", map[string]any{"artifactType": "application/spdx+json", "config": emptyConfig}},
		"an SBOM by its configuration": {".sbom", "application/octet-stream", map[string]any{"config": map[string]any{"mediaType": "application/vnd.cyclonedx+json", "digest": emptyConfig["digest"], "size": 2}}},
		"an attestation by its type":   {".att", "application/json", map[string]any{"artifactType": "application/vnd.in-toto+json", "config": emptyConfig}},
	} {
		of := strings.TrimSuffix(signature.Tag(digest.FromString(name)), ".sig")
		m := o.attach(t, repo, of+row.suffix, row.kind, []byte(name), nil, row.doc)
		if err := h.pull(t, hub(repo), of+row.suffix); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := h.Manifest(t.Context(), hub(repo), m.Digest); err != nil {
			t.Errorf("%s, by digest: %v", name, err)
		}
		for _, tag := range []string{"v" + m.Digest.Encoded()[:8], of + ".image"} {
			o.set(func() { o.tags[repo+":"+tag] = m.Digest })
			wantDenied(t, name+" as "+tag, h.pull(t, hub(repo), tag), "by digest only")
			h.settle(t)
			if e, err := h.Explain(t.Context(), hub(repo), tag); err != nil || e.Verified || e.Why == "" {
				t.Errorf("%s as %s is explained as %+v, %v", name, tag, e, err)
			}
		}
	}
}

// Whatever a client could run is not served unsigned, by whatever tag, and whatever it says that it is.
func TestWhatCouldBeRunIsNotAttached(t *testing.T) {
	const repo, layer = "team/app", "application/vnd.oci.image.layer.v1.tar"
	s, o := newSigner(t), newOrigin()
	h := proxy(t, o, enforcing(s))
	bad := o.putImage(t, repo, "", []byte("not signed"))
	image := map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": emptyConfig["digest"], "size": 2}
	sbom := func(m map[string]any) map[string]any { m["artifactType"] = "application/spdx+json"; return m }
	for name, row := range map[string]struct {
		kind string
		doc  map[string]any
	}{
		"an image":                            {layer, nil},
		"a layer in an artifact":              {layer, sbom(map[string]any{"config": emptyConfig})},
		"Docker's layer in an artifact":       {"application/vnd.docker.image.rootfs.diff.tar.gzip", sbom(map[string]any{"config": emptyConfig})},
		"an image that says it is an SBOM":    {"application/json", sbom(map[string]any{"config": image})},
		"one with what dockerd takes for one": {"application/json", sbom(map[string]any{"config": map[string]any{"mediaType": "application/octet-stream", "digest": emptyConfig["digest"], "size": 2}})},
		"one of an unknown type":              {"application/json", map[string]any{"artifactType": "application/vnd.example", "config": emptyConfig}},
		"a layer beside an SBOM": {layer, sbom(map[string]any{"layers": []any{
			map[string]any{"mediaType": "text/spdx", "digest": emptyConfig["digest"], "size": 2},
			map[string]any{"mediaType": layer, "digest": bad.layer, "size": len(bad.content)},
		}})},
	} {
		for _, suffix := range []string{"", ".sig", ".att", ".sbom"} {
			tag := strings.TrimSuffix(signature.Tag(digest.FromString(name)), ".sig") + suffix
			m := o.attach(t, repo, tag, row.kind, []byte(name), nil, row.doc)
			wantDenied(t, name+" as "+suffix, h.pull(t, hub(repo), tag), "no signature was found")
			_, err := h.Manifest(t.Context(), hub(repo), m.Digest)
			wantDenied(t, name+", by digest", err, "no signature was found")
		}
	}
	// A list of what refers to an image is read; an image on it is none the better for that.
	tag := strings.TrimSuffix(signature.Tag(bad.manifest.Digest), ".sig")
	o.putManifest(t, repo, tag, map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex, "manifests": []any{
		map[string]any{"mediaType": bad.manifest.MediaType, "digest": bad.manifest.Digest, "size": bad.manifest.Size, "artifactType": "application/spdx+json"},
	}})
	if _, err := h.Resolve(t.Context(), hub(repo), tag); err != nil {
		t.Errorf("a list: %v", err)
	}
	_, err := h.Manifest(t.Context(), hub(repo), bad.manifest.Digest)
	wantDenied(t, "an image on a list", err, "no signature was found")
	_, err = h.read(t, hub(repo), bad.layer)
	wantDenied(t, "a layer of that", err, "belongs to no image")
}
