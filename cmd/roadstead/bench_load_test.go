//go:build linux

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// benchLoad keeps a number of connections busy with the same small request. One thread with
// an epoll of its own costs the machine two system calls per request; goroutines and net/http
// would cost more than the servers that are measured and leave them half a core.
type benchLoad struct {
	request []byte
	head    bool // answers have no body
	epoll   int
	conns   map[int32]*benchConn // by file descriptor
}

type benchConn struct {
	buf  [32 << 10]byte
	have int // bytes of the answer so far
	want int // length of the whole answer; zero: its header is not there yet
}

func newBenchLoad(addr string, request []byte, conns int) (*benchLoad, error) {
	to, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &benchLoad{
		request: request, head: bytes.HasPrefix(request, []byte("HEAD ")),
		epoll: epoll, conns: map[int32]*benchConn{},
	}
	for range conns {
		if err := l.connect(to); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

func (l *benchLoad) connect(to *net.TCPAddr) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	l.conns[int32(fd)] = &benchConn{}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return err
	}
	return syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}

// Close closes the connections.
func (l *benchLoad) Close() {
	for fd := range l.conns {
		syscall.Close(int(fd))
	}
	syscall.Close(l.epoll)
}

// run sends requests for d, waits for the answers that are out then, and returns how many
// answers came and how long all took. Any answer but 200 is an error.
func (l *benchLoad) run(d time.Duration) (int, time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	for fd := range l.conns {
		if err := l.send(fd); err != nil {
			return 0, 0, err
		}
	}
	answers, out, more := 0, len(l.conns), true
	events := make([]syscall.EpollEvent, len(l.conns))
	for out > 0 {
		n, err := syscall.EpollWait(l.epoll, events, 10_000)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		if n == 0 {
			return 0, 0, errors.New("no answer for 10 s")
		}
		more = more && time.Since(start) < d
		for _, event := range events[:n] {
			done, err := l.conns[event.Fd].read(int(event.Fd), l.head)
			if err != nil {
				return 0, 0, err
			}
			if !done {
				continue
			}
			answers++
			if !more {
				out--
				continue
			}
			if err := l.send(event.Fd); err != nil {
				return 0, 0, err
			}
		}
	}
	return answers, time.Since(start), nil
}

func (l *benchLoad) send(fd int32) error {
	n, err := syscall.Write(int(fd), l.request)
	if err == nil && n < len(l.request) {
		err = errors.New("short write")
	}
	return err
}

// read reads what is there and reports whether the answer is whole.
func (c *benchConn) read(fd int, head bool) (bool, error) {
	n, err := syscall.Read(fd, c.buf[c.have:])
	if err != nil {
		return false, err
	}
	if n == 0 {
		return false, fmt.Errorf("connection closed by the server after %q", c.buf[:c.have])
	}
	c.have += n
	if c.want == 0 {
		header, length, err := benchHeader(c.buf[:c.have])
		if err != nil || header == 0 {
			return false, err
		}
		c.want = header
		if !head {
			c.want += int(length)
		}
		if c.want > len(c.buf) {
			return false, fmt.Errorf("an answer of %d bytes is too long for small requests", c.want)
		}
	}
	if c.have < c.want {
		return false, nil
	}
	c.have, c.want = 0, 0
	return true, nil
}

// benchHeader reads an answer's header: its length, zero when it is not whole yet, and the
// length of the body that follows.
func benchHeader(b []byte) (header int, length int64, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, 0, nil
	}
	status, rest, _ := bytes.Cut(b[:end], []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return 0, 0, fmt.Errorf("answer is %q", b)
	}
	const name = "Content-Length: "
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			length, err := strconv.ParseInt(string(line[len(name):]), 10, 64)
			return end + 4, length, err
		}
	}
	return 0, 0, fmt.Errorf("answer has no length: %q", b[:end])
}
