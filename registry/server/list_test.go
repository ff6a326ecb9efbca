package server

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"roadstead/registry"
)

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
