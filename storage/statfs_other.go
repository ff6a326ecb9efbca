//go:build darwin || freebsd

package storage

import "golang.org/x/sys/unix"

func statfs(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Statfs(dir, &s)
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), err
}
