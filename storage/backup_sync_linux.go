package storage

import (
	"os"

	"golang.org/x/sys/unix"
)

// SyncTree brings to the disk what has been written below a directory: all of its file system at once,
// which is quicker than file by file.
func SyncTree(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return full(unix.Syncfs(int(f.Fd())))
}
