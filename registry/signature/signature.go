// Package signature verifies what sigstore's cosign signs with a key of its own: the simple signing
// payload of a ".sig" tag, and the sigstore bundle that cosign 3 attaches as a referrer.
//
// Nothing here asks anybody for anything. Whoever verifies brings the bytes, and gets the key that they
// are good for. Keyless signatures, which need a certificate authority, a transparency log and their
// roots of trust, are told apart and not verified: nothing beyond the standard library is used.
package signature

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"roadstead/registry"
)

// What a signature may be of no use for. Any other error says what is wrong with its form.
var (
	// ErrKey says that no key of the set has made it.
	ErrKey = errors.New("it was made with another key")

	// ErrKeyless says that it goes with a certificate in place of a key.
	ErrKeyless = errors.New("it is keyless, which is not supported: sign with a key (cosign sign --key)")

	// ErrAttestation says that it is about an image and does not sign it.
	ErrAttestation = errors.New("it is an attestation and no signature of the image")
)

// Names of cosign's and sigstore's.
const (
	// Annotation holds the signature of a layer of a ".sig" tag's manifest, in base64.
	Annotation = "dev.cosignproject.cosign/signature"

	// certificate is beside it where the signature is a keyless one.
	certificate = "dev.sigstore.cosign/certificate"

	// MediaTypePayload is that of such a layer.
	MediaTypePayload = "application/vnd.dev.cosign.simplesigning.v1+json"

	payloadType   = "cosign container image signature"
	statementType = "application/vnd.in-toto+json"
	signed        = "https://sigstore.dev/cosign/sign/v1" // the predicate of a statement that signs
)

// MaxSize is how long a payload or a bundle may be, in bytes. Real ones have a few KiB.
const MaxSize = 1 << 20

// Layer verifies a layer of a ".sig" tag's manifest, of which payload is the content: that it is about
// the manifest d, and which key has signed it.
func (keys Keys) Layer(d registry.Digest, annotations map[string]string, payload []byte) (Key, error) {
	if annotations[certificate] != "" {
		return Key{}, ErrKeyless
	}
	sig, err := base64.StdEncoding.DecodeString(annotations[Annotation])
	if err != nil || len(sig) == 0 {
		return Key{}, fmt.Errorf("its annotation %s is no signature in base64", Annotation)
	}
	key, err := keys.of(payload, sig)
	if err != nil {
		return Key{}, err
	}
	// Only what is known to be signed is looked at.
	var doc struct {
		Critical struct {
			Type  string `json:"type"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &doc); err != nil {
		return Key{}, fmt.Errorf("its payload cannot be read: %w", err)
	}
	if doc.Critical.Type != payloadType {
		return Key{}, fmt.Errorf("its payload is of the type %q and not %q", registry.Clip(doc.Critical.Type), payloadType)
	}
	if doc.Critical.Image.Digest != d.String() {
		return Key{}, fmt.Errorf("it signs %s", registry.Clip(doc.Critical.Image.Digest))
	}
	return key, nil
}

// bundle is the part of a sigstore bundle that is read (sigstore_bundle.proto).
type bundle struct {
	Material struct {
		Certificate json.RawMessage `json:"certificate"`
		Chain       json.RawMessage `json:"x509CertificateChain"`
	} `json:"verificationMaterial"`
	Envelope *struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
	Message *struct {
		Signature []byte `json:"signature"`
	} `json:"messageSignature"`
}

// Bundle verifies a sigstore bundle: that it is about the manifest d, whose bytes are manifest, and
// which key has signed it. An envelope has to be a statement that signs, as cosign makes it, and a
// message signature is one of the manifest's bytes.
func (keys Keys) Bundle(d registry.Digest, manifest, text []byte) (Key, error) {
	var b bundle
	if err := json.Unmarshal(text, &b); err != nil {
		return Key{}, fmt.Errorf("the bundle cannot be read: %w", err)
	}
	switch {
	case b.Material.Certificate != nil || b.Material.Chain != nil:
		return Key{}, ErrKeyless
	case b.Message != nil && b.Envelope == nil:
		return keys.of(manifest, b.Message.Signature)
	case b.Envelope == nil || b.Message != nil:
		return Key{}, errors.New("the bundle has neither an envelope nor a message signature, or both")
	case b.Envelope.PayloadType != statementType:
		return Key{}, fmt.Errorf("the envelope holds %q and not %s", registry.Clip(b.Envelope.PayloadType), statementType)
	}
	err := errors.New("the envelope has no signature")
	for _, s := range b.Envelope.Signatures[:min(len(b.Envelope.Signatures), mostSignatures)] {
		var key Key
		if key, err = keys.of(preAuthentication(b.Envelope.PayloadType, b.Envelope.Payload), s.Sig); err == nil {
			return key, statement(d, b.Envelope.Payload)
		}
	}
	return Key{}, err
}

// mostSignatures bounds how many signatures of one envelope are tried.
const mostSignatures = 20

// preAuthentication is what the signature of an envelope is made of (DSSE 1.0, "PAE").
func preAuthentication(kind string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(kind), kind, len(payload)), payload...)
}

// statement says why an in-toto statement does not sign a manifest, or nil.
func statement(d registry.Digest, payload []byte) error {
	var doc struct {
		Type    string `json:"_type"`
		Kind    string `json:"predicateType"`
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(payload, &doc); err != nil {
		return fmt.Errorf("its statement cannot be read: %w", err)
	}
	if !slices.Contains(statements, doc.Type) {
		return fmt.Errorf("its statement is of the type %q", registry.Clip(doc.Type))
	}
	if doc.Kind != signed {
		return ErrAttestation
	}
	for _, s := range doc.Subject {
		if s.Digest[string(d.Algorithm())] == d.Encoded() {
			return nil
		}
	}
	return errors.New("it signs something else")
}

// statements are the versions of in-toto's statement, which say the same of its subject.
var statements = []string{"https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"}
