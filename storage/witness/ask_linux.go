package witness

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// unnamed makes a file that nobody else sees and that ends with its descriptor.
func unnamed(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
}

// ask reads from an empty file and writes nothing to it. XFS, and ext4 that is shut down, refuse
// to read; ext4 that has gone read-only after an error refuses to write. A directory can be asked
// for its inode, which of the three only XFS refuses.
func ask(f *os.File) error {
	var answer error
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = conn.Control(func(fd uintptr) { answer = askDescriptor(int(fd)) })
	return errors.Join(err, answer)
}

func askDescriptor(fd int) error {
	var none [1]byte
	_, err := unix.Pread(fd, none[:], 0)
	switch {
	case errors.Is(err, unix.EISDIR):
		var info unix.Stat_t
		return unix.Fstat(fd, &info)
	case err != nil:
		return err
	}
	_, err = unix.Pwrite(fd, nil, 0)
	return err
}
