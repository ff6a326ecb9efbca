package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"roadstead/registry"
)

// held is a shelf with a blob whose second half comes when more is closed.
func held(t testing.TB) (shelf *shelf, path string, more chan struct{}) {
	shelf = newShelf()
	d := shelf.put(layer)
	more = make(chan struct{})
	shelf.open = func(_ registry.Digest, b []byte) (registry.Blob, error) {
		return registry.Blob{ReadSeekCloser: &trickle{memory: memory{bytes.NewReader(b)}, first: 500, more: more}, Size: int64(len(b))}, nil
	}
	return shelf, "/v2/a/b/blobs/" + string(d), more
}

func TestDrain(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			shelf, path, more := held(t)
			s := New(Config{Registry: shelf})
			run := start(t, s)
			if secure {
				run = startTLS(t, s, false)
			}
			var streams []*http.Response
			for range 5 {
				resp, err := run.Get(run.url + path)
				if err != nil {
					t.Fatal(err)
				}
				streams = append(streams, resp)
			}
			if !secure {
				silent, err := net.Dial("tcp", run.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer silent.Close()
			}

			ended := make(chan error, 1)
			go func() { ended <- run.end() }()
			eventually(t, func() bool {
				nc, err := net.Dial("tcp", run.addr)
				if err == nil {
					nc.Close()
				}
				return err != nil
			})
			select {
			case err := <-ended:
				t.Fatalf("Serve ended before its streams: %v", err)
			case <-time.After(patience + 100*time.Millisecond): // the silent ones are gone, and nobody else
			}
			close(more)
			for _, resp := range streams {
				if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 1000 {
					t.Errorf("%d bytes, %v", len(body), err)
				}
				resp.Body.Close()
			}
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
			stats := s.Stats()
			if stats.InFlight != 0 || stats.Requests[Series{"blob", "2xx"}] != 5 || stats.Bytes != 5000 {
				t.Errorf("%+v", stats)
			}
			eventually(t, func() bool { return s.Stats().Connections == 0 })
		})
	}
}

// net/http would wait five seconds for the first request of a connection, and here be told to stop before
// that.
func TestDrainWaitsForNobodySilent(t *testing.T) {
	s := New(Config{Registry: newShelf(), Drain: 4 * time.Second})
	run := start(t, s)
	silent, err := net.Dial("tcp", run.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	eventually(t, func() bool { return s.Stats().Connections == 1 })
	if err := run.end(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if n, err := silent.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the silent connection was told %d bytes, %v", n, err)
	}
}

// Who was let in before the end is answered, even when the first request comes after it: an upgrade refuses
// nobody. A machine that stands still for as long as a connection may be silent is given another chance.
func TestDrainHearsWhoWasLetIn(t *testing.T) {
	said := ""
	for range 5 {
		s := New(Config{Registry: newShelf()})
		run := start(t, s)
		late, err := net.Dial("tcp", run.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer late.Close()
		eventually(t, func() bool { return s.Stats().Connections == 1 })
		ended := make(chan error, 1)
		go func() { ended <- run.end() }()
		eventually(t, func() bool {
			nc, err := net.Dial("tcp", run.addr)
			if err == nil {
				nc.Close()
			}
			return err != nil
		})
		if _, err := io.WriteString(late, "GET /v2/ HTTP/1.1\r\nHost: here\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(late)
		if err := <-ended; err != nil {
			t.Fatalf("Serve: %v", err)
		}
		if strings.HasPrefix(string(all), "HTTP/1.1 200 ") {
			return
		}
		said = fmt.Sprintf("%q, %v", all, err)
	}
	t.Errorf("a first request after the end is answered with %s", said)
}

func TestDrainEnds(t *testing.T) {
	shelf, path, _ := held(t)
	shelf.open = func(_ registry.Digest, b []byte) (registry.Blob, error) { return registry.Blob{}, nil }
	var cause atomic.Value
	shelf.pause = func(ctx context.Context) { // it waits as long as it may
		<-ctx.Done()
		cause.Store(context.Cause(ctx))
		time.Sleep(50 * time.Millisecond) // and takes a moment to leave
	}
	shelf.fail = context.Canceled
	log := &lines{}
	s := New(Config{Registry: shelf, Drain: 50 * time.Millisecond, Log: log.logger()})
	run := start(t, s)
	failed := make(chan error, 1)
	go func() {
		resp, err := run.Get(run.url + path)
		if err == nil {
			resp.Body.Close()
			err = fmt.Errorf("%s", resp.Status)
		}
		failed <- err
	}()
	eventually(t, func() bool { return len(shelf.questions()) == 1 })
	err := run.end()
	if err == nil || !strings.HasSuffix(err.Error(), ": 1 requests cut off after 50ms") {
		t.Errorf("Serve: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
	if s.Stats().InFlight != 0 {
		t.Error("Serve did not wait for the handler")
	}
	if cause.Load() != errStopping {
		t.Errorf("the registry was told %v", cause.Load())
	}
	if line := log.next(t); line["status"] != 503. {
		t.Errorf("logged %v", line)
	}
}

func TestServeFails(t *testing.T) {
	l := listen(t)
	l.Close()
	if err := New(Config{Registry: newShelf()}).Serve(context.Background(), l, nil); err == nil {
		t.Error("a closed listener is served")
	}
}

func TestConnectionLimit(t *testing.T) {
	s := New(Config{Registry: newShelf(), Connections: 2, HeaderTimeout: time.Minute})
	run := start(t, s)
	var open []net.Conn
	for range 2 {
		nc, err := net.Dial("tcp", run.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		open = append(open, nc)
	}
	eventually(t, func() bool { return s.Stats().Connections == 2 })
	answered := make(chan error, 1)
	go func() {
		resp, err := run.Get(run.url + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("the third connection was served: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	open[0].Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestSlowHeader(t *testing.T) {
	s := New(Config{Registry: newShelf(), HeaderTimeout: 100 * time.Millisecond})
	run := start(t, s)
	for _, begun := range []string{"", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: "} {
		nc, err := net.Dial("tcp", run.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		io.WriteString(nc, begun)
		nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		if b, err := io.ReadAll(nc); err != nil || len(b) != 0 {
			t.Errorf("after %q: %q, %v", begun, b, err)
		}
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	s := New(Config{Registry: newShelf(), IdleTimeout: 100 * time.Millisecond})
	for _, run := range []*running{start(t, s), startTLS(t, s, false)} {
		run.ask(t, "GET", "/v2/")
		eventually(t, func() bool { return s.Stats().Connections == 0 })
	}
}

// A request's body is not waited for longer than a header, and does not become a request.
func TestSlowBody(t *testing.T) {
	s := New(Config{Registry: newShelf(), HeaderTimeout: 100 * time.Millisecond})
	run := start(t, s)
	for _, framing := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		nc, err := net.Dial("tcp", run.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		fmt.Fprintf(nc, "GET /v2/ HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n5\r\n", framing)
		nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		b, err := io.ReadAll(nc)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 OK\r\n") || !strings.Contains(string(b), "Connection: close") {
			t.Errorf("%s: %q, %v", framing, b, err)
		}
	}
	eventually(t, func() bool { return s.Stats().Connections == 0 })
}

// An answer that takes longer than a body may is not cut by the time for that.
func TestBodyThenLongAnswer(t *testing.T) {
	shelf, path, more := held(t)
	s := New(Config{Registry: shelf, HeaderTimeout: 50 * time.Millisecond})
	run := start(t, s)
	req, _ := http.NewRequest("GET", run.url+path, strings.NewReader("a body"))
	resp, err := run.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	time.AfterFunc(200*time.Millisecond, func() { close(more) })
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 1000 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestD4_LargeHeader(t *testing.T) {
	run := start(t, New(Config{Registry: newShelf()}))
	if resp, _ := run.ask(t, "GET", "/v2/", "X-A", strings.Repeat("a", 60<<10)); resp.StatusCode != 200 {
		t.Errorf("60 KiB: %s", resp.Status)
	}
	if resp, _ := run.ask(t, "GET", "/v2/", "X-A", strings.Repeat("a", 80<<10)); resp.StatusCode != 431 {
		t.Errorf("80 KiB: %s", resp.Status)
	}
}

func TestD3_HTTP2Limits(t *testing.T) {
	run := startTLS(t, New(Config{Registry: newShelf()}), false)
	config := run.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2"}
	nc, err := tls.Dial("tcp", run.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if p := nc.ConnectionState().NegotiatedProtocol; p != "h2" {
		t.Fatalf("negotiated %q", p)
	}
	io.WriteString(nc, http2.ClientPreface)
	framer := http2.NewFramer(nc, nc)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings := frame.(*http2.SettingsFrame)
	if v, _ := settings.Value(http2.SettingMaxConcurrentStreams); v != maxStreams {
		t.Errorf("%d concurrent streams, want %d", v, maxStreams)
	}
	if v, _ := settings.Value(http2.SettingMaxHeaderListSize); v < maxHeader || v > 2*maxHeader {
		t.Errorf("header lists of %d bytes, want %d and little more", v, maxHeader)
	}
}

func TestPlainTextToTLS(t *testing.T) {
	log := &lines{}
	run := startTLS(t, New(Config{Registry: newShelf(), Log: log.logger()}), false)
	nc, err := net.Dial("tcp", run.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprint(nc, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if b, _ := io.ReadAll(nc); !strings.HasPrefix(string(b), "HTTP/1.0 400") {
		t.Errorf("%q", b)
	}
	if line := log.next(t); line["level"] != "DEBUG" || !strings.Contains(line["err"].(string), "TLS handshake error") {
		t.Errorf("%v", line)
	}
}

// exhausted is a listener of a process that has no more files, for a while.
type exhausted struct {
	net.Listener
	times atomic.Int64
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.times.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptComesBack(t *testing.T) {
	log := &lines{}
	l := &exhausted{Listener: listen(t)}
	l.times.Store(3)
	s := New(Config{Registry: newShelf(), Log: log.logger(), Connections: 1})
	run := startOn(t, s, l, nil)
	if resp, _ := run.ask(t, "GET", "/v2/"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if line := log.next(t); line["level"] != "WARN" || !strings.Contains(line["err"].(string), "too many open files") {
		t.Errorf("%v", line)
	}
}

// A process that runs out of files stays up, says 503 where it can, and recovers.
func TestNoMoreFiles(t *testing.T) {
	c := startChild(t, 40)
	path := "http://" + c.addr + "/v2/a/b/blobs/" + string(childSmall)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	get := func() (int, error) {
		resp, err := client.Get(path)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	if status, err := get(); status != 200 {
		t.Fatal(status, err)
	}

	// One connection asks for a blob once the others have taken all files.
	asking, err := net.Dial("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer asking.Close()
	asking.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(asking)
	ask := func() (int, error) {
		fmt.Fprintf(asking, "GET /v2/a/b/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", childSmall)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	if status, err := ask(); status != 200 {
		t.Fatal(status, err)
	}
	var open []net.Conn
	for range 100 {
		nc, err := net.Dial("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, nc)
	}
	eventually(t, func() bool {
		status, err := ask()
		if err != nil || status != 200 && status != 503 {
			t.Fatal(status, err)
		}
		return status == 503
	})
	for _, nc := range open {
		nc.Close()
	}
	eventually(t, func() bool {
		status, err := get()
		return err == nil && status == 200
	})
}

func TestStatsHaveEverySeries(t *testing.T) {
	shelf := newShelf()
	run := New(Config{Registry: shelf})
	before := run.Stats()
	if n := len(before.Requests); n != int(kinds)*classes {
		t.Errorf("%d series, want %d", n, int(kinds)*classes)
	}
	client := start(t, run)
	for _, path := range []string{"/v2/", "/v2/nothing/here", "/x/y", "/v2/a/b/manifests/1", "/v2/A/manifests/1"} {
		client.ask(t, "GET", path)
	}
	client.ask(t, "PROPFIND", "/v2/")
	after := run.Stats()
	if len(after.Requests) != len(before.Requests) {
		t.Errorf("%d series, want %d still", len(after.Requests), len(before.Requests))
	}
	want := map[Series]int64{
		{"ping", "2xx"}: 1, {"ping", "4xx"}: 1, {"nothing", "4xx"}: 1, {"other", "4xx"}: 1, {"manifest", "4xx"}: 2,
	}
	for series, n := range after.Requests {
		if n != want[series] {
			t.Errorf("%v: %d, want %d", series, n, want[series])
		}
	}
}
