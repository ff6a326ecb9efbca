package s3

import (
	"context"
	"errors"
	"strings"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
)

// Walk calls f with everything below a path, in the order of the keys, a directory before what is
// in it. That costs a request for a thousand objects.
func (d *Driver) Walk(ctx context.Context, from string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	if from != "/" {
		if err := checkPath(from); err != nil {
			return err
		}
	}
	var hint storagedriver.WalkOptions
	for _, set := range options {
		set(&hint)
	}
	w := walk{driver: d, from: from, f: f}
	if strings.HasPrefix(hint.StartAfterHint, "/") {
		w.after = d.key(hint.StartAfterHint)
		w.found = true // that nothing comes after it is no error
	}
	for {
		jumps := w.skip
		err := d.each(ctx, minio.ListObjectsOptions{Prefix: d.below(from), Recursive: true, StartAfter: w.after}, w.visit)
		switch {
		case errors.Is(err, storagedriver.ErrFilledBuffer):
			return nil
		case errors.Is(err, errFromF):
			return w.failed
		case err != nil:
			return d.failed(ctx, "walk", from, err)
		case w.skip != jumps:
			continue
		case !w.found && from != "/":
			return storagedriver.PathNotFoundError{Path: from, DriverName: name}
		}
		return nil
	}
}

// walk is one that is under way.
type walk struct {
	driver *Driver
	from   string
	f      storagedriver.WalkFn

	dir    string // the last directory that f was told of
	found  bool
	after  string // where the listing begins
	skip   int    // how many directories f did not want to see
	failed error  // f's
}

var errFromF = errors.New("the caller has had enough")

func (w *walk) visit(o minio.ObjectInfo) error {
	w.found = true
	path := w.driver.path(o.Key)
	if strings.HasSuffix(path, "/") {
		return nil // some console's folder
	}
	for _, dir := range dirsBetween(w.from, path) {
		if dir == w.dir || strings.HasPrefix(w.dir, dir+"/") {
			continue
		}
		w.dir = dir
		err := w.f(dirInfo(dir))
		if errors.Is(err, storagedriver.ErrSkipDir) {
			// No key of ours has a byte as large as '~'.
			w.after, w.skip = w.driver.key(dir)+"/~", w.skip+1
			return errEnough
		}
		if err := w.told(err); err != nil {
			return err
		}
	}
	err := w.f(fileInfo(path, o))
	if errors.Is(err, storagedriver.ErrSkipDir) {
		return nil
	}
	return w.told(err)
}

// told keeps f's error apart from the listing's.
func (w *walk) told(err error) error {
	if err == nil || errors.Is(err, storagedriver.ErrFilledBuffer) {
		return err
	}
	w.failed = err
	return errFromF
}

// dirsBetween are the directories of a path that are below from, the outermost first.
func dirsBetween(from, path string) []string {
	var dirs []string
	start := len(from) + 1
	if from == "/" {
		start = 1
	}
	for i := start; i < len(path); i++ {
		if path[i] == '/' {
			dirs = append(dirs, path[:i])
		}
	}
	return dirs
}
