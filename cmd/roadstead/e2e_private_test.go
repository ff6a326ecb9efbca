package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Whoever has no right to a private project cannot tell it from one that is not there: every
// call, with conditions and ranges too, has the same answer, to the last header (FAULTS C17, C19).
func TestC19_PrivateLooksAbsent(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	w := startWharf(t, nodeConfig{plain: true, projects: map[string]any{
		// It is private because what is upstream takes a password.
		"quay.io": u.project(map[string]any{"username": "somebody", "password": tokenSecret, "insecure": true}),
	}}, "limitedGuest", "foreign")
	img := recipe{seed: 330000}.make(t, "1")
	if err := w.as(w.root).push("production/team/web", img); err != nil {
		t.Fatal(err)
	}
	u.push(t, "team/web", img)
	if err := w.as(w.root).pull("quay.io/team/web", "1", img); err != nil {
		t.Fatal(err)
	}
	etag := `"` + string(img.top().digest) + `"`
	compared := 0
	for _, who := range []account{{}, w.foreign} {
		for _, c := range calls(img) {
			for _, headers := range [][]string{nil, {"If-None-Match: " + etag}, {"If-None-Match: *"}, {"Range: bytes=0-1"}, {"Range: bytes=999999999-"}, {"If-Match: \"x\""}} {
				seen := map[string]string{}
				for _, repo := range []string{"production/team/web", "production/team/absent", "quay.io/team/web", "absent-one/team/web"} {
					a, err := c.to(w.as(who), repo, headers...)
					if err != nil {
						t.Fatal(err)
					}
					compared++
					if who.name == "" && a.status != http.StatusUnauthorized && a.status != http.StatusNotFound {
						t.Errorf("nobody, %s of %s with %q: %v, want 401 or 404", c.name(), repo, headers, a)
					}
					seen[repo] = a.faceless(repo)
				}
				for repo, got := range seen {
					if want := seen["absent-one/team/web"]; got != want {
						t.Errorf("%q, %s with %q of %s:\n%s\nand of one that is not there:\n%s", who.name, c.name(), headers, repo, got, want)
					}
				}
			}
		}
	}
	t.Logf("%d requests", compared)

	for _, who := range []account{{}, w.foreign} {
		a := w.as(who).ask(http.MethodGet, "/v2/_catalog?n=1000")
		if strings.Contains(string(a.body), "production") || strings.Contains(string(a.body), "quay.io") {
			t.Errorf("%q sees private repositories in the catalog (FAULTS C6): %v", who.name, a)
		}
	}
	if a := w.as(w.members["limitedGuest"]).ask(http.MethodGet, "/v2/_catalog?n=1000"); !strings.Contains(string(a.body), `"production/team/web"`) {
		t.Errorf("a member's catalog: %v", a)
	}
}

// faceless is an answer without what every answer differs in, and without the name that it is
// about.
func (a answer) faceless(repo string) string {
	header := a.header.Clone()
	header.Del("Date")
	var lines []string
	for name, values := range header {
		lines = append(lines, name+": "+strings.Join(values, ", "))
	}
	slices.Sort(lines)
	text := fmt.Sprintf("%d\n%s\n\n%s", a.status, strings.Join(lines, "\n"), a.body)
	project, _, _ := strings.Cut(repo, "/")
	// The length of a body that says the name goes with it.
	text = strings.ReplaceAll(strings.ReplaceAll(text, repo, "<repo>"), project, "<project>")
	if n := len(a.body); n > 0 {
		text = strings.Replace(text, fmt.Sprintf("Content-Length: %d", n), "Content-Length: <n>", 1)
	}
	return text
}

// Bytes of a private project come out through no other one by knowing their digest, whichever
// way somebody tries who may push there (FAULTS B8, B9).
func TestB8_PrivateBytesByDigest(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	w := startWharf(t, nodeConfig{plain: true, projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})}}, "foreign")
	const private = "production/team/web"
	img := recipe{seed: 340000}.make(t, "1")
	if err := w.as(w.root).push(private, img); err != nil {
		t.Fatal(err)
	}
	thief := w.as(w.foreign)
	own := recipe{seed: 340100}.make(t, "1")
	if err := thief.push("other/team/own", own); err != nil {
		t.Fatal(err)
	}
	if err := w.as(w.root).push("open/team/own", own); err != nil {
		t.Fatal(err)
	}

	unreadable := func(how string, n *node, repo string) {
		t.Helper()
		var paths []string
		for d := range img.blobs {
			paths = append(paths, blobPath(repo, d))
		}
		for _, m := range img.manifests {
			paths = append(paths, manifestPath(repo, string(m.digest)), blobPath(repo, m.digest))
		}
		for _, path := range paths {
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				if a := n.ask(method, path); a.status != http.StatusNotFound {
					t.Errorf("%s: %s %s: %v, want 404", how, method, path, a)
				}
			}
			absent := n.ask(http.MethodGet, path)
			other := path[:strings.LastIndex(path, "/")+1] + string(digest.FromString("nobody has this"))
			if got, want := absent.faceless(repo), n.ask(http.MethodGet, other).faceless(repo); strings.ReplaceAll(got, path, "") != strings.ReplaceAll(want, other, "") {
				t.Errorf("%s: %s is\n%s\nand what nobody has is\n%s", how, path, got, want)
			}
		}
	}
	unreadable("as nobody through a public project", w.node, "open/team/own")
	unreadable("through one's own project", thief, "other/team/own")

	for d := range img.blobs {
		for _, from := range []string{"&from=" + private, "", "&from=absent/team/web"} {
			a, err := thief.send(http.MethodPost, uploadsPath("other/team/own")+"?mount="+string(d)+from, "", http.NoBody, 0)
			if err := expect(http.StatusAccepted, a, err, "POST", "mount"+from); err != nil {
				t.Error(err)
			}
		}
	}
	unreadable("after mounts", thief, "other/team/own")

	// A manifest that names what is not there is refused, whether somebody else has it or nobody.
	index := newImage()
	top := img.top()
	index.addJSON(t, ociIndex, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ociIndex, Manifests: []v1.Descriptor{top.descriptor(nil)}})
	for _, m := range []manifest{top, index.top()} {
		a, err := thief.send(http.MethodPut, manifestPath("other/team/own", "stolen"), m.mediaType, bytes.NewReader(m.bytes), int64(len(m.bytes)))
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Errors []struct{ Code string } }
		if json.Unmarshal(a.body, &e); a.status != http.StatusNotFound && a.status != http.StatusBadRequest || len(e.Errors) == 0 || e.Errors[0].Code != "MANIFEST_BLOB_UNKNOWN" {
			t.Errorf("a manifest that names somebody else's content: %v, want MANIFEST_BLOB_UNKNOWN", a)
		}
	}
	// A subject may be anything, and is not read through its referrer.
	subject := top.descriptor(nil)
	empty := []byte("{}")
	if err := thief.pushBlob("other/team/own", digest.FromBytes(empty), content{bytes: empty, size: 2}); err != nil {
		t.Fatal(err)
	}
	referrer := newImage().addJSON(t, ociManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ociManifest, ArtifactType: "application/vnd.example.x",
		Config: v1.DescriptorEmptyJSON, Layers: []v1.Descriptor{v1.DescriptorEmptyJSON}, Subject: &subject,
	})
	if err := thief.pushManifest("other/team/own", "referrer", referrer); err != nil {
		t.Error(err)
	}
	unreadable("after manifests", thief, "other/team/own")

	// An upstream that anybody can push to has a manifest that names the private layers, and has
	// not got them: the manifest proves nothing.
	u.push(t, "library/stolen", img)
	for d := range img.blobs {
		u.send(t, http.MethodDelete, u.url+"/v2/library/stolen/blobs/"+string(d), "", nil, 0)
	}
	if a := w.ask(http.MethodGet, manifestPath("docker.io/library/stolen", "1")); !a.whole() {
		t.Fatalf("the manifest at the upstream: %v", a)
	}
	for d := range img.blobs {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			if a := w.ask(method, blobPath("docker.io/library/stolen", d)); a.status == http.StatusOK {
				t.Errorf("%s of a private layer through a public proxy, whose upstream has only named it: %d", method, a.status)
			}
		}
	}
}
