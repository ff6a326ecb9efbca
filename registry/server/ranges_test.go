package server

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRangeOf(t *testing.T) {
	tests := []struct {
		name, value string
		size        int64
		want        string
		n           int
	}{
		{name: "first bytes", value: "bytes=0-9", size: 100, want: "bytes=0-9", n: 1},
		{name: "open", value: "bytes=50-", size: 100, want: "bytes=50-", n: 1},
		{name: "suffix", value: "bytes=-5", size: 100, want: "bytes=-5", n: 1},
		{name: "several", value: "bytes=0-1, 5-6 ,-1", size: 100, want: "bytes=0-1,5-6,-1", n: 3},
		{name: "empty elements", value: "bytes=,0-1,,", size: 100, want: "bytes=0-1", n: 1},
		{name: "unit in capitals", value: "Bytes=0-1", size: 100, want: "bytes=0-1", n: 1},
		{name: "unknown unit", value: "seconds=0-1", size: 100},
		{name: "no unit", value: "0-1", size: 100},
		{name: "nothing to take a range of", value: "bytes=-5", size: 0},
		{name: "suffix of no bytes", value: "bytes=-0", size: 100, want: "bytes=" + unsatisfiable, n: 1},
		{name: "end beyond all numbers", value: "bytes=1-99999999999999999999", size: 100, want: "bytes=1-9223372036854775807", n: 1},
		{name: "suffix beyond all numbers", value: "bytes=-99999999999999999999", size: 100, want: "bytes=-9223372036854775807", n: 1},
		{name: "signs", value: "bytes=+1-+2", size: 100, want: malformed},
		{name: "no dash", value: "bytes=1", size: 100, want: malformed},
		{name: "only a dash", value: "bytes=-", size: 100, want: malformed},
		{name: "words", value: "bytes=a-b", size: 100, want: malformed},
		{name: "no ranges", value: "bytes=", size: 100, want: malformed},
		{name: "very many", value: "bytes=" + strings.Repeat("0-0,", 40) + "0-0", size: 100},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, n := rangeOf(test.value, test.size); got != test.want || n != test.n {
				t.Errorf("got %q, %d, want %q, %d", got, n, test.want, test.n)
			}
		})
	}
}

// Whatever range is asked for, what comes is what it says it is, and no other bytes.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{
		"bytes=0-9", "bytes=-5", "bytes=-0", "bytes=99-", "bytes=5-1", "bytes=0-0,2-3", "bytes=+1-", "x=0-1", "bytes=-,", "Bytes=0-1",
		"bytes=0-18446744073709551616", "bytes= 1 - 2",
	} {
		f.Add(seed, uint8(100))
	}
	f.Fuzz(func(t *testing.T, value string, size uint8) {
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(i)
		}
		shelf := newShelf()
		d := shelf.put(content)
		r := httptest.NewRequest("GET", "/v2/a/b/blobs/"+string(d), nil)
		r.Header["Range"] = []string{value}
		rec := httptest.NewRecorder()
		New(Config{Registry: shelf}).ServeHTTP(rec, r)
		checkRanges(t, rec.Result(), content)
	})
}

func checkRanges(t *testing.T, resp *http.Response, content []byte) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.ContentLength != int64(len(body)) {
		t.Fatalf("%s with Content-Length %d and %d bytes", resp.Status, resp.ContentLength, len(body))
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if !bytes.Equal(body, content) || resp.Header.Get("Content-Range") != "" {
			t.Fatalf("the whole is not the whole: %d bytes, %v", len(body), resp.Header)
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if want := fmt.Sprintf("bytes */%d", len(content)); resp.Header.Get("Content-Range") != want {
			t.Fatalf("Content-Range %q, want %q", resp.Header.Get("Content-Range"), want)
		}
	case http.StatusPartialContent:
		mediaType, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if mediaType != "multipart/byteranges" {
			checkRange(t, resp.Header.Get("Content-Range"), body, content)
			return
		}
		parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
		for {
			part, err := parts.NextPart()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(part)
			if err != nil {
				t.Fatal(err)
			}
			checkRange(t, part.Header.Get("Content-Range"), b, content)
		}
	default:
		t.Fatalf("status %s: %s", resp.Status, body)
	}
}

func checkRange(t *testing.T, contentRange string, body, content []byte) {
	t.Helper()
	var first, last, size int
	if _, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &first, &last, &size); err != nil {
		t.Fatalf("Content-Range %q: %v", contentRange, err)
	}
	if size != len(content) || first > last || last >= size || !bytes.Equal(body, content[first:last+1]) {
		t.Fatalf("%q with %d bytes is not that part of %d bytes", contentRange, len(body), len(content))
	}
}

// ServeContent reads several ranges in a goroutine of its own: a panic there must not end
// the process, and the content must not be read any more when the handler has closed it.
func TestSeveralRangesOfContentThatPanics(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(make([]byte, 1000))
	shelf.open = panicking
	s := New(Config{Registry: shelf})
	client := start(t, s)
	req, _ := http.NewRequest("GET", client.url+"/v2/a/b/blobs/"+string(d), nil)
	req.Header.Set("Range", "bytes=0-0,5-6")
	resp, err := client.Do(req)
	if err == nil {
		if _, err = io.ReadAll(resp.Body); err == nil {
			t.Errorf("the answer is complete: %s", resp.Status)
		}
		resp.Body.Close()
	}
	eventually(t, func() bool { return s.Stats().Panics == 1 })
}

func TestPartsStop(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	p := &parts{body: waitingReader{inside: inside, leave: leave}}
	read := make(chan error, 1)
	go func() {
		_, err := p.Read(make([]byte, 1))
		read <- err
	}()
	<-inside
	stopped := make(chan struct{})
	go func() { p.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("stop did not wait for the read")
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	<-stopped
	if err := <-read; err != nil {
		t.Errorf("the read that was running: %v", err)
	}
	if _, err := p.Read(make([]byte, 1)); err != io.ErrClosedPipe {
		t.Errorf("a read afterwards: %v", err)
	}
	if _, err := p.Seek(0, io.SeekStart); err != io.ErrClosedPipe {
		t.Errorf("a seek afterwards: %v", err)
	}
}

type waitingReader struct {
	io.ReadSeeker
	inside, leave chan struct{}
}

func (r waitingReader) Read(p []byte) (int, error) {
	close(r.inside)
	<-r.leave
	return len(p), nil
}
