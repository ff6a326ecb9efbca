package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha256" // the hashes that signatures are made over
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Key is a public key that signatures are verified with.
type Key struct {
	ID     string // of 64 hex digits: SHA-256 of its DER form, as "openssl pkey -pubin -outform DER" writes it
	public crypto.PublicKey
}

// Short is the beginning of the ID, for people.
func (k Key) Short() string { return k.ID[:min(12, len(k.ID))] }

// Keys are those that are trusted, each as much as the others.
type Keys []Key

// leastRSA is the size of the smallest RSA key that is accepted, in bits.
const leastRSA = 2048

// ParseKeys reads the public keys in a PEM text: ECDSA of the curves P-256, P-384 and P-521, RSA of 2048
// bits and more, Ed25519. A text without a key, or with something else in it, is an error.
func ParseKeys(text []byte) (Keys, error) {
	var keys Keys
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New(`it is no PEM text: a public key begins with "-----BEGIN PUBLIC KEY-----"`)
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no public key is in it")
	}
	return keys, nil
}

func parseKey(block *pem.Block) (Key, error) {
	switch block.Type {
	case "PUBLIC KEY":
	case "CERTIFICATE":
		return Key{}, errors.New("it is a certificate: keyless signatures are not supported, only public keys are")
	default:
		return Key{}, fmt.Errorf(`a %q is in it where a "PUBLIC KEY" is wanted, such as cosign.pub`, block.Type)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("the public key cannot be read: %w", err)
	}
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if hashesOf(k.Curve) == nil {
			return Key{}, fmt.Errorf("an ECDSA key of the curve %s is not supported", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if k.N.BitLen() < leastRSA {
			return Key{}, fmt.Errorf("an RSA key of %d bits is too short: %d are wanted", k.N.BitLen(), leastRSA)
		}
	case ed25519.PublicKey:
	default:
		return Key{}, fmt.Errorf("a key of the type %T is not supported: ECDSA, RSA and Ed25519 are", public)
	}
	sum := sha256.Sum256(block.Bytes)
	return Key{ID: hex.EncodeToString(sum[:]), public: public}, nil
}

// Has reports whether a key is among them.
func (keys Keys) Has(id string) bool {
	for _, k := range keys {
		if k.ID == id {
			return true
		}
	}
	return false
}

// of returns the key that has signed message, or ErrKey.
func (keys Keys) of(message, sig []byte) (Key, error) {
	for _, k := range keys {
		if k.signed(message, sig) {
			return k, nil
		}
	}
	return Key{}, ErrKey
}

func (k Key) signed(message, sig []byte) bool {
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		for _, h := range hashesOf(public.Curve) {
			if ecdsa.VerifyASN1(public, sum(h, message), sig) {
				return true
			}
		}
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum(crypto.SHA256, message), sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(public, message, sig) ||
			ed25519.VerifyWithOptions(public, sum(crypto.SHA512, message), sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}

// hashesOf are what signers take for a curve: cosign SHA-256 for all of them, others that of the
// curve's own strength.
func hashesOf(curve elliptic.Curve) []crypto.Hash {
	switch curve {
	case elliptic.P256():
		return []crypto.Hash{crypto.SHA256}
	case elliptic.P384():
		return []crypto.Hash{crypto.SHA256, crypto.SHA384}
	case elliptic.P521():
		return []crypto.Hash{crypto.SHA256, crypto.SHA512}
	}
	return nil
}

func sum(h crypto.Hash, message []byte) []byte {
	w := h.New()
	w.Write(message)
	return w.Sum(nil)
}
