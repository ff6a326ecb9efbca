package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// spying is a listener whose connections count the files that arrive at ReadFrom, which is
// where the net package decides for sendfile.
type spying struct {
	net.Listener
	buffer int // of the kernel for sending; 0: its own choice

	files, others, writes atomic.Int64

	late atomic.Int64 // writes that were not done by their deadline
}

func (s *spying) seen(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.late.Add(1)
	}
}

func (s *spying) Accept() (net.Conn, error) {
	nc, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp := nc.(*net.TCPConn)
	if s.buffer > 0 {
		if err := tcp.SetWriteBuffer(s.buffer); err != nil {
			return nil, err
		}
	}
	return &spiedOn{TCPConn: tcp, spy: s}, nil
}

type spiedOn struct {
	*net.TCPConn
	spy *spying
}

func (c *spiedOn) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			c.spy.files.Add(1)
			n, err := c.TCPConn.ReadFrom(src)
			c.spy.seen(err)
			return n, err
		}
	}
	c.spy.others.Add(1)
	return c.TCPConn.ReadFrom(src)
}

func (c *spiedOn) Write(p []byte) (int, error) {
	c.spy.writes.Add(int64(len(p)))
	n, err := c.TCPConn.Write(p)
	c.spy.seen(err)
	return n, err
}

// Nothing between the registry and the connection may hide a file, or the kernel cannot send
// it.
func TestFileReachesTheConnection(t *testing.T) {
	shelf := newShelf()
	shelf.files(t)
	content := bytes.Repeat([]byte("file"), 1<<20)
	d := shelf.put(content)
	spy := &spying{Listener: listen(t)}
	run := startOn(t, New(Config{Registry: shelf}), spy, nil)
	for i, span := range []string{"bytes=0-", "bytes=100-", "bytes=0-0"} {
		resp, body := run.ask(t, "GET", "/v2/a/b/blobs/"+string(d), "Range", span)
		if resp.StatusCode != 206 || len(body) == 0 {
			t.Errorf("%s: %s, %d bytes", span, resp.Status, len(body))
		}
		if spy.files.Load() != int64(i+1) || spy.others.Load() != 0 || spy.writes.Load() > 4096 {
			t.Errorf("%s: %d files and %d others arrived, %d bytes were written", span, spy.files.Load(), spy.others.Load(), spy.writes.Load())
		}
		spy.writes.Store(0)
	}
}

func TestStalledReaderIsDropped(t *testing.T) {
	content := make([]byte, 32<<20)
	tests := []struct {
		name  string
		files bool
		start func(testing.TB, *Server) *running
	}{
		{name: "file", files: true, start: start},
		{name: "buffer", start: start},
		{name: "TLS", files: true, start: func(t testing.TB, s *Server) *running { return startTLS(t, s, true) }},
		{name: "HTTP/2", start: func(t testing.TB, s *Server) *running { return startTLS(t, s, false) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			shelf := newShelf()
			d := shelf.put(content)
			if test.files {
				shelf.files(t)
			}
			s := New(Config{Registry: shelf, Stall: 200 * time.Millisecond})
			run := test.start(t, s)
			resp, err := run.Get(run.url + "/v2/a/b/blobs/" + string(d))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			// Nobody reads. The buffers on the way fill up, and then time runs.
			eventually(t, func() bool { return s.Stats().InFlight == 0 })
			if n := s.Stats().Requests[Series{"blob", gone}]; n != 1 {
				t.Errorf("%d counted as gone, want 1", n)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Error("the body ended well")
			}
			// The others are still served.
			run.Client.CloseIdleConnections()
			if resp, body := run.ask(t, "GET", "/v2/"); resp.StatusCode != 200 {
				t.Errorf("%s %s", resp.Status, body)
			}
		})
	}
}

// A reader that is slow, but moves, gets everything, however much longer than the stall time
// that takes.
func TestSlowReaderIsServed(t *testing.T) {
	const stall = 500 * time.Millisecond
	content := make([]byte, 16<<20)
	for _, files := range []bool{true, false} {
		t.Run(fmt.Sprintf("file %v", files), func(t *testing.T) {
			shelf := newShelf()
			d := shelf.put(content)
			if files {
				shelf.files(t)
			}
			spy := &spying{Listener: listen(t), buffer: 64 << 10}
			run := startOn(t, New(Config{Registry: shelf, Stall: stall}), spy, nil)
			nc, err := net.Dial("tcp", run.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			// With small buffers the kernel cannot take in what we do not read.
			if err := nc.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(nc, "GET /v2/a/b/blobs/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", d)
			got := 0
			buf := make([]byte, 64<<10)
			for begin := time.Now(); ; {
				n, err := nc.Read(buf)
				got += n
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("after %d bytes and %s: %v", got, time.Since(begin), err)
				}
				if time.Since(begin) < 3*stall {
					time.Sleep(stall / 50)
				}
			}
			if got < len(content) {
				t.Errorf("%d bytes, want all %d", got, len(content))
			}
			if files && spy.late.Load() == 0 {
				t.Error("no deadline passed during the one write that a file is, so this showed nothing")
			}
		})
	}
}

// script is a connection below conn whose writes take what the script says.
type script struct {
	net.Conn
	deadline time.Time
	takes    []int   // bytes that each write takes; fewer than it was given: it then times out
	unacked  []int64 // bytes not acknowledged, as often as one asks
	wrote    int
}

func (s *script) pending(net.Conn) int64 {
	if len(s.unacked) == 0 {
		return 0
	}
	n := s.unacked[0]
	s.unacked = s.unacked[1:]
	return n
}

func (s *script) SetReadDeadline(time.Time) error    { return nil }
func (s *script) SetWriteDeadline(t time.Time) error { s.deadline = t; return nil }

func (s *script) Write(p []byte) (int, error) {
	if !s.deadline.IsZero() && !time.Now().Before(s.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	n := len(p)
	if len(s.takes) > 0 {
		n, s.takes = min(n, s.takes[0]), s.takes[1:]
	}
	s.wrote += n
	if n == len(p) {
		return n, nil
	}
	if s.deadline.IsZero() {
		return n, errors.New("it waits for ever")
	}
	time.Sleep(time.Until(s.deadline))
	return n, os.ErrDeadlineExceeded
}

func TestWriteDeadlines(t *testing.T) {
	tests := []struct {
		name    string
		takes   []int
		unacked []int64
		fixed   time.Duration
		wrote   int
		err     bool
		atMost  time.Duration
	}{
		{name: "all at once", wrote: 1000},
		{name: "a little each time", takes: []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, wrote: 1000, atMost: 150 * time.Second},
		{name: "nothing", takes: []int{0, 0, 0, 0, 0, 0}, err: true, atMost: 75 * time.Second},
		{name: "nothing for a while", takes: []int{0, 0, 0, 1000}, wrote: 1000, atMost: 60 * time.Second},
		{name: "a little and then nothing", takes: []int{1, 0, 0, 0, 0, 0}, wrote: 1, err: true, atMost: 90 * time.Second},
		{name: "nothing, but acknowledging", takes: []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1000}, unacked: []int64{900, 800, 800, 800, 700, 600, 600, 600, 600, 500, 500, 500}, wrote: 1000, atMost: 4 * time.Minute},
		{name: "acknowledging, and then no more", takes: make([]int, 20), unacked: []int64{900, 800, 700, 700, 700, 700, 700, 700, 700}, err: true, atMost: 2 * time.Minute},
		{name: "deadline from above", takes: []int{1, 1, 1, 1}, fixed: 5 * time.Second, wrote: 1, err: true, atMost: 5 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				below := &script{takes: slices.Clone(test.takes), unacked: test.unacked}
				c := watch(below, time.Minute, func() {})
				c.(*conn).pending = below.pending
				if test.fixed > 0 {
					c.SetWriteDeadline(time.Now().Add(test.fixed))
				}
				begin := time.Now()
				n, err := c.Write(make([]byte, 1000))
				if n != test.wrote || below.wrote != test.wrote || (err != nil) != test.err {
					t.Errorf("wrote %d, %d below, %v; want %d", n, below.wrote, err, test.wrote)
				}
				if took := time.Since(begin); took > test.atMost {
					t.Errorf("took %s, want at most %s", took, test.atMost)
				}
			})
		})
	}
}

func TestWriteDeadlineIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &script{}
		c := watch(below, time.Minute, func() {})
		c.SetWriteDeadline(time.Now().Add(time.Second))
		c.SetWriteDeadline(time.Time{})
		time.Sleep(time.Hour) // idle
		below.takes = []int{1, 0}
		if n, err := c.Write(make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		c.SetDeadline(time.Now().Add(time.Second))
		if !below.deadline.Equal(time.Now().Add(time.Second)) {
			t.Errorf("deadline %s", below.deadline)
		}
	})
}

// lossy is a connection on a system without sendfile, where an interrupted copy has read more
// than it has written.
type lossy struct {
	script
	calls int
}

func (l *lossy) ReadFrom(src io.Reader) (int64, error) {
	l.calls++
	buf := make([]byte, 100)
	n, err := src.Read(buf)
	if err != nil {
		return 0, err
	}
	time.Sleep(time.Until(l.deadline))
	return int64(n / 2), os.ErrDeadlineExceeded
}

func TestInterruptedCopyIsNotContinued(t *testing.T) {
	name := t.TempDir() + "/f"
	if err := os.WriteFile(name, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	synctest.Test(t, func(t *testing.T) {
		below := &lossy{}
		c := watch(below, time.Minute, func() {})
		n, err := c.(io.ReaderFrom).ReadFrom(&io.LimitedReader{R: f, N: 1000})
		if n != 50 || err == nil || below.calls != 1 {
			t.Errorf("%d bytes, %v, after %d calls", n, err, below.calls)
		}
	})
}

// A client that opens a stream on HTTP/2 and takes nothing of it keeps no connection late, so
// the stream has a time of its own.
func TestStalledStreamDoesNotHurtItsConnection(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(make([]byte, 32<<20))
	s := New(Config{Registry: shelf, Stall: time.Second})
	run := startTLS(t, s, false)
	get := func() *http.Response {
		resp, err := run.Get(run.url + "/v2/a/b/blobs/" + string(d))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	stalled := get()
	defer stalled.Body.Close()
	eventually(t, func() bool { return s.Stats().InFlight == 0 })
	lively := get()
	defer lively.Body.Close()
	if n, err := io.Copy(io.Discard, lively.Body); err != nil || n != 32<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n := s.Stats().Connections; n != 1 {
		t.Errorf("%d connections, want the first one only", n)
	}
}

// What net/http still holds when the handler has returned waits for a window too, and not for
// ever either.
func TestStreamWithoutAnyWindow(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(layer)
	run := startTLS(t, New(Config{Registry: shelf, Stall: 200 * time.Millisecond}), false)
	config := run.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2"}
	nc, err := tls.Dial("tcp", run.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(nc, http2.ClientPreface)
	framer := http2.NewFramer(nc, nc)
	if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	var fields bytes.Buffer
	encoder := hpack.NewEncoder(&fields)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/v2/a/b/blobs/" + string(d)}} {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("the stream was not reset: %v", err)
		}
		if data, ok := frame.(*http2.DataFrame); ok {
			t.Fatalf("%d bytes came", len(data.Data()))
		}
		if _, ok := frame.(*http2.RSTStreamFrame); ok {
			return
		}
	}
}
