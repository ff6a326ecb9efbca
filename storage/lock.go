package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrInUse is of a directory that another process has locked.
var ErrInUse = errors.New("in use")

// Lock makes this process the only one that uses a directory, until the returned Closer is
// closed or the process ends in whatever way. When another process has it, the error is ErrInUse and names
// it.
func Lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.EINTR
	for err == unix.EINTR {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder := holder(f)
		f.Close()
		return nil, fmt.Errorf("directory %s is %w by %s", dir, ErrInUse, holder)
	}
	if err == nil {
		err = sign(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	// The file stays when the lock goes: removing it would let two processes lock two files of
	// the same name.
	return f, nil
}

// sign writes who holds the lock, for the message that the next one gets.
func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	if errors.Is(full(err), ErrFull) {
		return nil // the lock holds, and a full disk is no reason not to serve what is on it
	}
	return err
}

func holder(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return "another process" // which has not signed yet
	}
	return fmt.Sprintf("process %d", pid)
}
