package signature

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
)

// What is in testdata was made by cosign 3.1.3: one image signed by keys of four kinds in both formats,
// an attestation of it, and its manifest signed as a blob.

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keysOf(t *testing.T, kinds ...string) Keys {
	t.Helper()
	var all Keys
	for _, kind := range kinds {
		keys, err := ParseKeys(read(t, kind+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, keys...)
	}
	return all
}

func layer(t *testing.T, kind string) map[string]string {
	t.Helper()
	var m v1.Manifest
	if err := json.Unmarshal(read(t, kind+".sig.json"), &m); err != nil {
		t.Fatal(err)
	}
	return m.Layers[0].Annotations
}

var kinds = []string{"p256", "rsa", "ed", "p384"}

func TestWhatCosignSigns(t *testing.T) {
	manifest := read(t, "manifest.json")
	d := digest.FromBytes(manifest)
	all := keysOf(t, kinds...)
	for i, kind := range kinds {
		payload, bundle := read(t, kind+".payload.json"), read(t, kind+".bundle.json")
		for name, keys := range map[string]Keys{"its key": all[i : i+1], "all keys": all} {
			if key, err := keys.Layer(d, layer(t, kind), payload); err != nil || key.ID != all[i].ID {
				t.Errorf("%s payload by %s: %q, %v", kind, name, key.ID, err)
			}
			if key, err := keys.Bundle(d, manifest, bundle); err != nil || key.ID != all[i].ID {
				t.Errorf("%s bundle by %s: %q, %v", kind, name, key.ID, err)
			}
		}
		other := all[(i+1)%len(all) : (i+1)%len(all)+1]
		if _, err := other.Layer(d, layer(t, kind), payload); !errors.Is(err, ErrKey) {
			t.Errorf("%s payload by another key: %v", kind, err)
		}
		if _, err := other.Bundle(d, manifest, bundle); !errors.Is(err, ErrKey) {
			t.Errorf("%s bundle by another key: %v", kind, err)
		}
		elsewhere := digest.FromString("another manifest")
		if _, err := all.Layer(elsewhere, layer(t, kind), payload); err == nil || errors.Is(err, ErrKey) {
			t.Errorf("%s payload of another manifest: %v", kind, err)
		}
		if _, err := all.Bundle(elsewhere, manifest, bundle); err == nil || errors.Is(err, ErrKey) {
			t.Errorf("%s bundle of another manifest: %v", kind, err)
		}
	}
	for _, kind := range []string{"p256", "ed"} {
		if _, err := keysOf(t, kind).Bundle(d, manifest, read(t, kind+".message.json")); err != nil {
			t.Errorf("%s message signature: %v", kind, err)
		}
		if _, err := keysOf(t, kind).Bundle(d, append(manifest, ' '), read(t, kind+".message.json")); !errors.Is(err, ErrKey) {
			t.Errorf("%s message signature of other bytes: %v", kind, err)
		}
	}
}

func TestWhatIsNoSignature(t *testing.T) {
	manifest := read(t, "manifest.json")
	d := digest.FromBytes(manifest)
	keys := keysOf(t, kinds...)
	good := string(read(t, "p256.bundle.json"))
	for name, tt := range map[string]struct {
		bundle string
		want   error
	}{
		"an attestation":               {string(read(t, "p256.attestation.json")), ErrAttestation},
		"a certificate":                {strings.Replace(good, `"publicKey":`, `"certificate":{"rawBytes":"AA=="},"publicKey":`, 1), ErrKeyless},
		"a chain":                      {strings.Replace(good, `"publicKey":`, `"x509CertificateChain":{},"publicKey":`, 1), ErrKeyless},
		"another payload":              {strings.Replace(good, `"payload":"ey`, `"payload":"e3`, 1), ErrKey},
		"another type than was signed": {strings.Replace(good, statementType, "text/plain", 1), nil},
		"no signature":                 {`{"dsseEnvelope":{"payloadType":"application/vnd.in-toto+json","payload":"e30="}}`, nil},
		"nothing":                      {`{}`, nil},
		"both":                         {strings.Replace(good, `"dsseEnvelope"`, `"messageSignature":{},"dsseEnvelope"`, 1), nil},
		"no JSON":                      {"-", nil},
		"an empty message signature":   {`{"messageSignature":{}}`, ErrKey},
	} {
		if _, err := keys.Bundle(d, manifest, []byte(tt.bundle)); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	payload := read(t, "p256.payload.json")
	for name, tt := range map[string]struct {
		annotations map[string]string
		payload     []byte
		want        error
	}{
		"no annotation":      {nil, payload, nil},
		"no base64":          {map[string]string{Annotation: "?"}, payload, nil},
		"a certificate":      {map[string]string{Annotation: layer(t, "p256")[Annotation], certificate: "-----BEGIN"}, payload, ErrKeyless},
		"another payload":    {layer(t, "p256"), bytes.Replace(payload, []byte("t/one"), []byte("t/two"), 1), ErrKey},
		"another's payload":  {layer(t, "p256"), read(t, "ed.payload.json"), ErrKey},
		"another's manifest": {layer(t, "p256"), manifest, ErrKey},
	} {
		if _, err := keys.Layer(d, tt.annotations, tt.payload); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestKeys(t *testing.T) {
	both := append(read(t, "p256.pub"), read(t, "rsa.pub")...)
	keys, err := ParseKeys(both)
	if err != nil || len(keys) != 2 || keys[0].ID == keys[1].ID || !keys.Has(keys[1].ID) || keys.Has("") {
		t.Errorf("two keys in a file: %v, %v", keys, err)
	}
	for _, text := range []string{
		"", "ssh-ed25519 AAAA", string(both) + "rest",
		"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
	} {
		if keys, err := ParseKeys([]byte(text)); err == nil {
			t.Errorf("%q: %v, want an error", text, keys)
		}
	}
}

func TestAccessories(t *testing.T) {
	of := func(kinds ...string) registry.References {
		r := registry.References{Config: &registry.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json"}}
		for _, kind := range kinds {
			r.Layers = append(r.Layers, registry.Descriptor{MediaType: kind})
		}
		return r
	}
	const tar = "application/vnd.oci.image.layer.v1.tar+gzip"
	for _, tt := range []struct {
		refs registry.References
		want bool
	}{
		{of(MediaTypePayload), true},
		{of(MediaTypePayload, MediaTypePayload), true},
		{of("application/vnd.dev.sigstore.bundle.v0.3+json"), true},
		{of(MediaTypePayload, tar), false}, // something that can be run has come along
		{of(tar), false},
		{of(), false},
		{registry.References{Manifests: []registry.Descriptor{{MediaType: MediaTypePayload}}}, false},
		{registry.References{Manifests: []registry.Descriptor{{ArtifactType: "application/vnd.dev.sigstore.bundle.v0.3+json"}}}, true},
		{registry.References{Manifests: []registry.Descriptor{{ArtifactType: "application/x"}, {}}}, false},
	} {
		if got := Accessory(tt.refs); got != tt.want {
			t.Errorf("%v is an accessory: %v, want %v", tt.refs, got, tt.want)
		}
	}
	if d := digest.FromString("x"); Tag(d) != "sha256-"+d.Encoded()+".sig" {
		t.Errorf("the tag of the signatures of %s is %s", d, Tag(d))
	}
}
