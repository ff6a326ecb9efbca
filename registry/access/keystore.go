package access

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"roadstead/storage/catalog"
)

// keystore is where keys are. They are numbered from 1 within their kind; the one with the highest
// number is used, and older ones are still good for what was made with them. A key is there whole or
// not at all.
type keystore interface {
	// read reads all keys of a kind, by their number.
	read(kind string) (map[int][]byte, error)

	// add adds a key. fs.ErrExist says that another process was quicker: its key is there then.
	add(kind string, number int, content []byte) error

	// remove removes a key, which may be gone already.
	remove(kind string, number int) error

	// place is what a key is called in messages.
	place(kind string, number int) string
}

// sharedKeys are the keys that the nodes of a cluster have in common. They are in the catalog, sealed
// by what only nodes know: whoever has the database alone can neither sign tokens nor open secrets.
//
// What the catalog has of a key is "k1.<nonce and ciphertext in base64>", by AES-256-GCM under the
// key's name.
type sharedKeys struct {
	catalog *catalog.DB
	seal    cipher.AEAD
}

const sealedKey = "k1."

// errOtherSecret is a key that the secret of this node does not open.
var errOtherSecret = errors.New("it was sealed with another cluster.secret than this node's: give this node the one that the others have. If that is lost, stop all nodes and empty the table keys of the database (DELETE FROM keys): everybody logs in again then, and stored passwords have to be set again")

// derived is a key of 32 bytes for one use, of the secret of a cluster.
func derived(secret, use string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "roadstead "+use, 32)
	if err != nil {
		panic(err) // 32 bytes are not too many
	}
	return key
}

// gcm is AES-256-GCM with a nonce of its own in front of each text.
func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// ShareKeys puts the keys in c.Directory into c.Catalog, for the nodes that have c.Secret in common, as
// the first of them to start would. The files stay where they are; to call it again does nothing.
func ShareKeys(ctx context.Context, c Config) error {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return newSharedKeys(c.Catalog, c.Secret).takeOverAll(ctx, keyFolder(c.Directory), log)
}

// newSharedKeys returns the keys of a cluster, of which it reads none: the catalog may be away.
func newSharedKeys(db *catalog.DB, secret string) *sharedKeys {
	return &sharedKeys{catalog: db, seal: gcm(derived(secret, "keys"))}
}

// takeOverAll takes over the keys in the files of this node, as those of the node that a cluster begins
// with, of each kind that the cluster has no key of yet. What is taken over it leaves where it is, and to
// call it again does nothing.
func (s *sharedKeys) takeOverAll(ctx context.Context, files keyFolder, log *slog.Logger) error {
	for _, kind := range []string{signingKind, vaultKind} {
		own, err := files.read(kind)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(own) == 0 {
			continue
		}
		if err == nil {
			err = s.takeOver(ctx, kind, own, files, log)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeOver puts the keys of a node into the catalog, or says that others are used.
func (s *sharedKeys) takeOver(ctx context.Context, kind string, own map[int][]byte, files keyFolder, log *slog.Logger) error {
	there, err := s.read(kind)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		err := s.catalog.Durable(ctx, func(tx *catalog.Tx) error {
			for number, content := range own {
				if err := tx.AddKey(sharedName(kind, number), s.sealed(kind, number, content)); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			log.Info("the keys of this node are those of its cluster now, in the catalog; their files are of no more use", "kind", kind, "directory", string(files))
			return nil
		}
		if !errors.Is(err, catalog.ErrExists) {
			return fmt.Errorf("put the keys of %s into the catalog: %w", files, err)
		}
		if there, err = s.read(kind); err != nil {
			return err
		}
	}
	for number, content := range own {
		if other, ok := there[number]; ok && string(other) != string(content) {
			log.Warn("this node has another key than its cluster, whose is used: move the file away",
				"file", files.place(kind, number), "consequence", "what was made with it alone is void: tokens, and stored passwords, which have to be set again")
		}
	}
	return nil
}

// sharedName is what a key is called in the catalog.
func sharedName(kind string, number int) string { return kind + "-" + strconv.Itoa(number) }

func (s *sharedKeys) place(kind string, number int) string {
	return sharedName(kind, number) + " in the table keys of the catalog"
}

// asking bounds a question for keys. Who asks for one has no ctx: what is found is everybody's.
func asking() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

func (s *sharedKeys) read(kind string) (map[int][]byte, error) {
	ctx, cancel := asking()
	defer cancel()
	rows, err := s.catalog.Keys(ctx)
	if err != nil {
		return nil, err
	}
	all := map[int][]byte{}
	for name, sealed := range rows {
		text, ours := strings.CutPrefix(name, kind+"-")
		number, err := strconv.Atoi(text)
		if !ours || err != nil || name != sharedName(kind, number) {
			continue
		}
		if all[number], err = s.open(name, sealed); err != nil {
			return nil, fmt.Errorf("key %s of the cluster: %w", name, err)
		}
	}
	return all, nil
}

func (s *sharedKeys) sealed(kind string, number int, content []byte) string {
	return sealedKey + base64.StdEncoding.EncodeToString(s.seal.Seal(nil, nil, content, []byte(sharedName(kind, number))))
}

func (s *sharedKeys) open(name, sealed string) ([]byte, error) {
	text, ok := strings.CutPrefix(sealed, sealedKey)
	if !ok {
		return nil, errors.New("it is sealed in a way that this program does not know: start the newer program again")
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("it is damaged: restore the database")
	}
	content, err := s.seal.Open(nil, nil, b, []byte(name))
	if err != nil {
		return nil, errOtherSecret
	}
	return content, nil
}

func (s *sharedKeys) add(kind string, number int, content []byte) error {
	ctx, cancel := asking()
	defer cancel()
	err := s.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		return tx.AddKey(sharedName(kind, number), s.sealed(kind, number, content))
	})
	if errors.Is(err, catalog.ErrExists) {
		return fs.ErrExist
	}
	return err
}

func (s *sharedKeys) remove(kind string, number int) error {
	ctx, cancel := asking()
	defer cancel()
	err := s.catalog.Durable(ctx, func(tx *catalog.Tx) error { return tx.DeleteKey(sharedName(kind, number)) })
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	return err
}
