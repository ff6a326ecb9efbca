package server

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"roadstead/registry"
)

// pier is a server over one shelf with an image in docker.io/library/busybox.
type pier struct {
	*running
	shelf    *shelf
	server   *Server
	manifest registry.Digest
	blob     registry.Digest
}

var (
	busybox = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}`)
	layer   = bytes.Repeat([]byte("0123456789"), 100)
)

func newPier(t testing.TB) *pier {
	p := &pier{shelf: newShelf()}
	p.manifest = p.shelf.tag("docker.io/library/busybox:1.35", registry.MediaTypeDockerManifest, busybox)
	p.blob = p.shelf.put(layer)
	p.server = New(Config{
		Registry: stocktaker{p.shelf},
		Known:    isDockerHub,
		Route: func(host, ns, name string) (registry.Repo, error) {
			if ns != "" && ns != "docker.io" {
				return registry.Repo{}, &registry.Fault{Code: registry.NameUnknown, Message: "no upstream is called " + ns}
			}
			repo := registry.SplitRepo(name)
			if repo.Project != "docker.io" {
				repo = registry.Repo{Project: "docker.io", Name: name}
			}
			return repo, nil
		},
	})
	p.running = start(t, p.server)
	return p
}

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

func wantHeader(t *testing.T, resp *http.Response, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got := resp.Header.Get(key); got != value {
			t.Errorf("%s: %q, want %q", key, got, value)
		}
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

// checkError checks the form of an error, and its code unless that is empty.
func checkError(t *testing.T, resp *http.Response, body []byte, code registry.Code) {
	t.Helper()
	var answer struct {
		Errors []struct {
			Code    registry.Code
			Message string
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Errors) != 1 || answer.Errors[0].Message == "" {
		t.Fatalf("%q is no error of the specification: %v", body, err)
	}
	if code != "" && answer.Errors[0].Code != code {
		t.Errorf("code %s, want %s", answer.Errors[0].Code, code)
	}
	wantHeader(t, resp, map[string]string{"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"})
	if resp.ContentLength != int64(len(body)) {
		t.Errorf("Content-Length %d, %d bytes", resp.ContentLength, len(body))
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
		return registry.Blob{ReadSeekCloser: closing1{memory{bytes.NewReader(b)}, &closed}, Size: int64(len(b))}, nil
	}
	resp, _ := start(t, New(Config{Registry: shelf})).ask(t, "HEAD", "/v2/a/b/blobs/"+string(d))
	if resp.StatusCode != 200 || resp.ContentLength != 1000 || closed != 1 {
		t.Errorf("%s, Content-Length %d, closed %d times", resp.Status, resp.ContentLength, closed)
	}
	if want := []string{"blob a/b@" + string(d)}; !slices.Equal(shelf.questions(), want) {
		t.Error("more was asked than the blob")
	}
}

type closing1 struct {
	memory
	n *int
}

func (c closing1) Close() error { *c.n++; return nil }

func TestPing(t *testing.T) {
	p := newPier(t)
	for _, path := range []string{
		"/v2/", "/v2", "/v2/?ns=docker.io", "/v2/docker.io/", "/v2/docker.io", "/v2/docker.io/?ns=docker.io",
		"/docker.io/v2/", "/docker.io/v2", "/docker.io/", "//v2//",
	} {
		resp, body := p.ask(t, "GET", path)
		if resp.StatusCode != 200 || string(body) != "{}" || resp.Header.Get("Docker-Distribution-API-Version") != "registry/2.0" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("GET %s: %s %q %v", path, resp.Status, body, resp.Header)
		}
		resp, _ = p.ask(t, "HEAD", path)
		if resp.StatusCode != 200 || resp.ContentLength != 2 {
			t.Errorf("HEAD %s: %s, Content-Length %d", path, resp.Status, resp.ContentLength)
		}
	}
}

func TestTags(t *testing.T) {
	p := newPier(t)
	for i := range 5 {
		p.shelf.tag(fmt.Sprintf("docker.io/library/alpine:3.%d", i), registry.MediaTypeOCIManifest, busybox)
	}
	const path = "/v2/docker.io/library/alpine/tags/list"
	tests := []struct {
		name, query string
		want        string // the tags
		link        string
	}{
		{name: "all", want: "3.0 3.1 3.2 3.3 3.4"},
		{name: "first page", query: "?n=2", want: "3.0 3.1", link: "<" + path + `?last=3.1&n=2>; rel="next"`},
		{name: "second page", query: "?n=2&last=3.1", want: "3.2 3.3", link: "<" + path + `?last=3.3&n=2>; rel="next"`},
		{name: "last page", query: "?n=2&last=3.3", want: "3.4"},
		{name: "full last page", query: "?n=5", want: "3.0 3.1 3.2 3.3 3.4"},
		{name: "after a tag that is not there", query: "?last=3.2x", want: "3.3 3.4"},
		{name: "none wanted", query: "?n=0", want: ""},
		{name: "after the end", query: "?last=4", want: ""},
		{name: "very many wanted", query: "?n=2147483647", want: "3.0 3.1 3.2 3.3 3.4"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p.shelf.questions()
			resp, body := p.ask(t, "GET", path+test.query)
			var list struct {
				Name string
				Tags []string
			}
			if err := json.Unmarshal(body, &list); err != nil || list.Tags == nil || resp.StatusCode != 200 {
				t.Fatalf("%s %s: %v", resp.Status, body, err)
			}
			if got := strings.Join(list.Tags, " "); got != test.want || list.Name != "docker.io/library/alpine" {
				t.Errorf("%s: %q, want %q", list.Name, got, test.want)
			}
			wantHeader(t, resp, map[string]string{"Link": test.link, "Content-Type": "application/json", "Content-Length": fmt.Sprint(len(body))})
			for _, q := range p.shelf.questions() {
				if strings.Contains(q, "n 2147483647") {
					t.Error(q)
				}
			}
		})
	}

	t.Run("the link keeps the namespace", func(t *testing.T) {
		resp, _ := p.ask(t, "GET", "/v2/library/alpine/tags/list?n=1&ns=docker.io")
		wantHeader(t, resp, map[string]string{"Link": `</v2/library/alpine/tags/list?last=3.0&n=1&ns=docker.io>; rel="next"`})
	})
	t.Run("the link leads on from a path with two slashes", func(t *testing.T) {
		resp, _ := p.ask(t, "GET", "//v2/docker.io/library/alpine/tags/list?n=1")
		wantHeader(t, resp, map[string]string{"Link": "<" + path + `?last=3.0&n=1>; rel="next"`})
	})
}

func TestReferrers(t *testing.T) {
	p := newPier(t)
	p.shelf.referrers[p.manifest] = []registry.Descriptor{
		{MediaType: registry.MediaTypeOCIManifest, Digest: someDigest, Size: 7, ArtifactType: "application/a", Annotations: map[string]string{"k": "v"}},
		{MediaType: registry.MediaTypeOCIManifest, Digest: otherDigest, Size: 8, ArtifactType: "application/b+c"},
	}
	const path = "/v2/docker.io/library/busybox/referrers/"
	tests := []struct {
		name, ref string
		want      []registry.Digest
		filter    string
	}{
		{name: "all", ref: string(p.manifest), want: []registry.Digest{someDigest, otherDigest}},
		{name: "of a type", ref: string(p.manifest) + "?artifactType=application%2Fb%2Bc", want: []registry.Digest{otherDigest}, filter: "artifactType"},
		{name: "of a type that none has", ref: string(p.manifest) + "?artifactType=x", filter: "artifactType"},
		{name: "of something unknown", ref: someDigest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp, body := p.ask(t, "GET", path+test.ref)
			var index struct {
				SchemaVersion int
				MediaType     string
				Manifests     []registry.Descriptor
			}
			if err := json.Unmarshal(body, &index); err != nil || index.Manifests == nil {
				t.Fatalf("%s: %v", body, err)
			}
			if resp.StatusCode != 200 || index.SchemaVersion != 2 || index.MediaType != registry.MediaTypeOCIIndex {
				t.Errorf("%s %s", resp.Status, body)
			}
			var got []registry.Digest
			for _, d := range index.Manifests {
				got = append(got, d.Digest)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
			wantHeader(t, resp, map[string]string{"Content-Type": registry.MediaTypeOCIIndex, "OCI-Filters-Applied": test.filter})
		})
	}
	t.Run("of an unknown repository", func(t *testing.T) {
		p.shelf.fail = registry.NameUnknown
		if resp, body := p.ask(t, "GET", path+someDigest); resp.StatusCode != 200 || !strings.Contains(string(body), `"manifests":[]`) {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
	t.Run("upstream down", func(t *testing.T) {
		p.shelf.fail = registry.Unavailable
		if resp, _ := p.ask(t, "GET", path+someDigest); resp.StatusCode != 503 {
			t.Error(resp.Status)
		}
	})
}

func TestCatalog(t *testing.T) {
	p := newPier(t)
	p.shelf.tag("docker.io/library/alpine:3", registry.MediaTypeOCIManifest, busybox)
	p.shelf.tag("docker.io/grafana/loki:3", registry.MediaTypeOCIManifest, busybox)
	tests := []struct{ name, query, want, link string }{
		{name: "all", want: `{"repositories":["docker.io/grafana/loki","docker.io/library/alpine","docker.io/library/busybox"]}`},
		{name: "page", query: "?n=1", want: `{"repositories":["docker.io/grafana/loki"]}`, link: `</v2/_catalog?last=docker.io%2Fgrafana%2Floki&n=1>; rel="next"`},
		{name: "last page", query: "?n=1&last=docker.io%2Flibrary%2Falpine", want: `{"repositories":["docker.io/library/busybox"]}`},
		{name: "after the end", query: "?last=x", want: `{"repositories":[]}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp, body := p.ask(t, "GET", "/v2/_catalog"+test.query)
			if resp.StatusCode != 200 || string(body) != test.want || resp.Header.Get("Link") != test.link {
				t.Errorf("%s %s, link %q", resp.Status, body, resp.Header.Get("Link"))
			}
		})
	}
	t.Run("a registry without the power", func(t *testing.T) {
		resp, body := start(t, New(Config{Registry: p.shelf})).ask(t, "GET", "/v2/_catalog")
		if resp.StatusCode != 404 {
			t.Error(resp.Status)
		}
		checkError(t, resp, body, registry.NameUnknown)
	})
}

func TestOther(t *testing.T) {
	shelf := newShelf()
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>", r.URL.Path) })
	with := start(t, New(Config{Registry: shelf, Known: isDockerHub, Other: page}))
	for _, path := range []string{"/", "/console//x", "/api/v2.0/projects"} {
		if resp, body := with.ask(t, "GET", path); resp.StatusCode != 200 || string(body) != "<html>"+path {
			t.Errorf("GET %s: %s %s", path, resp.Status, body)
		}
	}
	for _, path := range []string{"/v2/nothing", "/v2/a/b/c", "/docker.io/x", "/docker.io/index.html", "//docker.io/x", "/console/../v2/"} {
		resp, body := with.ask(t, "GET", path)
		if resp.StatusCode/100 != 4 {
			t.Errorf("GET %s: %s %s", path, resp.Status, body)
		}
		checkError(t, resp, body, "")
	}
	resp, body := start(t, New(Config{Registry: shelf})).ask(t, "GET", "/index.html")
	if resp.StatusCode != 404 {
		t.Errorf("without a handler for the rest: %s", resp.Status)
	}
	checkError(t, resp, body, registry.NameUnknown)
}

func TestStale(t *testing.T) {
	p := newPier(t)
	p.shelf.note = registry.Stale
	for _, path := range []string{
		"/manifests/1.35", "/manifests/" + string(p.manifest), "/blobs/" + string(p.blob), "/tags/list", "/referrers/" + string(p.manifest),
	} {
		for _, method := range []string{"GET", "HEAD"} {
			resp, _ := p.ask(t, method, "/v2/docker.io/library/busybox"+path)
			if got, want := resp.Header.Get("Warning"), `110 - "Response is Stale"`; resp.StatusCode != 200 || got != want {
				t.Errorf("%s %s: %s, Warning %q, want %q", method, path, resp.Status, got, want)
			}
		}
	}
}
