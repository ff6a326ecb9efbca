package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"roadstead/storage/witness"
)

// disk makes the calls to the local file system, each through one place, so that tests can put
// themselves between and let every single one of them fail, do nothing, or be the last that
// the process makes.
type disk struct {
	// witness knows whether the syncs are to be believed. nil until the directories are there.
	witness *witness.Witness

	seam func(op, name string, do func() error) error // nil but in tests
}

func (k *disk) call(op, name string, do func() error) error {
	if k.seam == nil {
		return do()
	}
	return k.seam(op, name, do)
}

// create makes a new file. What it may be read by is for the umask to say, as with the files
// of the stock registry beside it.
func (k *disk) create(name string) (f *os.File, err error) {
	err = k.call("create", name, func() (err error) {
		f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	})
	return f, err
}

// openToWrite opens a file that is there.
func (k *disk) openToWrite(name string) (f *os.File, err error) {
	err = k.call("open", name, func() (err error) {
		f, err = os.OpenFile(name, os.O_RDWR, 0)
		return err
	})
	return f, err
}

// write is on the path of every byte, so it goes round the closure. Between a write's halves a
// test can see what a torn one leaves.
func (k *disk) write(f *os.File, p []byte) (n int, err error) {
	if k.seam == nil {
		return f.Write(p)
	}
	for _, half := range [][]byte{p[:len(p)/2], p[len(p)/2:]} {
		err := k.seam("write", f.Name(), func() error {
			m, err := f.Write(half)
			n += m
			return err
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// sync brings a file to the disk. Its error is never to be followed by another try: the kernel
// reports a failed write once and then takes the lost pages for clean.
func (k *disk) sync(f *os.File) error {
	return k.call("sync", f.Name(), func() error { return k.syncAndAsk(f) })
}

// syncAndAsk syncs a file or a directory, and does not take the file system's word for it.
func (k *disk) syncAndAsk(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	return k.witness.Ask()
}

// syncDir brings the entries of a directory to the disk.
func (k *disk) syncDir(f *os.File) error {
	err := k.call("sync directory", f.Name(), func() error { return k.syncAndAsk(f) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		// Some network and FUSE file systems know no sync of a directory and say so. There is
		// nothing more that could be done on them.
		return nil
	}
	return err
}

// together makes calls that wait for the disk at the same time, and all of them whatever becomes
// of the others. Tests see them one after the other, in order.
func (k *disk) together(calls []func() error) error {
	errs := make([]error, len(calls))
	var all sync.WaitGroup
	for i, do := range calls {
		if k.seam != nil || i == len(calls)-1 {
			errs[i] = do()
			continue
		}
		all.Go(func() { errs[i] = do() })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (k *disk) remove(name string) error {
	err := k.call("remove", name, func() error { return os.Remove(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// makeDir makes a directory and those missing above it, and syncs the parent of each.
func (k *disk) makeDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := k.makeDir(parent); err != nil {
		return err
	}
	err = k.call("mkdir", dir, func() error { return os.Mkdir(dir, 0o777) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer f.Close()
	return k.syncDir(f)
}

// inDir does something in a directory of temporary files, which somebody may have tidied away
// while we run. Then the directory is made again, and it is done once more.
func (k *disk) inDir(dir string, do func() error) error {
	err := do()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := k.makeDir(dir); err != nil {
		return err
	}
	return do()
}
