//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
)

// benchStream is a connection that asks for large bodies and has the kernel throw them away:
// a client that copied or hashed them would take the larger half of two cores, and all
// servers would look alike. That the bytes are right is for [benchVerify] to say.
type benchStream struct {
	conn   net.Conn
	raw    syscall.RawConn
	header [8 << 10]byte
	void   []byte // never written to, so that its pages do not exist
}

func dialBenchStream(addr string) (*benchStream, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	// Longer than the slowest pull of the comparison, shorter than go test's patience.
	conn.SetDeadline(time.Now().Add(4 * time.Minute))
	raw, err := conn.(*net.TCPConn).SyscallConn()
	return &benchStream{conn: conn, raw: raw, void: make([]byte, 4<<20)}, err
}

// open sends a request and reads the header of its answer. It returns the length of the body
// and how much of that has been read with the header.
func (s *benchStream) open(request []byte) (length, have int64, err error) {
	if _, err := s.conn.Write(request); err != nil {
		return 0, 0, err
	}
	for n := 0; n < len(s.header); {
		more, err := s.conn.Read(s.header[n:])
		if err != nil {
			return 0, 0, err
		}
		n += more
		header, length, err := benchHeader(s.header[:n])
		if err != nil || header > 0 {
			return length, int64(n - header), err
		}
	}
	return 0, 0, errors.New("the answer's header is too long")
}

// get transfers one body. first is called when its first byte is there.
func (s *benchStream) get(request []byte, first func()) error {
	length, have, err := s.open(request)
	if err != nil {
		return err
	}
	if have > 0 {
		first()
	}
	for have < length {
		n, err := s.discard(length - have)
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", have, length, err)
		}
		if have == 0 {
			first()
		}
		have += n
	}
	return nil
}

// discard waits for bytes and drops at most so many of them.
func (s *benchStream) discard(most int64) (n int64, err error) {
	void := s.void[:min(most, int64(len(s.void)))]
	waitErr := s.raw.Read(func(fd uintptr) bool {
		got, _, errno := syscall.Syscall6(syscall.SYS_RECVFROM, fd,
			uintptr(unsafe.Pointer(&void[0])), uintptr(len(void)), syscall.MSG_TRUNC, 0, 0)
		if errno == syscall.EAGAIN {
			return false
		}
		if errno != 0 {
			err = errno
		}
		n = int64(got)
		return true
	})
	if err == nil {
		err = waitErr
	}
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// benchPull pulls an image as containerd does: the manifest by its tag, then config and
// layers, three at a time. It returns when the first byte of a layer was there and when the
// last.
func benchPull(addr, prefix string, img *benchImage) (first, total time.Duration, err error) {
	start := time.Now()
	var streams [3]*benchStream
	for i := range streams {
		if streams[i], err = dialBenchStream(addr); err != nil {
			return 0, 0, err
		}
		defer streams[i].conn.Close()
	}
	if err := streams[0].get(img.request("GET", addr, prefix, "manifests", img.tag), func() {}); err != nil {
		return 0, 0, fmt.Errorf("manifest of %s: %w", img.name, err)
	}
	work := make(chan v1.Descriptor, len(img.layers)+1)
	work <- img.config
	for _, layer := range img.layers {
		work <- layer
	}
	close(work)
	var firstByte atomic.Int64
	err = together(len(streams), func(i int) error {
		for d := range work {
			mark := func() {
				if d.MediaType != v1.MediaTypeImageConfig {
					firstByte.CompareAndSwap(0, int64(time.Since(start)))
				}
			}
			if err := streams[i].get(img.request("GET", addr, prefix, "blobs", d.Digest.String()), mark); err != nil {
				return fmt.Errorf("blob %s of %s: %w", d.Digest, img.name, err)
			}
		}
		return nil
	})
	return time.Duration(firstByte.Load()), time.Since(start), err
}

// together runs f n times at once and waits for all.
func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// benchVerify pulls an image and compares every byte of it with what its maker made. A server
// that answers fast and wrong has no figures.
func benchVerify(addr, prefix string, img *benchImage) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(kind, reference string, want v1.Descriptor) error {
		r, err := http.NewRequest("GET", "http://"+addr+img.path(prefix, kind, reference), nil)
		if err != nil {
			return err
		}
		r.Header["Accept"] = registry.ManifestTypes
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		verifier := want.Digest.Verifier()
		n, err := io.Copy(verifier, answer.Body)
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK || n != want.Size || !verifier.Verified() {
			return fmt.Errorf("%s %s: status %d and %d bytes that are not the %d of %s", kind, reference, answer.StatusCode, n, want.Size, want.Digest)
		}
		return nil
	}
	manifest := v1.Descriptor{Digest: img.manifest.digest, Size: int64(len(img.manifest.bytes))}
	for _, reference := range []string{img.tag, img.manifest.digest.String()} {
		if err := get("manifests", reference, manifest); err != nil {
			return err
		}
	}
	for _, d := range append([]v1.Descriptor{img.config}, img.layers...) {
		if err := get("blobs", d.Digest.String(), d); err != nil {
			return err
		}
	}
	return nil
}
