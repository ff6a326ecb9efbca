package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a connection whose peer may be as slow as it likes but must not stand still: a
// write fails when for the time of stall the peer has taken no byte. A 10 GB layer over a slow
// line has all day, and a reader that went to sleep is dropped (FAULTS C2, D2).
//
// A deadline for each write would not do: the kernel wakes a writer only when a third of a
// send buffer of megabytes is free, which a client at 20 KB/s does not manage in a minute. So
// the deadline is only when to look. If the kernel takes some bytes then, or if the peer has
// acknowledged some since, too few to make room for one more packet, the write goes on where
// it was. The drop comes at most a fourth of the time of stall late.
type conn struct {
	net.Conn
	stall   time.Duration
	pending func(net.Conn) int64 // how much that was written is not acknowledged
	release func()               // called by the first Close
	once    sync.Once

	written int64 // bytes given to the kernel; one writer at a time has it

	steady atomic.Bool // reading goes on as long as something comes; set with mu held

	mu    sync.Mutex
	fixed time.Time // the deadline that somebody above set, zero for none: it is kept to
	look  time.Time // the deadline that is in force
	due   time.Time // of reading, when that is steady
}

// watch makes a conn of nc. It can ReadFrom if nc can, so that the kernel may copy files.
func watch(nc net.Conn, stall time.Duration, release func()) net.Conn {
	c := &conn{Conn: nc, stall: stall, pending: unacknowledged, release: release}
	if from, ok := nc.(io.ReaderFrom); ok {
		return &fileConn{conn: c, from: from}
	}
	return c
}

// Write writes p, as long as that takes.
func (c *conn) Write(p []byte) (n int, err error) {
	w := waiting{conn: c}
	for {
		w.arm()
		m, err := c.Conn.Write(p[n:])
		n += m
		c.written += int64(m)
		if err == nil || !w.moving(int64(m), err) {
			return n, err
		}
	}
}

// Read reads what has come.
func (c *conn) Read(p []byte) (int, error) {
	if c.steady.Load() {
		c.wait()
	}
	return c.Conn.Read(p)
}

// persist makes reading fail when nothing has come for the time of stall, and lifts any other
// deadline of it, until the next SetReadDeadline: net/http calls that at the end of a body. It
// is the connection where this is kept, because what is read above comes in frames and records
// that a slow line needs longer for (FAULTS D2).
func (c *conn) persist() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = time.Time{}
	c.steady.Store(true)
}

// wait sets the deadline of one read.
func (c *conn) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A deadline that is up to a fourth late need be set for few of the reads.
	if now := time.Now(); c.steady.Load() && c.due.Sub(now) < c.stall {
		c.due = now.Add(c.stall + c.stall/4)
		// It fails on a closed connection only, and so will the read.
		_ = c.Conn.SetReadDeadline(c.due)
	}
}

// SetReadDeadline sets a deadline that holds whatever comes.
func (c *conn) SetReadDeadline(t time.Time) error {
	if !c.steady.Load() {
		return c.Conn.SetReadDeadline(t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steady.Store(false)
	return c.Conn.SetReadDeadline(t)
}

// connKey is where the context of a request has its connection.
type connKey struct{}

// connOf returns the connection that a request with HTTP/1 came over, or nil.
func connOf(ctx context.Context) *conn {
	nc, _ := ctx.Value(connKey{}).(net.Conn)
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = wrapped.NetConn() // below TLS
	}
	switch c := nc.(type) {
	case *conn:
		return c
	case *fileConn:
		return c.conn
	}
	return nil
}

// Close closes the connection.
func (c *conn) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}

// CloseWrite says that nothing more will be written, if the connection can.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetDeadline sets the deadlines of reading and writing.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline sets a deadline that holds whether the peer takes something or not.
// net/http lifts it after each request, which costs nothing when there is none.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.IsZero() && c.fixed.IsZero() {
		return nil
	}
	c.fixed = t
	c.look = time.Time{}
	return c.Conn.SetWriteDeadline(t)
}

// fileConn is a conn that the kernel copies files to.
type fileConn struct {
	*conn
	from io.ReaderFrom
}

// ReadFrom writes what src has. An *os.File in an io.LimitedReader, which is what
// http.ServeContent sends, arrives as it is at the connection below: that is what sendfile is
// for.
func (c *fileConn) ReadFrom(src io.Reader) (n int64, err error) {
	limited, _ := src.(*io.LimitedReader)
	if limited == nil || !isFile(limited.R) {
		return io.Copy(struct{ io.Writer }{c.conn}, src)
	}
	w := waiting{conn: c.conn}
	for {
		w.arm()
		left := limited.N
		m, err := c.from.ReadFrom(limited)
		n += m
		c.written += m
		if err == nil || !w.moving(m, err) {
			return n, err
		}
		if left-limited.N != m {
			// On a file system without sendfile the bytes go through a buffer, and what is in it
			// when the writing is interrupted has been read and is lost. Going on would leave a
			// hole in the content.
			return n, err
		}
	}
}

func isFile(r io.Reader) bool {
	_, ok := r.(*os.File)
	return ok
}

// waiting is one write that may have to wait.
type waiting struct {
	conn  *conn
	vain  int   // looks in a row at which nothing had been taken
	taken int64 // how much had been taken in all when we last looked
}

// looks is how often in a row a peer must be seen to have taken nothing before it is dropped,
// beside the first look, which has nothing to compare with. They are counted, and not the
// time, so that a process which was itself stopped for a while drops nobody.
const looks = 4

// arm sets the deadline at which to look next. It leaves one in force that is near enough,
// because setting it costs as much as a small write's worth of bookkeeping.
func (w *waiting) arm() {
	c := w.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	now, step := time.Now(), c.stall/looks
	if !c.fixed.IsZero() || c.look.Sub(now) > step/2 {
		return
	}
	c.look = now.Add(step)
	// It fails on a closed connection only, and so will the write.
	_ = c.Conn.SetWriteDeadline(c.look)
}

// moving reports whether a write that has stopped with err after n bytes is to go on.
func (w *waiting) moving(n int64, err error) bool {
	c := w.conn
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	fixed := !c.fixed.IsZero()
	c.mu.Unlock()
	if fixed {
		return false
	}
	taken := c.written - c.pending(c.Conn)
	if n > 0 || w.vain > 0 && taken > w.taken {
		w.vain = 0
	}
	w.vain++
	w.taken = taken
	return w.vain <= looks
}
