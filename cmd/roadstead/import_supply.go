package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// supply is what is imported from.
type supply struct {
	name string
	size int64     // bytes to read; 0: nobody knows
	file io.Reader // nil for a directory
	dir  fs.FS
	open io.Closer // nil: nothing is
}

// openSupplies opens all before anything is imported, so that a name that is mistyped is said at once,
// and while we still are who may read them.
func openSupplies(ctx context.Context, names []string) (all []*supply, err error) {
	defer func() {
		if err != nil {
			closeSupplies(all)
		}
	}()
	for _, name := range names {
		s, err := openSupply(ctx, name)
		if err != nil {
			return all, fmt.Errorf("import: %w", err)
		}
		all = append(all, s)
	}
	return all, nil
}

func openSupply(ctx context.Context, name string) (*supply, error) {
	if name == "-" {
		return &supply{name: "standard input", file: endless(ctx, stdin)}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if !exists(name, "oci-layout") {
			return nil, fmt.Errorf("there is no oci-layout in %s: name a directory that is one, or the archives in it", name)
		}
		return &supply{name: name, dir: os.DirFS(name), size: sizeOf(name)}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	s := &supply{name: name, file: f, open: f}
	if info.Mode().IsRegular() {
		s.size = info.Size()
	}
	return s, nil
}

// endless is what comes out of a pipe until ctx ends, whose cause a read returns then that has waited in
// vain. One read is left behind, and goes with the process.
func endless(ctx context.Context, in io.Reader) io.Reader {
	out, into := io.Pipe()
	context.AfterFunc(ctx, func() { into.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.CopyBuffer(into, plainReader{in}, make([]byte, 256<<10))
		into.CloseWithError(err)
	}()
	return out
}

// plainReader hides all but Read, so that the buffer is the one that is given.
type plainReader struct{ io.Reader }

// sizeOf is how large the files below a directory are, for a progress bar.
func sizeOf(dir string) (size int64) {
	filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

func closeSupplies(all []*supply) {
	for _, s := range all {
		if s.open != nil {
			s.open.Close() // it was read only
		}
	}
}
