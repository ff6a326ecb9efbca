package server

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestUnacknowledged(t *testing.T) {
	l := listen(t)
	defer l.Close()
	reader, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	writer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()

	// What fits into the reader's buffer is acknowledged without being read.
	if _, err := writer.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return unacknowledged(writer) == 0 })

	wrote := int64(1000)
	for {
		writer.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := writer.Write(make([]byte, 1<<20))
		wrote += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	full := unacknowledged(writer)
	if full <= 0 || full >= wrote {
		t.Fatalf("%d of %d bytes, with a reader that does not read", full, wrote)
	}
	if _, err := io.CopyN(io.Discard, reader, wrote); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return unacknowledged(writer) == 0 })

	if n := unacknowledged(struct{ net.Conn }{writer}); n != 0 {
		t.Errorf("%d of a connection that is none of the kernel's", n)
	}
}
