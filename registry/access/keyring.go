package access

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// rotateEvery is how old the key gets that signs tokens.
	rotateEvery = 30 * 24 * time.Hour

	// retireAfter is how long a key verifies tokens after the next one has come. Those that it
	// signed are void after some minutes; a day lets any clock be wrong.
	retireAfter = 24 * time.Hour
)

// keyring has the keys of an install that sign tokens. None of them is known to the program:
// each install makes its own (FAULTS C15).
type keyring struct {
	in  keystore
	log *slog.Logger
	now atomic.Pointer[ring]

	mu     sync.Mutex // one at a time reads them
	looked time.Time  // when it was read last for a key that was missing
}

// ring is the keys at one time.
type ring struct {
	newest   *signingKey // nil: they have not been read yet
	numbered map[int]*signingKey
	headers  map[string]*signingKey // by the first part of the tokens that they sign
}

type signingKey struct {
	number int
	made   time.Time
	public ed25519.PublicKey
	signer jose.Signer
}

// newKeyring returns a ring without a key. Until begin has succeeded it neither signs nor verifies.
func newKeyring(in keystore, log *slog.Logger) *keyring {
	k := &keyring{in: in, log: log}
	k.now.Store(&ring{})
	return k
}

// begin reads the keys, and makes one if there is none that is fit to sign. It may be called again.
func (k *keyring) begin(now time.Time) error {
	if err := k.read(); err != nil {
		return err
	}
	return k.tend(now)
}

// tend makes a key when there is none or the newest is old, and removes those that no token can
// be of any more.
func (k *keyring) tend(now time.Time) error {
	r := k.now.Load()
	next := 1
	if r.newest != nil {
		next = r.newest.number + 1
	}
	if r.newest == nil || now.Sub(r.newest.made) >= rotateEvery {
		content, err := newSigningKey(now)
		if err != nil {
			return fmt.Errorf("make a signing key: %w", err)
		}
		if err := k.in.add(signingKind, next, content); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make a signing key: %w", err)
		}
		if err := k.read(); err != nil {
			return err
		}
		r = k.now.Load()
		k.log.Info("signing key", "number", r.newest.number)
	}
	retired := false
	for number := range r.numbered {
		follower := r.numbered[number+1]
		if follower == nil || now.Sub(follower.made) < retireAfter {
			continue
		}
		if err := k.in.remove(signingKind, number); err != nil {
			return fmt.Errorf("remove an old signing key: %w", err)
		}
		retired = true
	}
	if retired {
		return k.read()
	}
	return nil
}

// read reads all keys.
func (k *keyring) read() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.readLocked()
}

func (k *keyring) readLocked() error {
	files, err := k.in.read(signingKind)
	if err != nil {
		return err
	}
	r := &ring{numbered: map[int]*signingKey{}, headers: map[string]*signingKey{}}
	for _, number := range slices.Sorted(maps.Keys(files)) {
		key, header, err := parseSigningKey(files[number])
		if err != nil {
			return fmt.Errorf("signing key %s: %w; remove it: tokens last for minutes only, and clients fetch new ones", k.in.place(signingKind, number), err)
		}
		key.number = number
		r.newest, r.numbered[number], r.headers[header] = key, key, key
	}
	k.now.Store(r)
	return nil
}

// signed returns the key that a token with this first part was signed with, or nil.
func (k *keyring) signed(header string) *signingKey {
	if r := k.now.Load(); r.newest == nil || r.headers[header] != nil {
		return r.headers[header] // without any, begin is to be first
	}
	// Another process may have made a key just now. Forged tokens must not make this a look at all
	// keys for each of them.
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.looked) >= time.Second {
		k.looked = now
		if err := k.readLocked(); err != nil {
			k.log.Error("signing keys cannot be read", "err", err)
		}
	}
	return k.now.Load().headers[header]
}

// madeHeader is where a key file says when it was made. The time of the file would be that of its
// last copy.
const madeHeader = "Made"

func newSigningKey(now time.Time) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{madeHeader: now.UTC().Format(time.RFC3339)}, Bytes: der}), nil
}

// parseSigningKey reads a key, and says what the first part of all tokens is that it signs.
func parseSigningKey(content []byte) (*signingKey, string, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, "", errors.New("the file is no key")
	}
	made, err := time.Parse(time.RFC3339, block.Headers[madeHeader])
	if err != nil {
		return nil, "", errors.New("the file does not say when it was made")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, "", errors.New("the file is no Ed25519 key")
	}
	public := private.Public().(ed25519.PublicKey)
	sum := sha256.Sum256(public)
	kid := base64.RawURLEncoding.EncodeToString(sum[:12])
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: kid}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, "", err
	}
	sample, err := signer.Sign(nil)
	if err != nil {
		return nil, "", err
	}
	text, err := sample.CompactSerialize()
	if err != nil {
		return nil, "", err
	}
	header, _, _ := strings.Cut(text, ".")
	return &signingKey{made: made, public: public, signer: signer}, header, nil
}
