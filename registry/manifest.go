package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of manifests, OCI and Docker schema 2.
const (
	MediaTypeOCIManifest    = v1.MediaTypeImageManifest
	MediaTypeOCIIndex       = v1.MediaTypeImageIndex
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// ManifestTypes are the media types to accept from an upstream, in the order of preference.
// Docker schema 1 is not among them: its digest is not that of its bytes, and registries
// have stopped to serve it.
var ManifestTypes = []string{MediaTypeOCIIndex, MediaTypeDockerList, MediaTypeOCIManifest, MediaTypeDockerManifest}

// Manifest is a manifest or index, byte for byte as its author made it.
type Manifest struct {
	Descriptor        // media type, digest and size; the artifact type where References is what made it
	Bytes      []byte // shared and never changed
}

// References is what a manifest points to. All digests in it are well formed.
type References struct {
	Config    *Descriptor  // nil for an index
	Layers    []Descriptor // of an image or artifact manifest
	Manifests []Descriptor // of an index
	Subject   *Descriptor  // what this manifest refers to, or nil

	// ArtifactType is the type by which a referrer is filtered: the manifest's own, or its
	// config's media type when it has none (OCI distribution specification 1.1, "Listing
	// Referrers").
	ArtifactType string
	Annotations  map[string]string
}

// Blobs returns the config and layers that a registry has to hold: those with "urls" may
// live elsewhere and still be here.
func (r References) Blobs() []Descriptor {
	if r.Config == nil {
		return r.Layers
	}
	return append([]Descriptor{*r.Config}, r.Layers...)
}

// document is the part of a manifest that is read.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// ParseManifest reads the bytes of a manifest. contentType is what its sender called it and
// may be empty or carry parameters. The result's digest is d, which the caller has verified.
//
// A manifest that two readers could understand in two ways is ManifestInvalid: an image and
// an index at once, another media type inside than outside, a key twice or in another case
// (CVE-2021-41190, FAULTS B1).
func ParseManifest(contentType string, d Digest, body []byte) (Manifest, References, error) {
	doc, err := decodeManifest(body)
	if err != nil {
		return Manifest{}, References{}, fmt.Errorf("manifest %s: %w: %w", d, ManifestInvalid, err)
	}
	mediaType, err := manifestType(contentType, doc)
	if err != nil {
		return Manifest{}, References{}, fmt.Errorf("manifest %s: %w: %w", d, ManifestInvalid, err)
	}
	refs := References{
		Config: doc.Config, Layers: doc.Layers, Manifests: doc.Manifests, Subject: doc.Subject,
		ArtifactType: doc.ArtifactType, Annotations: doc.Annotations,
	}
	if refs.ArtifactType == "" && doc.Config != nil {
		refs.ArtifactType = doc.Config.MediaType
	}
	for _, ref := range refs.all() {
		if _, err := ParseDigest(string(ref.Digest)); err != nil {
			return Manifest{}, References{}, fmt.Errorf("manifest %s refers to %w: %w", d, err, ManifestInvalid)
		}
		if ref.Size < 0 {
			return Manifest{}, References{}, fmt.Errorf("manifest %s refers to %s with size %d: %w", d, ref.Digest, ref.Size, ManifestInvalid)
		}
	}
	m := Manifest{
		Descriptor: Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body)), ArtifactType: refs.ArtifactType},
		Bytes:      body,
	}
	return m, refs, nil
}

func (r References) all() []Descriptor {
	all := append(r.Blobs(), r.Manifests...)
	if r.Subject != nil {
		all = append(all, *r.Subject)
	}
	return all
}

// manifestType decides what a manifest is. What it says of itself goes first; many OCI
// manifests say nothing, and then the sender's word counts as far as it fits the content.
func manifestType(contentType string, doc document) (string, error) {
	contentType, _, _ = strings.Cut(contentType, ";")
	contentType = strings.ToLower(strings.TrimSpace(contentType))
	index := doc.Manifests != nil
	if index && (doc.Layers != nil || doc.Config != nil) {
		return "", errors.New("it is an image and an index at once")
	}
	switch {
	case doc.MediaType == "" && knownType(contentType):
		doc.MediaType = contentType
	case doc.MediaType == "" && index:
		doc.MediaType = MediaTypeOCIIndex
	case doc.MediaType == "":
		doc.MediaType = MediaTypeOCIManifest
	case knownType(contentType) && contentType != doc.MediaType:
		return "", fmt.Errorf("it says %q of itself and was sent as %q", Clip(doc.MediaType), Clip(contentType))
	}
	if !strings.HasPrefix(doc.MediaType, "application/") || strings.ContainsFunc(doc.MediaType, func(c rune) bool { return c <= ' ' || c > '~' }) {
		// It becomes a header, and what a browser believes.
		return "", fmt.Errorf("%q is no media type of a manifest", Clip(doc.MediaType))
	}
	isIndexType := doc.MediaType == MediaTypeOCIIndex || doc.MediaType == MediaTypeDockerList
	if knownType(doc.MediaType) && isIndexType != index && (index || doc.Config != nil || doc.Layers != nil) {
		return "", fmt.Errorf("its content is not that of a %s", Clip(doc.MediaType))
	}
	return doc.MediaType, nil
}

func knownType(mediaType string) bool {
	switch mediaType {
	case MediaTypeOCIIndex, MediaTypeDockerList, MediaTypeOCIManifest, MediaTypeDockerManifest:
		return true
	}
	return false
}

func decodeManifest(body []byte) (document, error) {
	var doc document
	if len(body) > MaxManifest {
		return doc, fmt.Errorf("it is %d bytes long, at most %d are allowed", len(body), MaxManifest)
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return doc, err
	}
	if err := checkKeys(body, documentKeys); err != nil {
		return doc, err
	}
	if doc.SchemaVersion != 2 {
		return doc, fmt.Errorf("its schemaVersion is %d, only 2 is understood", doc.SchemaVersion)
	}
	return doc, nil
}

// keys maps each key that is read, folded, to its only spelling.
type keys map[string]string

var (
	documentKeys = keys{
		"schemaversion": "schemaVersion", "mediatype": "mediaType", "artifacttype": "artifactType",
		"config": "config", "layers": "layers", "manifests": "manifests", "subject": "subject",
		"annotations": "annotations",
	}
	descriptorKeys = keys{
		"mediatype": "mediaType", "digest": "digest", "size": "size", "urls": "urls",
		"annotations": "annotations", "data": "data", "platform": "platform", "artifacttype": "artifactType",
	}
)

// checkKeys refuses keys that encoding/json would fold into one, in an object and the
// descriptors in it: it takes the last of two equal keys, and "Layers" for "layers", where
// another reader does not. body is well-formed JSON.
func checkKeys(body []byte, known keys) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("it, or a descriptor in it, is not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		// As encoding/json folds, for which 'ſ' is an s and the Kelvin sign a k.
		folded := strings.ToLower(strings.ToUpper(key))
		switch {
		case seen[folded] && known[folded] != "":
			return fmt.Errorf("the key %q is there twice", Clip(key))
		case known[folded] != "" && known[folded] != key:
			return fmt.Errorf("the key %q is %q in another case", Clip(key), known[folded])
		}
		seen[folded] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		if err := checkDescriptors(key, value); err != nil {
			return err
		}
	}
	return nil
}

// checkDescriptors checks the keys of the descriptors that the value of a manifest's key is or
// holds.
func checkDescriptors(key string, value json.RawMessage) error {
	var all []json.RawMessage
	switch key {
	case "config", "subject":
		all = []json.RawMessage{value}
	case "layers", "manifests":
		if err := json.Unmarshal(value, &all); err != nil {
			return err
		}
	}
	for _, d := range all {
		if string(d) == "null" {
			continue
		}
		if err := checkKeys(d, descriptorKeys); err != nil {
			return fmt.Errorf("in %q: %w", key, err)
		}
	}
	return nil
}
