package signature

import (
	"regexp"
	"slices"
	"strings"

	"roadstead/registry"
)

// Accessories are what is said about images and attached to them: signatures, attestations, bills of
// materials. They are looked at before there is anything that could be trusted, so they are given out
// unverified. What they are made of is known by its media types, which not all clients look at: dockerd
// unpacks a layer whatever it is called. So an accessory has no tag but one by which nobody pulls an image.

// attached are the beginnings of the media types that the layers of accessories have.
var attached = []string{
	MediaTypePayload,
	"application/vnd.dev.sigstore.bundle",
	"application/vnd.dsse.envelope",
	"application/vnd.in-toto",
	"application/vnd.cncf.notary",
	"application/jose+json", // notation's signatures
	"application/cose",
	"application/spdx+json", "application/vnd.spdx", "text/spdx",
	"application/vnd.cyclonedx", "application/vnd.syft",
}

// Accessory reports whether a manifest is one, by what it is made of or by its artifact type, or an index that lists what refers
// to something (OCI distribution specification 1.1, "Referrers Tag Schema"): what is in such a list is
// looked at by itself.
func Accessory(refs registry.References) bool {
	if refs.Config == nil && len(refs.Layers) == 0 {
		return !slices.ContainsFunc(refs.Manifests, func(m registry.Descriptor) bool { return m.ArtifactType == "" })
	}
	if len(refs.Layers) == 0 || len(refs.Manifests) > 0 {
		return false
	}
	return !slices.ContainsFunc(refs.Layers, func(l registry.Descriptor) bool { return !attaches(l.MediaType) }) || artifact(refs)
}

// attaches reports whether a media type is one of accessories.
func attaches(mediaType string) bool {
	return slices.ContainsFunc(attached, func(kind string) bool { return strings.HasPrefix(mediaType, kind) })
}

// emptyType is that of a configuration which says nothing (OCI image specification 1.1, "Guidance for an
// Empty Descriptor").
const emptyType = "application/vnd.oci.empty.v1+json"

// documents are the media types, beside those of accessories, that layers of an artifact may have. No client
// unpacks a layer that is called so.
var documents = []string{"application/json", "application/xml", "application/octet-stream", "text/plain"}

// artifact reports whether a manifest is an accessory by its own word, its artifact type, and nothing that
// could be run: dockerd and podman refuse a configuration that is called neither an image's nor by a name that
// old registries give to anything, and containerd unpacks nothing that is not called a layer of an image.
func artifact(refs registry.References) bool {
	if refs.Config == nil || !attaches(refs.ArtifactType) || refs.Config.MediaType != emptyType && !attaches(refs.Config.MediaType) {
		return false
	}
	return !slices.ContainsFunc(refs.Layers, func(l registry.Descriptor) bool {
		return !attaches(l.MediaType) && !slices.Contains(documents, l.MediaType)
	})
}

// Tag is the tag of the signatures of a manifest by cosign's own scheme, "sha256-<hex>.sig".
func Tag(d registry.Digest) string { return strings.Replace(d.String(), ":", "-", 1) + ".sig" }

// ofDigest is how tags are called that belong to a digest: those of cosign's own scheme, "sha256-<hex>.sig",
// ".att" and ".sbom", and the list of what refers to it.
var ofDigest = regexp.MustCompile(`^sha(256-[0-9a-f]{64}|512-[0-9a-f]{128})(\.(sig|att|sbom))?$`)

// OfDigest reports whether a tag is one of an accessory, which nobody takes for an image.
func OfDigest(tag string) bool { return ofDigest.MatchString(tag) }

// IsBundle reports whether a layer, or a referrer, is a sigstore bundle.
func IsBundle(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.dev.sigstore.bundle")
}
