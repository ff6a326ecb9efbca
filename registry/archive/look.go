package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// look passes content on and looks at it on the way: how it is compressed and, if it is asked to, what
// it is without that, and, of the configuration of an image, what its layers should be.
type look struct {
	io.Reader
	compression string

	pipe   *io.PipeWriter
	hashed chan error // of the goroutine that decompresses
	diff   registry.Digest
	config *bytes.Buffer
}

func newLook(body io.Reader, size int64, into bool) (*look, error) {
	buffered := bufio.NewReaderSize(body, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	l := &look{Reader: buffered}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		l.compression = "gzip"
	case bytes.HasPrefix(magic, zstdMagic):
		l.compression = "zstd"
	}
	switch {
	case l.compression != "" && into:
		l.decompress()
	case bytes.HasPrefix(magic, []byte("{")) && size <= registry.MaxManifest:
		l.config = &bytes.Buffer{}
		l.Reader = io.TeeReader(buffered, l.config)
	}
	return l, nil
}

// decompress has another goroutine hash what is compressed in what passes. It ends when the pipe is
// closed, which end and abandon do and then wait for it.
func (l *look) decompress() {
	out, in := io.Pipe()
	l.pipe, l.hashed = in, make(chan error, 1)
	l.Reader = io.TeeReader(l.Reader, in)
	go func() {
		hash := sha256.New()
		plain, err := Decompress(out)
		if err == nil {
			_, err = io.Copy(hash, plain)
			plain.Close()
		}
		if err == nil {
			l.diff = digest.NewDigest(digest.SHA256, hash)
		}
		// What is damaged is said at the end, for which the rest has to come through.
		io.Copy(io.Discard, out)
		l.hashed <- err
	}()
}

// end says what was found, once all has passed.
func (l *look) end() (diff registry.Digest, diffs []registry.Digest, err error) {
	if l.pipe != nil {
		if _, err := io.Copy(io.Discard, l); err != nil { // what is kept already may not have been read
			l.abandon()
			return "", nil, err
		}
		l.pipe.Close()
		if err := <-l.hashed; err != nil {
			return "", nil, fmt.Errorf("it is damaged: %w", err)
		}
		return l.diff, nil, nil
	}
	if l.config == nil {
		return "", nil, nil
	}
	if _, err := io.Copy(io.Discard, l); err != nil {
		return "", nil, err
	}
	var config struct {
		RootFS struct {
			Diffs []registry.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if json.Unmarshal(l.config.Bytes(), &config) != nil {
		return "", nil, nil // it is something else
	}
	for _, d := range config.RootFS.Diffs {
		if _, err := registry.ParseDigest(string(d)); err != nil {
			return "", nil, nil // no configuration of an image, and as long as anybody likes
		}
	}
	return "", config.RootFS.Diffs, nil
}

// abandon ends a look whose content was not kept.
func (l *look) abandon() {
	if l.pipe != nil {
		l.pipe.CloseWithError(io.ErrUnexpectedEOF)
		<-l.hashed
	}
}
