package registrytest

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
)

// PutBlob gives a repository a blob.
func (r *Registry) PutBlob(repo string, b []byte) registry.Digest {
	d := digest.FromBytes(b)
	r.PutBlobAs(repo, d, b)
	return d
}

// PutBlobAs gives a repository a blob under any digest: a sha512 one, or a wrong one.
func (r *Registry) PutBlobAs(repo string, d registry.Digest, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repo(repo).blobs[d] = b
}

// PutManifest gives a repository a manifest, unread, and points tag at it unless that is empty.
func (r *Registry) PutManifest(repo, tag, mediaType string, b []byte) registry.Digest {
	d := digest.FromBytes(b)
	r.PutManifestAs(repo, tag, d, mediaType, b)
	return d
}

// PutManifestAs does the same under any digest.
func (r *Registry) PutManifestAs(repo, tag string, d registry.Digest, mediaType string, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := r.repo(repo)
	to.manifests[d] = content{mediaType: mediaType, bytes: b}
	if tag != "" {
		to.tags[tag] = d
	}
}

// PutImage gives a repository an OCI image for linux/amd64 made of layers, and a tag unless
// that is empty.
func (r *Registry) PutImage(repo, tag string, layers ...[]byte) registry.Digest {
	image := v1.Image{Platform: v1.Platform{Architecture: "amd64", OS: "linux"}, RootFS: v1.RootFS{Type: "layers"}}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: registry.MediaTypeOCIManifest, Layers: []v1.Descriptor{}}
	for _, layer := range layers {
		d := r.PutBlob(repo, layer)
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, d)
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: d, Size: int64(len(layer))})
	}
	config := encode(image)
	m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: r.PutBlob(repo, config), Size: int64(len(config))}
	return r.PutManifest(repo, tag, registry.MediaTypeOCIManifest, encode(m))
}

// PutIndex gives a repository an OCI index of manifests that it has, one for each of some
// platforms in turn, and a tag unless that is empty.
func (r *Registry) PutIndex(repo, tag string, manifests ...registry.Digest) registry.Digest {
	r.t.Helper()
	platforms := []string{"amd64", "arm64", "arm", "s390x", "ppc64le", "riscv64"}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: registry.MediaTypeOCIIndex, Manifests: []v1.Descriptor{}}
	for i, d := range manifests {
		desc := r.Descriptor(repo, d)
		desc.Platform = &v1.Platform{OS: "linux", Architecture: platforms[i%len(platforms)]}
		index.Manifests = append(index.Manifests, desc)
	}
	return r.PutManifest(repo, tag, registry.MediaTypeOCIIndex, encode(index))
}

// PutReferrer gives a repository an artifact of that type whose subject is a manifest that it
// has. Where the referrers API is absent, the test puts the fallback tag itself with PutIndex.
func (r *Registry) PutReferrer(repo string, subject registry.Digest, artifactType string, b []byte) registry.Digest {
	r.t.Helper()
	about := r.Descriptor(repo, subject)
	empty := v1.DescriptorEmptyJSON
	r.PutBlob(repo, empty.Data)
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: registry.MediaTypeOCIManifest,
		ArtifactType: artifactType, Config: empty, Subject: &about,
		Layers: []v1.Descriptor{{MediaType: artifactType, Digest: r.PutBlob(repo, b), Size: int64(len(b))}},
	}
	return r.PutManifest(repo, "", registry.MediaTypeOCIManifest, encode(m))
}

// Descriptor describes a manifest that a repository has.
func (r *Registry) Descriptor(repo string, d registry.Digest) registry.Descriptor {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.repo(repo).manifests[d]
	if !ok {
		r.t.Fatalf("registrytest: %s has no manifest %s", repo, d)
	}
	return describe(d, m)
}

// Manifest returns the bytes of a manifest that a repository has.
func (r *Registry) Manifest(repo string, d registry.Digest) []byte {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.repo(repo).manifests[d]
	if !ok {
		r.t.Fatalf("registrytest: %s has no manifest %s", repo, d)
	}
	return m.bytes
}

// Delete removes a tag, or a manifest or blob with the tags that point at it.
func (r *Registry) Delete(repo, reference string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := r.repo(repo)
	delete(from.tags, reference)
	d := registry.Digest(reference)
	delete(from.manifests, d)
	delete(from.blobs, d)
	for tag, target := range from.tags {
		if target == d {
			delete(from.tags, tag)
		}
	}
}

// repo returns the repository of that name, made if need be; r.mu is held.
func (r *Registry) repo(name string) *repository {
	if r.repos[name] == nil {
		r.repos[name] = &repository{
			blobs:     map[registry.Digest][]byte{},
			manifests: map[registry.Digest]content{},
			tags:      map[string]registry.Digest{},
		}
	}
	return r.repos[name]
}

// describe also reads the artifact type and annotations, as a listing of referrers shows them.
func describe(d registry.Digest, m content) registry.Descriptor {
	desc := registry.Descriptor{MediaType: m.mediaType, Digest: d, Size: int64(len(m.bytes))}
	if _, refs, err := registry.ParseManifest(m.mediaType, d, m.bytes); err == nil && refs.Subject != nil {
		desc.ArtifactType = refs.ArtifactType
		desc.Annotations = refs.Annotations
	}
	return desc
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the types of image-spec always marshal
	}
	return b
}
