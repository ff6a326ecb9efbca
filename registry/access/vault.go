package access

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// vault seals secrets with AES-256-GCM before they get into the catalog, so that a copy of the
// database is of no use without the key. A secret is sealed under its name: moved to
// another row it does not open.
//
// Sealed, a secret is "v1.<number of the key>.<nonce and ciphertext in base64>". To begin with a new
// key where keys are files, put one of the next number beside the old one: what is put from then on has it.
type vault struct {
	in keystore

	mu   sync.Mutex
	keys map[int]cipher.AEAD
}

// maxSecret is the longest secret, in bytes: a private key or a service account in JSON.
const maxSecret = 16 << 10

// PutSecret keeps a secret under a name, instead of the one that may be there. No interface gives
// it out again; the house uses it.
func (a *Access) PutSecret(ctx context.Context, by, name, value string) error {
	if registry.CheckProject(name) != nil {
		return invalid("%q cannot be the name of a secret: it is lower-case letters and digits joined by single '.', '_' or '-'", registry.Clip(name))
	}
	if value == "" || len(value) > maxSecret {
		return invalid("the secret has %d bytes: 1 to %d are needed", len(value), maxSecret)
	}
	sealed, err := a.vault.seal(name, value)
	if err != nil {
		return fmt.Errorf("seal secret %s: %w", name, err)
	}
	return a.change(ctx, deed{by, registry.Update, Secrets, name, ""}, func(tx *catalog.Tx) error {
		return tx.PutSecret(name, sealed)
	})
}

// Secret returns a secret, for the house to use and for nobody to see.
func (a *Access) Secret(ctx context.Context, name string) (string, error) {
	sealed, err := a.catalog.Sealed(ctx, name)
	if errors.Is(err, catalog.ErrNotFound) {
		return "", &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf("there is no secret %s: put it there with `roadstead secret set %s`", name, name)}
	}
	if err != nil {
		return "", err
	}
	value, err := a.vault.open(name, sealed)
	if err != nil {
		return "", fmt.Errorf("open secret %s: %w", name, err)
	}
	return value, nil
}

// Secrets lists the names of all secrets.
func (a *Access) Secrets(ctx context.Context) ([]string, error) { return a.catalog.SecretNames(ctx) }

// DeleteSecret removes a secret.
func (a *Access) DeleteSecret(ctx context.Context, by, name string) error {
	return a.change(ctx, deed{by, registry.Delete, Secrets, name, ""}, func(tx *catalog.Tx) error {
		return tx.DeleteSecret(name)
	})
}

func (v *vault) seal(name, value string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.read(); err != nil {
		return "", err
	}
	if len(v.keys) == 0 {
		key := make([]byte, 32)
		rand.Read(key) // never fails
		err := v.in.add(vaultKind, 1, []byte(base64.StdEncoding.EncodeToString(key)+"\n"))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make a key: %w", err)
		}
		if err := v.read(); err != nil { // it may be another process that has made it
			return "", err
		}
	}
	number := slices.Max(slices.Collect(maps.Keys(v.keys)))
	aead := v.keys[number]
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails
	return sealedPrefix + strconv.Itoa(number) + "." +
		base64.StdEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(value), []byte(name))), nil
}

const sealedPrefix = "v1."

func (v *vault) open(name, sealed string) (string, error) {
	rest, ok := strings.CutPrefix(sealed, sealedPrefix)
	text, body, more := strings.Cut(rest, ".")
	number, err := strconv.Atoi(text)
	if !ok || !more || err != nil {
		return "", errors.New("it is sealed in a way that this program does not know: start the newer program again")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys[number] == nil {
		if err := v.read(); err != nil {
			return "", err
		}
	}
	aead := v.keys[number]
	path := v.in.place(vaultKind, number)
	if aead == nil {
		return "", fmt.Errorf("its key %s is missing: restore it, or set the secret again with `roadstead secret set %s`", path, name)
	}
	data, err := base64.StdEncoding.DecodeString(body)
	if err != nil || len(data) < aead.NonceSize() {
		return "", fmt.Errorf("what the catalog has of it is damaged: set it again with `roadstead secret set %s`", name)
	}
	value, err := aead.Open(nil, data[:aead.NonceSize()], data[aead.NonceSize():], []byte(name))
	if err != nil {
		return "", fmt.Errorf("it does not open with %s, which is another key or was damaged: restore that one, or set the secret again with `roadstead secret set %s`", path, name)
	}
	return string(value), nil
}

// read reads all keys.
func (v *vault) read() error {
	files, err := v.in.read(vaultKind)
	if err != nil {
		return err
	}
	keys := map[int]cipher.AEAD{}
	for number, content := range files {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(content)))
		if err != nil || len(key) != 32 {
			return fmt.Errorf("%s is no key, which is 32 bytes in base64: restore it", v.in.place(vaultKind, number))
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return err
		}
		if keys[number], err = cipher.NewGCM(block); err != nil {
			return err
		}
	}
	v.keys = keys
	return nil
}

// Seal makes text of a secret that is of no use without the key file, to be kept by whoever calls.
// It opens under the same name only.
func (a *Access) Seal(name, value string) (string, error) {
	if value == "" || len(value) > maxSecret {
		return "", invalid("the secret has %d bytes: 1 to %d are needed", len(value), maxSecret)
	}
	sealed, err := a.vault.seal(name, value)
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", name, err)
	}
	return sealed, nil
}

// Unseal returns the secret that Seal has made text of.
func (a *Access) Unseal(name, sealed string) (string, error) {
	value, err := a.vault.open(name, sealed)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", name, err)
	}
	return value, nil
}
