package peer

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"time"
)

// tls is how nodes prove to each other who they are where an address begins with https: by one key
// pair, which follows from the secret. Both ends show it, so there is no authority, no name and no
// date to agree on, and nothing to be renewed; another secret is another key.
//
// Whoever connects is shown the public key and could try secrets on it at his own desk. That is
// hopeless with one from "openssl rand", and is why it should not be a word.
func (s Secret) tls() (*tls.Config, error) {
	seed, err := hkdf.Key(sha256.New, []byte(s), nil, "roadstead: the identity of a node", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "a node of a cluster"},
		// Nobody looks at the dates: it is the key that counts, and clocks that are wrong are told
		// of by the signatures of requests.
		NotBefore:   time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:    time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
		ClientAuth:         tls.RequireAnyClientCert,
		InsecureSkipVerify: true, // of names and authorities: the key is compared instead
		VerifyConnection:   sameKey(key.Public()),
	}, nil
}

var errOtherKey = errors.New("the other end is no node of this cluster, or has another secret")

// sameKey lets in whoever has shown to have the private key of this public one.
func sameKey(own crypto.PublicKey) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errOtherKey
		}
		key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
		if !ok || !bytes.Equal(key, own.(ed25519.PublicKey)) {
			return errOtherKey
		}
		return nil
	}
}
