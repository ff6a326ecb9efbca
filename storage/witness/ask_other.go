//go:build !linux

package witness

import (
	"errors"
	"os"
)

func unnamed(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func ask(f *os.File) error {
	_, err := f.Stat()
	return err
}
