package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

// ranges lists the Range and If-Range fields of the blob requests, "-" for none.
func ranges(up *registrytest.Registry) []string {
	got := []string{}
	for _, req := range up.Log() {
		if strings.Contains(req.Line, "/blobs/") {
			field := req.Header.Get("Range")
			if field == "" {
				field = "-"
			}
			if etag := req.Header.Get("If-Range"); etag != "" {
				field += " if same"
			}
			got = append(got, field)
		}
	}
	return got
}

// patient is an idle timeout that a stalled test does not wait long for.
const patient = 400 * time.Millisecond

// later answers a Range request with what begins a byte after it.
func later(answer http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Range") == "bytes=100000-" {
			req.Header.Set("Range", "bytes=100001-")
		}
		answer.ServeHTTP(w, req)
	})
}

func TestBlobFaults(t *testing.T) {
	const size = 300_000
	for _, row := range []struct {
		name   string
		fault  registrytest.Fault
		times  int
		second registrytest.Fault // for what follows
		want   string             // an error's text; empty: the whole blob comes
		code   registry.Code
		ranges []string
	}{
		{"U8 drip", registrytest.Drip(1_000_000), 0, nil, "", "", []string{"-"}},
		{"U9 stall", registrytest.Stall(100_000), 1, nil, "", "", []string{"-", "bytes=100000- if same"}},
		{"U9 stall before the first byte", registrytest.Stall(0), 1, nil, "", "", []string{"-", "-"}},
		{"U9 stall for ever", registrytest.Stall(0), 0, nil, "nothing came in time", registry.Unavailable, []string{"-", "-", "-", "-"}},
		{"U9 stall with progress", registrytest.Stall(100_000), 0, nil, "", "", []string{"-", "bytes=100000- if same", "bytes=200000- if same"}},
		{"U10 truncated", registrytest.Truncate(100_000), 1, nil, "", "", []string{"-", "bytes=100000- if same"}},
		{"U10 truncated twice", registrytest.Truncate(100_000), 2, nil, "", "", []string{"-", "bytes=100000- if same", "bytes=200000- if same"}},
		{"U10 truncated again and again with progress", registrytest.Truncate(70_000), 0, nil, "", "",
			[]string{"-", "bytes=70000- if same", "bytes=140000- if same", "bytes=210000- if same", "bytes=280000- if same"}},
		{"U10 truncated without progress", registrytest.Truncate(10_000), 0, nil, "unexpected EOF", registry.Unavailable,
			[]string{"-", "bytes=10000- if same", "bytes=20000- if same", "bytes=30000- if same"}},
		{"U10 truncated and then broken once", registrytest.Truncate(100_000), 1, registrytest.Status(503), "", "",
			[]string{"-", "bytes=100000- if same", "bytes=100000- if same"}},
		{"U10 no ETag to hold on to", registrytest.Both(registrytest.Header("ETag", ""), registrytest.Truncate(100_000)), 1, nil, "", "",
			[]string{"-", "bytes=100000-"}},
		{"U10 a weak ETag", registrytest.Both(registrytest.Header("ETag", `W/"x"`), registrytest.Truncate(100_000)), 1, nil, "", "",
			[]string{"-", "bytes=100000-"}},
		{"U10 an ETag that has changed brings it whole", registrytest.Both(registrytest.Header("ETag", `"x"`), registrytest.Truncate(100_000)), 1, nil, "", "",
			[]string{"-", "bytes=100000- if same"}},
		// How much has arrived when such a connection is closed is chance, and so what is asked
		// for next.
		{"U12 length too long", registrytest.Length(5), 1, nil, "upstream example.com", registry.Unavailable, nil},
		{"U12 no length", registrytest.Chunked(), 0, nil, "", "", []string{"-"}},
		{"U12 no length and cut", registrytest.Both(registrytest.Chunked(), registrytest.Truncate(100_000)), 1, nil, "", "", []string{"-", "bytes=100000- if same"}},
		{"U12 gzip", registrytest.Gzip(), 0, nil, `content encoding "gzip"`, registry.Unavailable, []string{"-"}},
		{"a range that is the whole", registrytest.Truncate(100_000), 1, registrytest.NoRange(), "", "", []string{"-", "bytes=100000- if same"}},
		{"a range that is another", registrytest.Truncate(100_000), 1, later, "asked for byte 100000 and more, got 100001 to 299999", registry.Unavailable, nil},
		{"a range that says it is another", registrytest.Truncate(100_000), 1, registrytest.Header("Content-Range", "bytes 100001-299999/300000"),
			"asked for byte 100000 and more, got 100001 to 299999", registry.Unavailable, nil},
		{"a range of another blob", registrytest.Truncate(100_000), 1, registrytest.Header("Content-Range", "bytes 100000-299999/300001"),
			"it was 300000 bytes long and is 300001 now", registry.Unavailable, nil},
		{"a range that lies about its length", registrytest.Truncate(100_000), 1, registrytest.Header("Content-Range", "bytes 100000-299998/300000"),
			"in 200000 bytes", registry.Unavailable, nil},
		{"a range without a total", registrytest.Truncate(100_000), 1, registrytest.Header("Content-Range", "bytes 100000-299999/*"), "", "",
			[]string{"-", "bytes=100000- if same"}},
		{"several ranges in one", registrytest.Truncate(100_000), 1, registrytest.Header("Content-Range", "", "Content-Type", "multipart/byteranges; boundary=x"),
			"content range", registry.Unavailable, nil},
		{"U5 gone meanwhile", registrytest.Truncate(100_000), 1, registrytest.Status(404), "BLOB_UNKNOWN", registry.BlobUnknown, []string{"-", "bytes=100000- if same"}},
		{"U6 throttled meanwhile", registrytest.Truncate(100_000), 1, registrytest.Status(429), "no more requests", registry.Throttled, []string{"-", "bytes=100000- if same"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			up := registrytest.New(t)
			content := pattern(size)
			d := up.PutBlob("a", content)
			up.Fail("/blobs/", row.times, row.fault)
			if row.second != nil {
				times := 0
				if row.name == "U10 truncated and then broken once" {
					times = 1
				}
				up.Fail("/blobs/", times, row.second)
			}
			c := Config{}
			if strings.HasPrefix(row.name, "U9") {
				c.IdleTimeout = patient // the others may be slow on a busy machine
			}
			got, err := all(open(t, c, up), "a", d)
			switch {
			case row.want == "" && (err != nil || !bytes.Equal(got, content)):
				t.Errorf("got %d bytes, %v", len(got), err)
			case row.want != "" && err == nil:
				t.Errorf("got %d bytes, want %s", len(got), row.want)
			case row.want != "":
				fault(t, err, row.code)
				if !strings.Contains(err.Error(), row.want) {
					t.Errorf("error %q, want %q in it", err, row.want)
				}
				if !bytes.HasPrefix(content, got) {
					t.Error("what came before the error is not the blob's")
				}
			}
			if row.ranges != nil && !slices.Equal(ranges(up), row.ranges) {
				t.Errorf("ranges %q, want %q", ranges(up), row.ranges)
			}
		})
	}
}

// TestWrongBytesPass is U11's other half: who keeps the blob verifies it, and must be given
// what came.
func TestWrongBytesPass(t *testing.T) {
	up := registrytest.New(t)
	d := up.PutBlob("a", []byte("0123456789"))
	up.Fail("/blobs/", 0, registrytest.Corrupt())
	got, err := all(open(t, Config{}, up), "a", d)
	if err != nil || string(got) != "1123456789" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestShort is U12: a body longer than its length is cut where it should end.
func TestShort(t *testing.T) {
	up := registrytest.New(t)
	d := up.PutBlob("a", []byte("0123456789"))
	up.Fail("/blobs/", 0, registrytest.Length(-3))
	got, err := all(open(t, Config{}, up), "a", d)
	if err != nil || string(got) != "0123456" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBlobSizes(t *testing.T) {
	up := registrytest.New(t)
	empty := up.PutBlob("a", nil)
	one := up.PutBlob("a", []byte("x"))
	long := digest.SHA512.FromString("x")
	up.PutBlobAs("a", long, []byte("x"))
	r := open(t, Config{}, up)
	for d, want := range map[registry.Digest]string{empty: "", one: "x", long: "x"} {
		b, err := r.Blob(t.Context(), repo("a"), d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if err != nil || string(got) != want || b.Size != int64(len(want)) {
			t.Errorf("%s: got %q of %d bytes, %v", d, got, b.Size, err)
		}
		b.Close()
	}
	up.Fail("/blobs/", 0, registrytest.Chunked())
	b, err := r.Blob(t.Context(), repo("a"), one)
	if err != nil || b.Size != -1 {
		t.Fatalf("size %d, %v, want -1 for unknown", b.Size, err)
	}
	defer b.Close()
	if _, err := b.Seek(0, io.SeekEnd); err == nil {
		t.Error("an end that nobody knows was found")
	}
	if got, err := io.ReadAll(b); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestMaxBlob is A7 for what does not end.
func TestMaxBlob(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault registrytest.Fault
		came  int
	}{
		{"and says so", registrytest.Header(), 0},
		{"and does not say so", registrytest.Chunked(), 1000},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			d := up.PutBlob("a", pattern(100_000))
			up.Fail("/blobs/", 0, row.fault)
			got, err := all(open(t, Config{MaxBlob: 1000}, up), "a", d)
			fault(t, err, registry.Unavailable)
			if len(got) > row.came {
				t.Errorf("%d bytes came", len(got))
			}
		})
	}
}

func TestSeek(t *testing.T) {
	up := registrytest.New(t)
	content := pattern(100_000)
	d := up.PutBlob("a", content)
	r := open(t, Config{}, up)
	b, err := r.Blob(t.Context(), repo("a"), d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	// What http.ServeContent does costs nothing.
	if end, err := b.Seek(0, io.SeekEnd); end != 100_000 || err != nil {
		t.Fatal(end, err)
	}
	if start, err := b.Seek(0, io.SeekStart); start != 0 || err != nil {
		t.Fatal(start, err)
	}
	read := func(n int) []byte {
		t.Helper()
		p := make([]byte, n)
		if _, err := io.ReadFull(b, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if !bytes.Equal(read(10), content[:10]) {
		t.Error("other bytes at the start")
	}
	if at, err := b.Seek(50_000, io.SeekCurrent); at != 50_010 || err != nil {
		t.Fatal(at, err)
	}
	if got := ranges(up); !slices.Equal(got, []string{"-"}) {
		t.Errorf("Seek asked: %q", got)
	}
	if !bytes.Equal(read(10), content[50_010:50_020]) {
		t.Error("other bytes in the middle")
	}
	if _, err := b.Seek(-5, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, content[99_995:]) {
		t.Errorf("got %q at the end, %v", got, err)
	}
	if at, err := b.Seek(200_000, io.SeekStart); at != 200_000 || err != nil {
		t.Fatal(at, err)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d behind the end, %v", n, err)
	}
	if _, err := b.Seek(-1, io.SeekStart); err == nil {
		t.Error("a place before the start was found")
	}
	if got, want := ranges(up), []string{"-", "bytes=50010- if same", "bytes=99995- if same"}; !slices.Equal(got, want) {
		t.Errorf("ranges %q, want %q", got, want)
	}
	b.Close()
	b.Close()
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := b.Seek(0, io.SeekStart); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("seek after Close: %v", err)
	}
}

// TestReader is the standard library's own idea of a reader and seeker.
func TestReader(t *testing.T) {
	up := registrytest.New(t)
	content := pattern(1000)
	d := up.PutBlob("a", content)
	b, err := open(t, Config{}, up).Blob(t.Context(), repo("a"), d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := iotest.TestReader(b, content); err != nil {
		t.Error(err)
	}
}

// TestResumeElsewhere goes on at another endpoint, with its own credentials and without the
// first one's ETag.
func TestResumeElsewhere(t *testing.T) {
	first, second := registrytest.New(t), registrytest.New(t)
	second.Require(registrytest.Auth{Anonymous: true})
	content := pattern(300_000)
	d := first.PutBlob("a", content)
	second.PutBlob("a", content)
	first.Fail("/blobs/", 1, registrytest.Truncate(100_000))
	first.Fail("/blobs/", 0, registrytest.Status(404))
	got, err := all(open(t, Config{}, first, second), "a", d)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if got, want := ranges(first), []string{"-", "bytes=100000- if same"}; !slices.Equal(got, want) {
		t.Errorf("ranges at the first %q, want %q", got, want)
	}
	if got, want := ranges(second), []string{"bytes=100000-", "bytes=100000-"}; !slices.Equal(got, want) { // 401 and 206
		t.Errorf("ranges at the second %q, want %q", got, want)
	}
}

// TestResumeAfterStop goes on when upstream was restarted in the middle of a body.
func TestResumeAfterStop(t *testing.T) {
	up := registrytest.New(t)
	content := pattern(3_000_000)
	d := up.PutBlob("a", content)
	up.Fail("/blobs/", 1, registrytest.Drip(1_000_000))
	b, err := open(t, Config{}, up).Blob(t.Context(), repo("a"), d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got := make([]byte, 100_000)
	if _, err := io.ReadFull(b, got); err != nil {
		t.Fatal(err)
	}
	up.Stop()
	time.AfterFunc(200*time.Millisecond, up.Start)
	rest, err := io.ReadAll(b)
	if got = append(got, rest...); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestBlobEndsWithContext(t *testing.T) {
	up := registrytest.New(t)
	d := up.PutBlob("a", pattern(300_000))
	up.Fail("/blobs/", 0, registrytest.Stall(1000))
	ctx, cancel := context.WithCancel(t.Context())
	b, err := open(t, Config{}, up).Blob(ctx, repo("a"), d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := io.ReadFull(b, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = b.Read(make([]byte, 1000))
	if fault(t, err, registry.Unavailable); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := ranges(up); !slices.Equal(got, []string{"-"}) {
		t.Errorf("nobody wanted it any more, and it was resumed: %q", got)
	}
}

func TestStatBlob(t *testing.T) {
	for _, row := range []struct {
		name  string
		match string
		fault registrytest.Fault
		want  registry.Code
		lines []string
	}{
		{"by HEAD", "none", nil, "", []string{"HEAD"}},
		{"HEAD not allowed", "HEAD ", registrytest.Status(http.StatusMethodNotAllowed), "", []string{"HEAD", "GET"}},
		{"HEAD not signed for", "HEAD ", registrytest.Status(http.StatusForbidden), "", []string{"HEAD", "GET"}},
		{"denied", "", registrytest.Status(http.StatusForbidden, "Docker-Distribution-Api-Version", "registry/2.0"), registry.Denied, []string{"HEAD"}},
		{"HEAD without a length", "HEAD ", registrytest.Chunked(), "", []string{"HEAD", "GET"}},
		{"no length at all", "", registrytest.Both(registrytest.NoRange(), registrytest.Chunked()), registry.Unavailable, []string{"HEAD", "GET"}},
		{"no ranges", "", registrytest.Both(registrytest.Header("Accept-Ranges", ""), registrytest.NoRange()), "", []string{"HEAD"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			d := up.PutBlob("a", pattern(100_000))
			if row.fault != nil {
				up.Fail(row.match, 0, row.fault)
			}
			desc, err := open(t, Config{}, up).StatBlob(t.Context(), repo("a"), d)
			if row.want == "" && (err != nil || desc.Size != 100_000 || desc.Digest != d) {
				t.Errorf("got %v, %v", desc, err)
			}
			if row.want != "" {
				fault(t, err, row.want)
			}
			want := []string{}
			for _, method := range row.lines {
				want = append(want, method+" /v2/a/blobs/"+d.String())
			}
			wants(t, up, want...)
		})
	}
}

// cold is a blob that is fetched again and again.
func cold(b *testing.B) (*registrytest.Registry, registry.Digest) {
	up := registrytest.New(b)
	d := up.PutBlob("a", pattern(200<<20))
	b.SetBytes(200 << 20)
	return up, d
}

// BenchmarkBlob must cost what BenchmarkPlainGet does.
func BenchmarkBlob(b *testing.B) {
	up, d := cold(b)
	r := open(b, Config{}, up)
	buffer := make([]byte, 256<<10)
	for b.Loop() {
		blob, err := r.Blob(b.Context(), repo("a"), d)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(onlyWriter{io.Discard}, blob, buffer); n != 200<<20 || err != nil {
			b.Fatal(n, err)
		}
		blob.Close()
	}
}

func BenchmarkPlainGet(b *testing.B) {
	up, d := cold(b)
	buffer := make([]byte, 256<<10)
	for b.Loop() {
		res, err := http.Get(up.URL() + "/v2/a/blobs/" + d.String())
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(onlyWriter{io.Discard}, res.Body, buffer); n != 200<<20 || err != nil {
			b.Fatal(n, err)
		}
		res.Body.Close()
	}
}

// onlyWriter hides io.Discard's own ReadFrom, which has a small buffer.
type onlyWriter struct{ io.Writer }
