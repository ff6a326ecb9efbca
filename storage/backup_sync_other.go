//go:build !linux

package storage

import (
	"errors"
	"io/fs"
	"os"
)

// SyncTree brings to the disk what has been written below a directory, file by file.
func SyncTree(root *os.Root, dir string) error {
	return fs.WalkDir(root.FS(), dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		err = f.Sync()
		return full(errors.Join(err, f.Close()))
	})
}
