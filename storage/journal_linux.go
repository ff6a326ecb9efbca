package storage

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// inOrder reports whether the file system of a directory brings changes of names to its disk in
// the order in which they were made, so that the sync of the directory that was changed last
// brings all before it. XFS and ext4 have one journal for all of them. When in doubt it does not.
func inOrder(dir string) bool {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Statfs(dir, &fs) != nil || unix.Stat(dir, &st) != nil {
		return false
	}
	switch int64(fs.Type) {
	case unix.XFS_SUPER_MAGIC:
		return true
	case unix.EXT4_SUPER_MAGIC:
		return hasJournal(unix.Major(st.Dev), unix.Minor(st.Dev))
	}
	return false
}

// hasJournal tells ext4 from ext2 and from ext4 that was made without a journal, which to statfs
// are all the same.
func hasJournal(major, minor uint32) bool {
	dev, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return false
	}
	found, err := filepath.Glob("/proc/fs/jbd2/" + filepath.Base(dev) + "-*")
	return err == nil && len(found) > 0
}
