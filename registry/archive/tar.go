package archive

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Tar writes an archive as a tar file. Equal contents make equal bytes, compressed by the same program:
// files have no owner and no time.
type Tar struct {
	tar     *tar.Writer
	outside io.WriteCloser // compresses; nil: nothing does
}

// NewTar begins one. compression is "", "gzip" or "zstd".
func NewTar(out io.Writer, compression string) (*Tar, error) {
	t := &Tar{}
	var err error
	switch compression {
	case "":
	case "gzip":
		// Most of it is compressed already, so that to try harder costs time and brings nothing.
		t.outside, err = gzip.NewWriterLevel(out, gzip.BestSpeed)
	case "zstd":
		t.outside, err = zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(8<<20))
	default:
		err = fmt.Errorf("%q is no compression that is known here: take gzip or zstd", compression)
	}
	if err != nil {
		return nil, err
	}
	if t.outside != nil {
		out = t.outside
	}
	t.tar = tar.NewWriter(out)
	return t, nil
}

// Has says no: what is in a tar file is written once.
func (t *Tar) Has(string, int64) bool { return false }

// Put writes a file. After an error the archive is good for nothing.
func (t *Tar) Put(name string, size int64, r io.Reader) error {
	h := &tar.Header{Name: name, Size: size, Mode: 0o644, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.CopyN(t.tar, r, size)
	return err
}

// Close ends the file. out stays open.
func (t *Tar) Close() error {
	if err := t.tar.Close(); err != nil {
		return err
	}
	if t.outside == nil {
		return nil
	}
	return t.outside.Close()
}
