// Package witness asks a file system whether it has given up on its disk.
//
// A file system that gives up, because its disk fails or goes away, drops what it has not written.
// A sync that it meets on its way may find nothing left to sync then, and report success: ext4's
// does when its journal is aborted under it, and XFS's when it is shut down. Whoever promises that
// something is on the disk asks here after the sync. The file system says that it has given up
// before it drops anything, so if the sync lied, the answer to this is an error.
package witness

import (
	"errors"
	"fmt"
	"os"
)

// Witness is a file without a name, on the file system that is asked. All its methods may be called
// concurrently; a nil one knows nothing and never objects.
type Witness struct {
	f *os.File
}

// New calls a witness for the file system of a directory. Where files without a name are not known,
// and for who may not write there, it is the directory itself, which tells less.
func New(dir string) (*Witness, error) {
	f, err := unnamed(dir)
	if err == nil {
		if ask(f) == nil {
			return &Witness{f}, nil
		}
		f.Close() // a file system of which not everything can be asked
	}
	if f, err = os.Open(dir); err != nil {
		return nil, fmt.Errorf("ask the file system of %s: %w", dir, err)
	}
	return &Witness{f}, nil
}

// Ask says that the file system has given up on its disk, or nil. It takes a microsecond.
func (w *Witness) Ask() error {
	if w == nil {
		return nil
	}
	if err := ask(w.f); err != nil {
		return fmt.Errorf("the file system has given up on its disk: %w", err)
	}
	return nil
}

// Close lets go of the file system. It may be called again.
func (w *Witness) Close() error {
	if w == nil {
		return nil
	}
	if err := w.f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
