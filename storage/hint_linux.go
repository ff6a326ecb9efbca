package storage

import (
	"os"

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
