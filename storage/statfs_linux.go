package storage

import "golang.org/x/sys/unix"

// statfs returns what an unprivileged process may still write below dir, and the size of the
// file system, in bytes.
func statfs(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Statfs(dir, &s)
	}
	unit := s.Frsize
	if unit == 0 {
		unit = s.Bsize
	}
	return int64(s.Bavail) * int64(unit), int64(s.Blocks) * int64(unit), err
}
