package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"roadstead/registry/access"
)

// keys moves the keys to where the new nodes look for them, and says how to start those: nodes of a
// cluster have their keys in the catalog, so that whichever is started first opens the passwords.
func (m *migration) keys(ctx context.Context) (how string, err error) {
	s := m.cfg.Storage
	if m.cfg.Cluster.Listen == "" {
		return fmt.Sprintf("start the node of %s, which has the keys now", s.Directory), copyKeys(s.Directory, m.from.dir)
	}
	err = access.ShareKeys(ctx, access.Config{
		Catalog: m.to.Catalog, Directory: filepath.Join(m.from.dir, keysFolder), Secret: string(m.cfg.Cluster.Secret),
	})
	if err != nil {
		return "", fmt.Errorf("move the keys: %w", err)
	}
	return "start the nodes, in any order", nil
}

// checkKeys refuses to mix the keys of two nodes: what one has sealed the other's do not open.
func checkKeys(to, from string) error {
	_, err := missingKeys(to, from)
	return err
}

// copyKeys copies the keys that sign tokens and seal secrets from one data directory to another. What
// is there already is the same.
func copyKeys(to, from string) error {
	missing, err := missingKeys(to, from)
	if err != nil || len(missing) == 0 {
		return err
	}
	folder := filepath.Join(to, keysFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("copy the keys: %w", err)
	}
	for _, name := range missing {
		// By way of another name: half a key is worse than none.
		fresh := filepath.Join(to, "key-"+name)
		err := os.Remove(fresh)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err == nil {
			err = copyFile(fresh, filepath.Join(from, keysFolder, name))
		}
		if err == nil {
			err = os.Rename(fresh, filepath.Join(folder, name))
		}
		if err != nil {
			return fmt.Errorf("copy the keys: %w", err)
		}
	}
	dir, err := os.Open(folder)
	if err != nil {
		return fmt.Errorf("copy the keys: %w", err)
	}
	defer dir.Close()
	return dir.Sync()
}

// missingKeys are the names of keys that are to be copied.
func missingKeys(to, from string) (missing []string, err error) {
	entries, err := os.ReadDir(filepath.Join(from, keysFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at the keys: %w", err)
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		want, err := readSmall(filepath.Join(from, keysFolder, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("look at the keys: %w", err)
		}
		place := filepath.Join(to, keysFolder, entry.Name())
		have, err := readSmall(place)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, entry.Name())
		case err != nil:
			return nil, fmt.Errorf("look at the keys: %w", err)
		case !bytes.Equal(have, want):
			return nil, fmt.Errorf("%s is a key of another node: name an empty directory as storage.directory", place)
		}
	}
	return missing, nil
}
