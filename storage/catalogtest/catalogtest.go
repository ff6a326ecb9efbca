// Package catalogtest opens catalogs for tests, with the schema there from the beginning: to bring an
// empty file up to date, migration after migration, costs more than most of what is tested.
package catalogtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"roadstead/storage/catalog"
)

// Open is catalog.Open, and takes a file that is missing for a copy of one that has been opened
// before. What is in a file that is there stays, as is what it does with a database.
func Open(ctx context.Context, url string) (*catalog.DB, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		if err := begin(path); err != nil {
			return nil, err
		}
	}
	return catalog.Open(ctx, url)
}

// begin writes the file, unless there is one.
func begin(path string) error {
	content, err := empty()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// empty is what is in the file of a catalog in which there is nothing.
var empty = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "catalogtest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "catalog.db")
	db, err := catalog.Open(context.Background(), "sqlite:"+path)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil { // which folds the log into the file
		return nil, err
	}
	return os.ReadFile(path)
})
