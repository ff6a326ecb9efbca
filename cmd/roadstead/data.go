package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Data is an open data directory.
type Data struct {
	Store   *storage.Store
	Catalog *catalog.DB // nil with contentOnly
	lock    io.Closer   // nil when it was not taken
}

// The names in a data directory that others know too: the layout of the stock registry, and
// below it the folder that tells a registry with content from one without.
const (
	catalogFile  = "catalog.db"
	layoutFolder = "docker/registry/v2"
	repositories = layoutFolder + "/repositories"
)

// openData opens a data directory that this process alone uses from now on, and makes it if it
// is not there. Its cost does not depend on what is in it.
func openData(ctx context.Context, s Storage) (*Data, error) {
	if err := checkLayout(s.Directory); err != nil {
		return nil, err
	}
	if holdsContent(s.Directory) && !exists(s.Directory, catalogFile) {
		// An empty catalog beside this content would hide all of it, and never evict any.
		return nil, fmt.Errorf("%s holds content and no catalog: run \"roadstead adopt %s\" to take it over, or name another directory", s.Directory, s.Directory)
	}
	return lockData(ctx, s)
}

// lockData is openData for a directory that may have content and no catalog.
func lockData(ctx context.Context, s Storage) (*Data, error) {
	if err := os.MkdirAll(s.Directory, 0o755); err != nil {
		return nil, fmt.Errorf("make the data directory: %w; name another one with --data or storage.directory", err)
	}
	lock, err := storage.Lock(s.Directory)
	if err != nil {
		return nil, fmt.Errorf("%w; two processes cannot share a directory: stop the other one, or name another directory with --data or storage.directory", err)
	}
	d, err := shareData(ctx, s)
	if err != nil {
		lock.Close()
		return nil, err
	}
	d.lock = lock
	if err := d.Store.Sweep(ctx); err != nil {
		d.Close()
		return nil, fmt.Errorf("remove what an earlier process left: %w", err)
	}
	return d, nil
}

// shareData opens a directory beside a process that may be serving it.
func shareData(ctx context.Context, s Storage) (*Data, error) {
	d, err := contentOnly(s)
	if err != nil {
		return nil, err
	}
	d.Catalog, err = catalog.Open(ctx, "sqlite:"+filepath.Join(s.Directory, catalogFile))
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// contentOnly opens a directory for whoever does not want to know what is in it.
func contentOnly(s Storage) (*Data, error) {
	store, err := storage.New(storage.Config{Root: s.Directory, Floor: s.Floor})
	if err != nil {
		return nil, fmt.Errorf("open the data directory %s: %w", s.Directory, err)
	}
	return &Data{Store: store}, nil
}

// Close lets the next process have the directory.
func (d *Data) Close() error {
	var err error
	if d.Catalog != nil {
		err = d.Catalog.Close()
	}
	err = errors.Join(err, d.Store.Close())
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

// checkLayout refuses directories that somebody means well with and that are not what a data
// directory looks like.
func checkLayout(dir string) error {
	switch {
	case exists(dir, layoutFolder):
		return nil
	case exists(dir, "registry", layoutFolder):
		inner := filepath.Join(dir, "registry")
		return fmt.Errorf("%s is a volume around a registry, as Harbor's are; the content is in %s, name that", dir, inner)
	case exists(dir, "docker/registry/v1") || exists(dir, "docker/registry"):
		return fmt.Errorf("%s holds a registry of an older layout than %s, which nothing reads any more; name another directory", dir, layoutFolder)
	case exists(dir, "blobs") && exists(dir, "repositories"):
		return fmt.Errorf("%s looks like the inside of %s; name the directory that \"docker\" is in", dir, layoutFolder)
	case exists(dir, "registry/v2"):
		return fmt.Errorf("%s looks like the inside of %s; name the directory that it is in, %s", dir, layoutFolder, filepath.Dir(dir))
	case exists(dir, "oci-layout"):
		return fmt.Errorf("%s is an OCI image layout, which is one repository without a name; name another directory", dir)
	}
	return nil
}

// holdsContent looks at one entry of one folder, however many there are.
func holdsContent(dir string) bool {
	f, err := os.Open(filepath.Join(dir, repositories))
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) > 0
}

func exists(elem ...string) bool {
	_, err := os.Stat(filepath.Join(elem...))
	return err == nil
}
