package storage

import "fmt"

// openThroughRoot opens a file where the kernel cannot be asked to stay below a directory.
func (l *local) openThroughRoot(name string) (Content, error) {
	f, err := l.root.Open(name)
	if err != nil {
		return Content{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(name)
	}
	if err != nil {
		f.Close()
		return Content{}, err
	}
	return Content{ReadSeekCloser: f, Size: info.Size()}, nil
}

func (l *local) statThroughRoot(name string) (int64, error) {
	info, err := l.root.Stat(name)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, notRegular(name)
	}
	return info.Size(), nil
}

func notRegular(name string) error {
	return fmt.Errorf("%s is not a regular file: %w", name, ErrDamaged)
}
