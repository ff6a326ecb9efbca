package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/opencontainers/go-digest"
)

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		runChild(job)
		return
	}
	os.Exit(m.Run())
}

// openStore opens a store in a directory, with no floor: most tests run on a file system that
// they do not own.
func openStore(t testing.TB, root string) *Store {
	t.Helper()
	s, err := New(Config{Root: root, Floor: -1, Scrubbers: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func filesystemDriver(root string) storagedriver.StorageDriver {
	return filesystem.New(filesystem.DriverParameters{RootDirectory: root, MaxThreads: 100})
}

// some returns n bytes that differ from those of every other seed.
func some(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), 1}).Read(b)
	return b
}

// sum is the digest of b, by other means than the code under test has.
func sum(alg digest.Algorithm, b []byte) digest.Digest {
	if alg == digest.SHA512 {
		h := sha512.Sum512(b)
		return digest.Digest("sha512:" + hex.EncodeToString(h[:]))
	}
	h := sha256.Sum256(b)
	return digest.Digest("sha256:" + hex.EncodeToString(h[:]))
}

// write takes b through a draft as far as asked.
func write(s *Store, b []byte, size int64) (*Draft, error) {
	d, err := s.Draft(digest.SHA256, size)
	if err != nil {
		return nil, err
	}
	if _, err := bytes.NewReader(b).WriteTo(d); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func commit(s *Store, b []byte) error {
	d, err := write(s, b, int64(len(b)))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Verify(sum(digest.SHA256, b), int64(len(b))); err != nil {
		return err
	}
	return d.Commit(context.Background())
}

func mustCommit(t testing.TB, s *Store, b []byte) digest.Digest {
	t.Helper()
	if err := commit(s, b); err != nil {
		t.Fatalf("commit: %v", err)
	}
	return sum(digest.SHA256, b)
}

// fastDir is a temporary directory in memory where there is enough, for tests that sync a
// thousand times and lose no power.
func fastDir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	if free, _, err := statfs(memory); err != nil || free < 1<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "roadstead")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Sweep is what a process does about what earlier ones have left, at its start and while it runs.
func (s *Store) Sweep(ctx context.Context) error { return errors.Join(s.SweepDrafts(ctx), s.Tidy(ctx)) }
