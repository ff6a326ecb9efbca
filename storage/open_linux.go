package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openFile opens a file below the top and looks how long it is. os.Root would open and close
// each of the seven directories on the way; openat2 has the kernel keep to the same rule in one
// call.
func (l *local) openFile(name string) (Content, error) {
	fd, err := l.beneath(name, unix.O_RDONLY)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		// An old kernel, or a container runtime whose seccomp profile does not know the call.
		return l.openThroughRoot(name)
	}
	if err != nil {
		return Content{}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	size, err := regular(fd, name)
	if err != nil {
		unix.Close(fd)
		return Content{}, err
	}
	return Content{ReadSeekCloser: os.NewFile(uintptr(fd), name), Size: size}, nil
}

func (l *local) statFile(name string) (int64, error) {
	fd, err := l.beneath(name, unix.O_PATH)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return l.statThroughRoot(name)
	}
	if err != nil {
		return 0, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	defer unix.Close(fd)
	return regular(fd, name)
}

func (l *local) beneath(name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(l.top.Fd()), name, &how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func regular(fd int, name string) (int64, error) {
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return 0, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if info.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, notRegular(name)
	}
	return info.Size, nil
}
