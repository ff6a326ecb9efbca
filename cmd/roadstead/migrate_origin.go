package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"roadstead/storage"
	"roadstead/storage/catalog"
)

// origin is the data directory of a node that was alone. It is locked and read, and not written to:
// what has to be written for its catalog to be read is written to a copy.
type origin struct {
	dir     string
	lock    io.Closer // nil where nobody could serve from it either
	store   *storage.Store
	catalog *catalog.DB
	copied  string // the folder of the copy
	bare    bool   // it had no lock before, and whoever serves it next has to own that
}

// openOrigin opens a data directory. The copy of its catalog lies below beside as long as it is open,
// which is made if it is missing, for whoever has served this one.
func openOrigin(ctx context.Context, dir, beside string) (_ *origin, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := checkOrigin(dir, beside); err != nil {
		return nil, err
	}
	s := &origin{dir: dir, bare: !exists(dir, "lock") || !exists(dir, draftsFolder)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	s.lock, err = storage.Lock(dir)
	if err != nil && !errors.Is(err, syscall.EROFS) {
		if !errors.Is(err, storage.ErrInUse) {
			return nil, fmt.Errorf("%w; run this as the user that serves, or as root", err)
		}
		return nil, fmt.Errorf("%w; stop the node that serves it, and start it again only if you give up on this", err)
	}
	if s.store, err = storage.New(storage.Config{Root: dir, Floor: -1}); err != nil {
		return nil, fmt.Errorf("open the data directory %s: %w", dir, err)
	}
	if err := makeLike(beside, dir); err != nil {
		return nil, err
	}
	if s.copied, err = copyCatalog(dir, beside); err != nil {
		return nil, err
	}
	if s.catalog, err = catalog.Open(ctx, "sqlite:"+filepath.Join(s.copied, catalogFile)); err != nil {
		return nil, fmt.Errorf("the catalog of %s: %w", dir, err)
	}
	return s, s.checkContent(ctx)
}

// checkOrigin looks at what can be told without opening anything.
func checkOrigin(dir, beside string) error {
	switch {
	case !exists(dir):
		return fmt.Errorf("there is no directory %s", dir)
	case !elsewhere(dir, beside):
		return fmt.Errorf("%s is the data directory of the new configuration too, or one is in the other: name another storage.directory there", dir)
	case exists(dir, adoptingFile):
		return fmt.Errorf("%s is adopted in part only: run \"roadstead adopt %s\" again first", dir, dir)
	case !exists(dir, catalogFile) && exists(dir, layoutFolder):
		return fmt.Errorf("%s holds content and no catalog: run \"roadstead adopt %s\" first", dir, dir)
	case !exists(dir, catalogFile):
		return fmt.Errorf("there is no %s in %s: name the data directory of the node, which is storage.directory of its configuration", catalogFile, dir)
	}
	return nil
}

// checkContent refuses a catalog whose content is elsewhere.
func (s *origin) checkContent(ctx context.Context) error {
	usage, err := s.catalog.Usage(ctx)
	if err != nil || usage.Count == 0 || exists(s.dir, layoutFolder) {
		return err
	}
	return fmt.Errorf("there is no %s in %s, although its catalog knows of %d pieces of content: only a directory can be moved, and not what a node has in a bucket", layoutFolder, s.dir, usage.Count)
}

// Close lets the directory be served again.
func (s *origin) Close() error {
	var errs []error
	if s.catalog != nil {
		errs = append(errs, s.catalog.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.copied != "" {
		errs = append(errs, os.RemoveAll(s.copied))
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	if s.lock != nil && s.bare {
		errs = append(errs, giveAway(s.dir))
	}
	return errors.Join(errs...)
}

// copiedCatalog begins the names of folders with a copy.
const copiedCatalog = "migrate-"

// copyCatalog copies the file of a catalog, with what a node that was killed has left beside it. The
// lock keeps servers from writing to it, but not commands such as "user add": that would be seen by
// the times of the files.
func copyCatalog(dir, beside string) (string, error) {
	old, _ := filepath.Glob(filepath.Join(beside, copiedCatalog+"*")) // of a migration that was killed
	for _, folder := range old {
		if err := os.RemoveAll(folder); err != nil {
			return "", err
		}
	}
	folder, err := os.MkdirTemp(beside, copiedCatalog) // for nobody else's eyes
	if err != nil {
		return "", fmt.Errorf("copy the catalog: %w", err)
	}
	names := []string{catalogFile, catalogFile + "-wal"}
	before, err := stamps(dir, names)
	for _, name := range names {
		if err == nil {
			err = copyFile(filepath.Join(folder, name), filepath.Join(dir, name))
		}
	}
	if err == nil {
		var after string
		if after, err = stamps(dir, names); err == nil && after != before {
			err = errors.New("somebody is writing to it: run this again when no command does")
		}
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("copy the catalog of %s: %w", dir, err), os.RemoveAll(folder))
	}
	return folder, nil
}

// stamps are how long files are and when they were written.
func stamps(dir string, names []string) (all string, err error) {
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		default:
			all += fmt.Sprintln(name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return all, nil
}

// copyFile copies a file for its owner, if there is one.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
