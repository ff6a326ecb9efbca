package storage

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readOnce tells the kernel that content is read through and not soon again, so that a scrub
// of terabytes does not push out of memory what clients are asking for.
func readOnce(c Content) {
	if f, ok := c.ReadSeekCloser.(*os.File); ok {
		unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_NOREUSE)
	}
}

// writeSoon has the kernel begin to write a part of a file, without waiting for it. Whether
// that went well is for the sync to say.
func writeSoon(f *os.File, off, n int64) {
	unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// accessed is when a file was last used, by its own word.
func accessed(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Atim.Unix())
	}
	return time.Time{}
}

// openUnnoticed opens a file for reading without that counting as a use of it.
func openUnnoticed(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOATIME, 0)
	if os.IsPermission(err) {
		return os.Open(name) // somebody else's file
	}
	return f, err
}
