package server

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"slices"
	"strings"
	"testing"

	"roadstead/registry"
)

func TestManifest(t *testing.T) {
	p := newPier(t)
	tests := []struct {
		name, method, path string
		asked              []string
	}{
		{name: "HEAD by tag asks for no manifest", method: "HEAD", path: "/v2/docker.io/library/busybox/manifests/1.35",
			asked: []string{"resolve docker.io/library/busybox:1.35"}},
		{name: "GET by tag", method: "GET", path: "/v2/docker.io/library/busybox/manifests/1.35",
			asked: []string{"resolve docker.io/library/busybox:1.35", "manifest docker.io/library/busybox@" + string(p.manifest)}},
		{name: "GET by digest", method: "GET", path: "/v2/docker.io/library/busybox/manifests/" + string(p.manifest),
			asked: []string{"manifest docker.io/library/busybox@" + string(p.manifest)}},
		{name: "HEAD by digest", method: "HEAD", path: "/v2/docker.io/library/busybox/manifests/" + string(p.manifest),
			asked: []string{"manifest docker.io/library/busybox@" + string(p.manifest)}},
		{name: "root of a project", method: "HEAD", path: "/docker.io/v2/library/busybox/manifests/1.35",
			asked: []string{"resolve docker.io/library/busybox:1.35"}},
		{name: "no v2", method: "HEAD", path: "/docker.io/library/busybox/manifests/1.35",
			asked: []string{"resolve docker.io/library/busybox:1.35"}},
		{name: "namespace", method: "HEAD", path: "/v2/library/busybox/manifests/1.35?ns=docker.io",
			asked: []string{"resolve docker.io/library/busybox:1.35"}},
		{name: "too many slashes", method: "HEAD", path: "//v2//docker.io/library//busybox/manifests/1.35",
			asked: []string{"resolve docker.io/library/busybox:1.35"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p.shelf.questions()
			resp, body := p.ask(t, test.method, test.path, "Accept", "application/json", "Accept-Encoding", "gzip")
			if asked := p.shelf.questions(); !slices.Equal(asked, test.asked) {
				t.Errorf("asked %q, want %q", asked, test.asked)
			}
			if resp.StatusCode != 200 {
				t.Fatalf("%s: %s", resp.Status, body)
			}
			if want := busybox; test.method == "GET" && !bytes.Equal(body, want) {
				t.Errorf("body %q, want %q", body, want)
			}
			wantHeader(t, resp, map[string]string{
				"Content-Type":                    registry.MediaTypeDockerManifest,
				"Content-Length":                  fmt.Sprint(len(busybox)),
				"Docker-Content-Digest":           string(p.manifest),
				"Docker-Distribution-Api-Version": "registry/2.0",
				"Etag":                            `"` + string(p.manifest) + `"`,
				"X-Content-Type-Options":          "nosniff",
				"Content-Security-Policy":         "sandbox",
				"Content-Encoding":                "",
				"Vary":                            "",
				"Warning":                         "",
				"Location":                        "",
			})
			if len(resp.TransferEncoding) != 0 {
				t.Errorf("Transfer-Encoding %v", resp.TransferEncoding)
			}
		})
	}
}

func TestBlob(t *testing.T) {
	p := newPier(t)
	url := "/v2/docker.io/library/busybox/blobs/"
	long := registry.Digest(fmt.Sprintf("sha512:%x", sha512.Sum512([]byte("long"))))
	p.shelf.blobs[long] = []byte("long")
	empty := p.shelf.put([]byte{})
	etag := `"` + string(p.blob) + `"`

	tests := []struct {
		name, method string
		digest       registry.Digest
		header       []string
		status       int
		body         []byte
		want         map[string]string
	}{
		{name: "whole", method: "GET", digest: p.blob, status: 200, body: layer, want: map[string]string{"Content-Type": octets, "Accept-Ranges": "bytes", "Docker-Content-Digest": string(p.blob), "Etag": etag, "Content-Security-Policy": "sandbox"}},
		{name: "HEAD", method: "HEAD", digest: p.blob, status: 200, want: map[string]string{"Content-Type": octets, "Content-Length": "1000", "Docker-Content-Digest": string(p.blob), "Etag": etag}},
		{name: "sha512", method: "GET", digest: long, status: 200, body: []byte("long"), want: map[string]string{"Docker-Content-Digest": string(long)}},
		{name: "empty", method: "GET", digest: empty, status: 200, body: []byte{}, want: map[string]string{"Content-Length": "0"}},
		{name: "HEAD of an empty one", method: "HEAD", digest: empty, status: 200, want: map[string]string{"Content-Length": "0"}},

		{name: "range", method: "GET", digest: p.blob, header: []string{"Range", "bytes=10-19"}, status: 206, body: layer[10:20], want: map[string]string{"Content-Range": "bytes 10-19/1000", "Content-Length": "10", "Content-Type": octets, "Docker-Content-Digest": string(p.blob)}},
		{name: "open range", method: "GET", digest: p.blob, header: []string{"Range", "bytes=990-"}, status: 206, body: layer[990:], want: map[string]string{"Content-Range": "bytes 990-999/1000"}},
		{name: "suffix", method: "GET", digest: p.blob, header: []string{"Range", "bytes=-3"}, status: 206, body: layer[997:], want: map[string]string{"Content-Range": "bytes 997-999/1000"}},
		{name: "range beyond the end", method: "GET", digest: p.blob, header: []string{"Range", "bytes=990-5000"}, status: 206, body: layer[990:], want: map[string]string{"Content-Range": "bytes 990-999/1000"}},
		{name: "range from the end", method: "GET", digest: p.blob, header: []string{"Range", "bytes=1000-"}, status: 416, want: map[string]string{"Content-Range": "bytes */1000", "Content-Type": "application/json", "Etag": ""}},
		{name: "backward range", method: "GET", digest: p.blob, header: []string{"Range", "bytes=500-0"}, status: 416, want: map[string]string{"Content-Range": "bytes */1000"}},
		{name: "suffix of no bytes", method: "GET", digest: p.blob, header: []string{"Range", "bytes=-0"}, status: 416, want: map[string]string{"Content-Range": "bytes */1000"}},
		{name: "unknown unit", method: "GET", digest: p.blob, header: []string{"Range", "layers=1-2"}, status: 200, body: layer, want: map[string]string{"Content-Range": ""}},
		{name: "unit in capitals", method: "GET", digest: p.blob, header: []string{"Range", "BYTES=0-0"}, status: 206, body: layer[:1]},
		{name: "two Range headers", method: "GET", digest: p.blob, header: []string{"Range", "bytes=0-0", "Range", "bytes=1-1"}, status: 200, body: layer},
		{name: "HEAD with a range", method: "HEAD", digest: p.blob, header: []string{"Range", "bytes=0-0"}, status: 200, want: map[string]string{"Content-Length": "1000", "Content-Range": ""}},
		{name: "HEAD with an impossible range", method: "HEAD", digest: p.blob, header: []string{"Range", "bytes=5000-"}, status: 200, want: map[string]string{"Content-Length": "1000"}},
		{name: "range of an empty blob", method: "GET", digest: empty, header: []string{"Range", "bytes=-5"}, status: 200, body: []byte{}, want: map[string]string{"Content-Range": ""}},
		{name: "range if it is still the same", method: "GET", digest: p.blob, header: []string{"Range", "bytes=0-0", "If-Range", etag}, status: 206, body: layer[:1]},
		{name: "range if it were another", method: "GET", digest: p.blob, header: []string{"Range", "bytes=0-0", "If-Range", `"other"`}, status: 200, body: layer},
		{name: "range if not changed since", method: "GET", digest: p.blob, header: []string{"Range", "bytes=0-0", "If-Range", "Mon, 23 Nov 2026 00:00:00 GMT"}, status: 200, body: layer},

		{name: "known to the client", method: "GET", digest: p.blob, header: []string{"If-None-Match", etag}, status: 304, want: map[string]string{"Etag": etag, "Docker-Content-Digest": string(p.blob), "Content-Length": ""}},
		{name: "known to the client, weakly", method: "HEAD", digest: p.blob, header: []string{"If-None-Match", `"x", W/` + etag}, status: 304},
		{name: "known to the client, with a range", method: "GET", digest: p.blob, header: []string{"If-None-Match", etag, "Range", "bytes=5000-"}, status: 304},
		{name: "another one known", method: "GET", digest: p.blob, header: []string{"If-None-Match", `"other"`}, status: 200, body: layer},
		{name: "condition met", method: "GET", digest: p.blob, header: []string{"If-Match", etag}, status: 200, body: layer},
		{name: "condition not met", method: "GET", digest: p.blob, header: []string{"If-Match", `"other"`}, status: 412, want: map[string]string{"Content-Type": "application/json", "Etag": ""}},
		{name: "HEAD and condition not met", method: "HEAD", digest: p.blob, header: []string{"If-Match", `"other"`}, status: 412},
	}
	for _, files := range []bool{false, true} {
		if files {
			p.shelf.files(t)
		}
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s/file %v", test.name, files), func(t *testing.T) {
				resp, body := p.ask(t, test.method, url+string(test.digest), test.header...)
				if resp.StatusCode != test.status {
					t.Fatalf("%s, want %d: %s", resp.Status, test.status, body)
				}
				if test.body != nil && !bytes.Equal(body, test.body) {
					t.Errorf("body %q, want %q", body, test.body)
				}
				if (test.method == "HEAD" || test.status == 304) && len(body) != 0 {
					t.Errorf("body %q, want none", body)
				}
				if test.status >= 400 && test.method != "HEAD" {
					checkError(t, resp, body, "")
				}
				wantHeader(t, resp, test.want)
			})
		}
	}
}

func TestSeveralRanges(t *testing.T) {
	p := newPier(t)
	for _, files := range []bool{false, true} {
		if files {
			p.shelf.files(t)
		}
		resp, body := p.ask(t, "GET", "/v2/docker.io/library/busybox/blobs/"+string(p.blob), "Range", "bytes=0-9,500-509,-1")
		if resp.StatusCode != 206 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "multipart/byteranges") {
			t.Fatalf("%s %s", resp.Status, resp.Header.Get("Content-Type"))
		}
		if n := bytes.Count(body, []byte("Content-Range: bytes ")); n != 3 {
			t.Errorf("%d parts, want 3", n)
		}
		resp.Body = readCloser{bytes.NewReader(body)}
		checkRanges(t, resp, layer)
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func TestBlobHeadWithoutStat(t *testing.T) {
	shelf := newShelf()
	d := shelf.put(layer)
	closed := 0
	shelf.open = func(_ registry.Digest, b []byte) (registry.Blob, error) {
		return registry.Blob{ReadSeekCloser: counted{memory{bytes.NewReader(b)}, &closed}, Size: int64(len(b))}, nil
	}
	resp, _ := start(t, New(Config{Registry: shelf})).ask(t, "HEAD", "/v2/a/b/blobs/"+string(d))
	if resp.StatusCode != 200 || resp.ContentLength != 1000 || closed != 1 {
		t.Errorf("%s, Content-Length %d, closed %d times", resp.Status, resp.ContentLength, closed)
	}
	if want := []string{"blob a/b@" + string(d)}; !slices.Equal(shelf.questions(), want) {
		t.Error("more was asked than the blob")
	}
}

type counted struct {
	memory
	n *int
}

func (c counted) Close() error { *c.n++; return nil }
