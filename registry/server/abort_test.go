package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"roadstead/registry"
)

// A body that cannot be finished must never look finished, on any protocol.
func TestBodyThatBreaks(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 300_000)
	corrupt := errors.New("the last byte is withheld: wrong digest")
	tests := []struct {
		name string
		open func(t *testing.T) registry.Blob
	}{
		{name: "last byte withheld", open: func(t *testing.T) registry.Blob {
			return registry.Blob{ReadSeekCloser: faulty{memory{bytes.NewReader(content)}, 299_999, corrupt}, Size: 300_000}
		}},
		{name: "error in the middle", open: func(t *testing.T) registry.Blob {
			return registry.Blob{ReadSeekCloser: faulty{memory{bytes.NewReader(content)}, 150_000, corrupt}, Size: 300_000}
		}},
		{name: "clean end too early", open: func(t *testing.T) registry.Blob {
			return registry.Blob{ReadSeekCloser: faulty{memory{bytes.NewReader(content)}, 150_000, nil}, Size: 300_000}
		}},
		{name: "file that is cut while it is sent", open: func(t *testing.T) registry.Blob {
			name := filepath.Join(t.TempDir(), "blob")
			if err := os.WriteFile(name, content[:150_000], 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			return registry.Blob{ReadSeekCloser: shrunk{f, 300_000}, Size: 300_000}
		}},
	}
	protocols := []struct {
		name  string
		start func(testing.TB, *Server) *running
		proto int
	}{
		{name: "HTTP/1.1", start: start, proto: 1},
		{name: "HTTP/1.1 with TLS", start: func(t testing.TB, s *Server) *running { return startTLS(t, s, true) }, proto: 1},
		{name: "HTTP/2", start: func(t testing.TB, s *Server) *running { return startTLS(t, s, false) }, proto: 2},
	}
	for _, protocol := range protocols {
		for _, test := range tests {
			t.Run(protocol.name+"/"+test.name, func(t *testing.T) {
				shelf := newShelf()
				d := shelf.put(content)
				shelf.open = func(registry.Digest, []byte) (registry.Blob, error) { return test.open(t), nil }
				s := New(Config{Registry: doubter{shelf}})
				run := protocol.start(t, s)
				for _, span := range []string{"", "bytes=1-", "bytes=0-9,-20"} {
					req, _ := http.NewRequest("GET", run.url+"/v2/a/b/blobs/"+string(d), nil)
					if span != "" {
						req.Header.Set("Range", span)
					}
					resp, err := run.Do(req)
					if err != nil {
						continue // cut before the header came through is cut as well
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.ProtoMajor != protocol.proto {
						t.Errorf("spoken: %s", resp.Proto)
					}
					if err == nil {
						t.Errorf("range %q: %s ended well after %d of %d bytes", span, resp.Status, len(body), resp.ContentLength)
					}
					// Not every client compares what it got on HTTP/2 with the length it was told.
					if reset := (http2.StreamError{}); protocol.proto == 2 && (!errors.As(err, &reset) || reset.Code != http2.ErrCodeInternal) {
						t.Errorf("range %q: the stream was not reset, but %v", span, err)
					}
				}
				eventually(t, func() bool { return s.Stats().Requests[Series{"blob", cut}] == 3 })
				doubts := 0
				for _, question := range shelf.questions() {
					if strings.HasPrefix(question, "doubt a/b@"+string(d)+": ") {
						doubts++
					}
				}
				if doubts != 3 {
					t.Errorf("the registry was told %d times that the blob cannot be read, want 3", doubts)
				}
			})
		}
	}
}

// shrunk is a file that ends before it says it does.
type shrunk struct {
	*os.File
	size int64
}

func (s shrunk) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		return s.size + offset, nil
	}
	return s.File.Seek(offset, whence)
}

// A stored file that is not as long as it should be must not become a short but complete
// answer.
func TestEmptiedFile(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(layer)
	shelf.open = func(registry.Digest, []byte) (registry.Blob, error) {
		f, err := os.Open(os.DevNull)
		return registry.Blob{ReadSeekCloser: f, Size: 1000}, err
	}
	resp, body := start(t, New(Config{Registry: shelf})).ask(t, "GET", "/v2/a/b/blobs/"+string(d))
	if resp.StatusCode != 500 {
		t.Errorf("%s %q", resp.Status, body)
	}
}

// Until a byte of the body has left, an error is still told as one.
func TestErrorBeforeTheFirstByte(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(layer)
	shelf.open = func(_ registry.Digest, b []byte) (registry.Blob, error) {
		gone := &registry.Fault{Code: registry.Unavailable, Timeout: true}
		return registry.Blob{ReadSeekCloser: faulty{memory{bytes.NewReader(b)}, 0, gone}, Size: int64(len(b))}, nil
	}
	s := New(Config{Registry: shelf})
	for _, run := range []*running{start(t, s), startTLS(t, s, false)} {
		for _, span := range []string{"bytes=0-", "bytes=5-9"} {
			resp, body := run.ask(t, "GET", "/v2/a/b/blobs/"+string(d), "Range", span)
			if resp.StatusCode != 504 {
				t.Errorf("%s %q", resp.Status, body)
			}
			checkError(t, resp, body, registry.Unavailable)
			wantHeader(t, resp, map[string]string{"Content-Range": "", "Docker-Content-Digest": "", "Accept-Ranges": "", "Retry-After": "5"})
		}
	}
}

// What a download has so far is with the client at once, before more comes.
func TestFirstBytesDoNotWait(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(layer)
	more := make(chan struct{})
	shelf.open = func(_ registry.Digest, b []byte) (registry.Blob, error) {
		return registry.Blob{ReadSeekCloser: &trickle{memory: memory{bytes.NewReader(b)}, first: 7, more: more}, Size: int64(len(b))}, nil
	}
	s := New(Config{Registry: shelf})
	for _, run := range []*running{start(t, s), startTLS(t, s, false)} {
		resp, err := run.Get(run.url + "/v2/a/b/blobs/" + string(d))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 7)); err != nil {
			t.Error(err)
		}
		more <- struct{}{}
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 993 {
			t.Errorf("then %d bytes, %v", len(rest), err)
		}
		resp.Body.Close()
	}
}

// trickle has its first bytes at once and the rest when more is sent to.
type trickle struct {
	memory
	first int
	more  chan struct{}
	read  int
}

func (r *trickle) Read(p []byte) (int, error) {
	if r.read == 0 {
		p = p[:r.first]
	} else if r.read == r.first {
		<-r.more
	}
	n, err := r.memory.Read(p)
	r.read += n
	return n, err
}

func TestPanic(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(layer)
	s := New(Config{Registry: shelf})
	http1, http2 := start(t, s), startTLS(t, s, false)

	// Another client's answer is under way meanwhile, on the same HTTP/2 connection too.
	more := make(chan struct{})
	shelf.open = func(_ registry.Digest, b []byte) (registry.Blob, error) {
		return registry.Blob{ReadSeekCloser: &trickle{memory: memory{bytes.NewReader(b)}, first: 7, more: more}, Size: int64(len(b))}, nil
	}
	var others []*http.Response
	for _, run := range []*running{http1, http2} {
		resp, err := run.Get(run.url + "/v2/a/b/blobs/" + string(d))
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, resp)
	}

	shelf.open = panicking
	for _, run := range []*running{http1, http2} {
		for _, path := range []string{"/v2/a/b/blobs/" + string(d)} {
			resp, err := run.Get(run.url + path)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if err == nil {
				t.Errorf("GET %s: %s, complete", path, resp.Status)
			}
		}
	}
	close(more)
	for _, resp := range others {
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 1000 {
			t.Errorf("the other client has %d bytes, %v", len(body), err)
		}
		resp.Body.Close()
	}
	eventually(t, func() bool { stats := s.Stats(); return stats.Panics == 2 && stats.InFlight == 0 })
}

// A client that leaves says nothing of the content, sent from a file or through a buffer.
func TestClientThatLeavesRaisesNoDoubt(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(bytes.Repeat([]byte("x"), 32<<20))
	shelf.files(t)
	s := New(Config{Registry: doubter{shelf}})
	for _, run := range []*running{start(t, s), startTLS(t, s, true), startTLS(t, s, false)} {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", run.url+"/v2/a/b/blobs/"+string(d), nil)
		resp, err := run.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
			t.Error(err)
		}
		cancel()
		resp.Body.Close()
		eventually(t, func() bool { return s.Stats().InFlight == 0 })
	}
	if got := s.Stats().Requests[Series{"blob", gone}]; got != 3 {
		t.Errorf("%d clients have left, want 3", got)
	}
	for _, question := range shelf.questions() {
		if strings.HasPrefix(question, "doubt ") {
			t.Error(question)
		}
	}
}

func TestClientThatLeaves(t *testing.T) {
	shelf := newShelf()
	log := &lines{}
	shelf.pause = func(ctx context.Context) { <-ctx.Done() }
	shelf.fail = context.Canceled
	s := New(Config{Registry: shelf, Log: log.logger()})
	for _, run := range []*running{start(t, s), startTLS(t, s, false)} {
		ctx, cancel := context.WithCancel(context.Background())
		req, _ := http.NewRequestWithContext(ctx, "GET", run.url+"/v2/a/b/manifests/1", nil)
		left := make(chan struct{})
		go func() {
			if resp, err := run.Do(req); err == nil {
				t.Errorf("answered: %s", resp.Status)
				resp.Body.Close()
			}
			close(left)
		}()
		eventually(t, func() bool { return len(shelf.questions()) == 1 })
		cancel()
		<-left
		line := log.next(t)
		if line["status"] != float64(499) || line["level"] != "INFO" || line["err"] != nil {
			t.Errorf("logged: %v", line)
		}
	}
	if n := s.Stats().Requests[Series{"manifest", gone}]; n != 2 {
		t.Errorf("%d counted as gone, want 2", n)
	}
}

// Content that becomes readable in a file bit by bit goes out by the kernel, and its errors
// count like any other.
func TestSections(t *testing.T) {
	name := filepath.Join(t.TempDir(), "draft")
	draft, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	shelf := newShelf()
	content := bytes.Repeat([]byte("sections"), 10_000)
	d := shelf.put(content)
	grow := make(chan int, 2)
	shelf.open = func(registry.Digest, []byte) (registry.Blob, error) {
		f, err := os.Open(name)
		return registry.Blob{ReadSeekCloser: &growing{f: f, size: 80_000, grow: grow}, Size: 80_000}, err
	}
	spy := &spying{Listener: listen(t)}
	s := New(Config{Registry: shelf})
	run := startOn(t, s, spy, nil)

	write := func(part []byte) {
		if _, err := draft.Write(part); err != nil {
			t.Fatal(err)
		}
		grow <- len(part)
	}
	write(content[:1])
	resp, err := run.Get(run.url + "/v2/a/b/blobs/" + string(d))
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for i, n := range []int{1, 40_000, 39_999} {
		if i > 0 {
			write(content[len(got) : len(got)+n])
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(resp.Body, b); err != nil {
			t.Fatal(err)
		}
		got = append(got, b...)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 || !bytes.Equal(got, content) {
		t.Errorf("%d bytes more, %v, equal %v", len(rest), err, bytes.Equal(got, content))
	}
	resp.Body.Close()
	if n := spy.files.Load(); n != 3 {
		t.Errorf("%d files arrived at the connection, want 3", n)
	}

	// It breaks after the first section: cut. Before it: told.
	grow <- 10
	resp, err = run.Get(run.url + "/v2/a/b/blobs/" + string(d))
	if err != nil {
		t.Fatal(err)
	}
	grow <- -1
	if body, err := io.ReadAll(resp.Body); err == nil || len(body) != 10 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	resp.Body.Close()
	grow <- -1
	if resp, _ := run.ask(t, "GET", "/v2/a/b/blobs/"+string(d)); resp.StatusCode != 503 {
		t.Error(resp.Status)
	}
}

// growing is a download that is told how it grows; -1 is its failure.
type growing struct {
	f    *os.File
	size int64
	grow chan int
}

func (g *growing) Section(most int64) (*os.File, int64, error) {
	n := int64(<-g.grow)
	if n < 0 {
		return nil, 0, registry.Unavailable
	}
	return g.f, min(n, most), nil
}

func (g *growing) Read([]byte) (int, error) { return 0, errors.New("read in vain") }
func (g *growing) Close() error             { return g.f.Close() }
func (g *growing) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		return g.size + offset, nil
	}
	return g.f.Seek(offset, whence)
}

func TestSectionsOverHTTP2AreRead(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(layer)
	shelf.open = func(registry.Digest, []byte) (registry.Blob, error) {
		f, err := os.Open(os.DevNull)
		return registry.Blob{ReadSeekCloser: &growing{f: f, size: 1000}, Size: 1000}, err
	}
	run := startTLS(t, New(Config{Registry: shelf}), false)
	run.Timeout = 20 * time.Second
	if resp, _ := run.ask(t, "GET", "/v2/a/b/blobs/"+string(d)); resp.StatusCode != 500 {
		t.Error(resp.Status)
	}
}
