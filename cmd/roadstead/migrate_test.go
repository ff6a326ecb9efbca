package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/s3"
)

// newData makes a data directory with a catalog and returns it.
func newData(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	data, err := openData(t.Context(), Storage{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What cannot be moved is refused before anything is done, with what to do about it.
func TestMigrateRefuses(t *testing.T) {
	config := filepath.Join(t.TempDir(), "roadstead.yaml")
	write(t, config, "storage: { directory: data }\n")
	if _, said, status := command("migrate", "--config", config, newData(t)); status == 0 || !strings.Contains(said, "write storage.s3 and storage.catalog") {
		t.Errorf("into a directory: %d, %s", status, said)
	}
	beside := t.TempDir()
	refused := func(dir, want string) {
		t.Helper()
		from, err := openOrigin(t.Context(), dir, beside)
		if err == nil {
			from.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if left, _ := filepath.Glob(filepath.Join(beside, "*")); len(left) > 0 {
			t.Errorf("%q are left", left)
		}
	}
	refused(filepath.Join(t.TempDir(), "none"), "there is no directory")
	refused(t.TempDir(), "name the data directory of the node")
	refused(beside, "name another storage.directory")
	refused(filepath.Dir(beside), "name another storage.directory")

	stock := newTree(t)
	stock.blob("production/web", "layer")
	refused(stock.dir, "holds content and no catalog")

	dir := newData(t)
	write(t, filepath.Join(dir, adoptingFile), "")
	refused(dir, "adopted in part only")

	dir = newData(t)
	lock, err := storage.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	refused(dir, "stop the node that serves it")
	lock.Close()

	db, err := catalog.Open(t.Context(), "sqlite:"+filepath.Join(dir, catalogFile))
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx *catalog.Tx) error {
		return tx.AddBlob(registry.SplitRepo("production/web"), stock.blob("", "elsewhere"), 9)
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	refused(dir, "not what a node has in a bucket")
}

// Keys come along once, and those of two nodes are never mixed.
func TestCopyKeys(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := copyKeys(to, from); err != nil || exists(to, keysFolder) {
		t.Errorf("of a node without keys: %v", err)
	}
	if err := os.Mkdir(filepath.Join(from, keysFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"signing-1": "one", "vault-1": "two"} {
		write(t, filepath.Join(from, keysFolder, name), text)
	}
	write(t, filepath.Join(to, "key-vault-1"), "half of one, left by one that was killed")
	for range 2 {
		if err := copyKeys(to, from); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(to, keysFolder))
	if err != nil || len(entries) != 2 || exists(to, "key-vault-1") {
		t.Errorf("%v, %v", entries, err)
	}
	place := filepath.Join(to, keysFolder, "vault-1")
	if b, err := os.ReadFile(place); err != nil || string(b) != "two" {
		t.Errorf("%q, %v", b, err)
	}
	if info, err := os.Stat(place); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	write(t, filepath.Join(from, keysFolder, "vault-1"), "three")
	for _, err := range []error{checkKeys(to, from), copyKeys(to, from)} {
		if err == nil || !strings.Contains(err.Error(), "a key of another node") {
			t.Errorf("over another key: %v", err)
		}
	}
}

// What root makes on the way is of use to whoever serves it.
func TestWhatRootMakes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("for root")
	}
	old, dir := t.TempDir(), filepath.Join(t.TempDir(), "new")
	if err := os.Chown(old, 4711, 4712); err != nil {
		t.Fatal(err)
	}
	if err := makeLike(dir, old); err != nil {
		t.Fatal(err)
	}
	bucket := S3{Config: s3.Config{Endpoint: "http://127.0.0.1:1", Bucket: "images", AccessKey: "key"}, SecretKey: "secret"}
	data, err := shareData(t.Context(), Storage{Directory: dir, S3: bucket, Hot: Hot{Share: 50}})
	if err != nil {
		t.Fatal(err)
	}
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}
	if exists(dir, hotFolder) {
		t.Error("a command has made a folder for hot copies")
	}
	for _, folder := range []string{keysFolder, hotFolder, filepath.Join(hotFolder, "filling")} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{filepath.Join(keysFolder, "vault-1.key"), nodeFile, workedFile, mindFile} {
		write(t, filepath.Join(dir, name), "")
	}
	if err := giveAway(dir); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && owner(info) != "4711:4712" {
			t.Errorf("%s belongs to %s", path, owner(info))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
