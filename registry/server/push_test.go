package server

import (
	"bytes"
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"roadstead/registry"
)

func TestPutManifest(t *testing.T) {
	image := []byte(`{"schemaVersion":2,"mediaType":"` + registry.MediaTypeOCIManifest + `","config":{"mediaType":"a/b","digest":"` + string(digestOf(layer)) + `","size":1000},"layers":[]}`)
	signed := bytes.Replace(image, []byte(`"layers"`), []byte(`"subject":{"mediaType":"a/b","digest":"`+someDigest+`","size":1},"layers"`), 1)
	d, long := digestOf(image), registry.Digest(fmt.Sprintf("sha512:%x", sha512.Sum512(image)))
	missing := bytes.Replace(image, []byte(digestOf(layer)), []byte(someDigest), 1)
	const oci = registry.MediaTypeOCIManifest
	tests := []struct {
		name, ref, contentType string
		body                   []byte
		status                 int
		code                   registry.Code
		header                 map[string]string
		tags                   string // of the repository
	}{
		{"tag", "1", oci, image, 201, "", map[string]string{"Location": "/v2/private/web/manifests/" + string(d), "Docker-Content-Digest": string(d), "OCI-Subject": "", "OCI-Tag": "", "Content-Length": "0", "X-Content-Type-Options": "nosniff"}, "1"},
		{"digest", string(d), oci, image, 201, "", map[string]string{"Location": "/v2/private/web/manifests/" + string(d)}, ""},
		{"no content type", "1", "", image, 201, "", nil, "1"},
		{"sha512", string(long), oci, image, 201, "", map[string]string{"Docker-Content-Digest": string(long), "Location": "/v2/private/web/manifests/" + string(long)}, ""},
		{"tag and sha512", "1?digest=" + string(long), oci, image, 201, "", map[string]string{"Docker-Content-Digest": string(long)}, "1"},
		{"digest and tags", string(d) + "?tag=1&tag=2&tag=1", oci, image, 201, "", map[string]string{"OCI-Tag": "1|2"}, "1 2"},
		{"tag and tags", "3?tag=1", oci, image, 201, "", map[string]string{"OCI-Tag": "1"}, "1 3"},
		{"subject", "1", oci, signed, 201, "", map[string]string{"OCI-Subject": someDigest}, "1"},
		{"another digest", someDigest, oci, image, 400, registry.DigestInvalid, nil, ""},
		{"two digests", string(d) + "?digest=" + string(long), oci, image, 400, registry.DigestInvalid, nil, ""},
		{"bad digest", "sha256:baddigeststring", oci, image, 400, registry.DigestInvalid, nil, ""},
		{"bad digest parameter", "1?digest=x", oci, image, 400, registry.DigestInvalid, nil, ""},
		{"bad tag", ".x", oci, image, 400, registry.TagInvalid, nil, ""},
		{"bad tag parameter", string(d) + "?tag=a/b", oci, image, 400, registry.TagInvalid, nil, ""},
		{"too many tags", string(d) + "?" + manyTags(101), oci, image, 414, uriTooLong, nil, ""},
		{"very many tags", string(d) + "?" + manyTags(1000), oci, image, 414, uriTooLong, nil, ""},
		{"nothing", "1", oci, nil, 400, registry.ManifestInvalid, nil, ""},
		{"no manifest", "1", oci, []byte("{"), 400, registry.ManifestInvalid, nil, ""},
		{"B1 another type than it says", "1", registry.MediaTypeOCIIndex, image, 400, registry.ManifestInvalid, nil, ""},
		{"missing blob", "1", oci, missing, 404, registry.ManifestBlobUnknown, nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run, y, _, _ := newGate(t)
			y.put("private/web", layer)
			for _, stream := range []bool{false, true} {
				var body io.Reader = bytes.NewReader(test.body)
				if stream {
					body = streamed(test.body)
				}
				resp, got := run.send(t, "dev", "PUT", "/v2/private/web/manifests/"+test.ref, body, "Content-Type", test.contentType)
				if resp.StatusCode != test.status {
					t.Fatalf("%s %s, want %d", resp.Status, got, test.status)
				}
				if test.status != 201 {
					checkError(t, resp, got, test.code)
				}
				for key, want := range test.header {
					if have := strings.Join(resp.Header.Values(key), "|"); have != want {
						t.Errorf("%s: %q, want %q", key, have, want)
					}
				}
				tags, err := y.Tags(context.Background(), registry.SplitRepo("private/web"), "", 10)
				if have := strings.Join(tags, " "); err != nil || have != test.tags {
					t.Errorf("tags %q, want %q", have, test.tags)
				}
			}
		})
	}
}

func manyTags(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("tag=%d", i))
	}
	return strings.Join(list, "&")
}

func TestManifestTagsAreAudited(t *testing.T) {
	run, y, g, _ := newGate(t)
	y.put("private/web", layer)
	image := []byte(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"` + string(digestOf(layer)) + `","size":1000},"layers":[]}`)
	d := string(digestOf(image))
	run.send(t, "dev", "PUT", "/v2/private/web/manifests/"+d+"?tag=1&tag=2", bytes.NewReader(image), "Content-Type", registry.MediaTypeOCIManifest)
	want := []string{"dev push repository private/web " + d + " done", "dev push repository private/web 1 done", "dev push repository private/web 2 done"}
	if got := g.records(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q", got)
	}
}

// B2: a manifest that is too large costs no more memory than one that is not, and nothing at
// all when it says so.
func TestB2_LargeManifest(t *testing.T) {
	run, y, _, _ := newGate(t)
	const path = "/v2/private/web/manifests/1"
	asked := false
	body := readerFunc(func(p []byte) (int, error) { asked = true; return len(p), nil })
	req, _ := http.NewRequest("PUT", run.url+path, body)
	req.ContentLength = 1 << 40
	req.Header.Set("Expect", "100-continue")
	req.SetBasicAuth("dev", "dev")
	run.Transport.(*http.Transport).ExpectContinueTimeout = 1e10
	resp, err := run.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 413 || asked {
		t.Errorf("announced: %s %s, asked for the body: %v", resp.Status, got, asked)
	}
	checkError(t, resp, got, registry.TooLarge)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sent := int64(0)
	endless := readerFunc(func(p []byte) (int, error) {
		if sent += int64(len(p)); sent > 64<<20 {
			return 0, io.EOF
		}
		return len(p), nil
	})
	req, _ = http.NewRequest("PUT", run.url+path, endless)
	req.SetBasicAuth("dev", "dev")
	if resp, err := run.Do(req); err == nil { // or the connection is closed while it still sends
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("endless: %s", resp.Status)
		}
	}
	runtime.ReadMemStats(&after) // of both sides; a buffer that grows to 4 MiB is 16 in all
	if took := after.TotalAlloc - before.TotalAlloc; took > 48<<20 {
		t.Errorf("%d MiB for a manifest that is too large", took>>20)
	}
	if sent > 48<<20 {
		t.Errorf("%d MiB were read", sent>>20)
	}
	if y.changes() != 0 {
		t.Error("the registry was written to")
	}
	just := bytes.Repeat([]byte(" "), registry.MaxManifest)
	if resp, got := run.send(t, "dev", "PUT", path, streamed(just)); resp.StatusCode != 400 {
		t.Errorf("the largest there may be: %s %s", resp.Status, got)
	}
	if resp, _ := run.send(t, "dev", "PUT", path, streamed(append(just, ' '))); resp.StatusCode != 413 {
		t.Errorf("one byte more: %s", resp.Status)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDeletions(t *testing.T) {
	run, y, _, _ := newGate(t)
	const repo = "/v2/private/web"
	d := y.tag("private/web", "1", []byte(`{}`))
	y.tag("private/web", "2", []byte(`{}`))
	b := y.put("private/web", layer)
	steps := []struct {
		method, path string
		status       int
	}{
		{"DELETE", "/manifests/1", 202}, {"DELETE", "/manifests/1", 404}, {"GET", "/manifests/2", 200}, {"GET", "/manifests/" + string(d), 200},
		{"DELETE", "/manifests/" + string(d), 202}, {"DELETE", "/manifests/" + string(d), 404}, {"GET", "/manifests/2", 404},
		{"DELETE", "/blobs/" + string(b), 202}, {"DELETE", "/blobs/" + string(b), 404}, {"GET", "/blobs/" + string(b), 404},
		{"DELETE", "/manifests/.x", 404}, {"DELETE", "/blobs/x", 400},
	}
	for _, step := range steps {
		if resp, body := run.send(t, "boss", step.method, repo+step.path, nil); resp.StatusCode != step.status {
			t.Errorf("%s %s: %s %s, want %d", step.method, step.path, resp.Status, body, step.status)
		}
	}
}
