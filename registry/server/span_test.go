package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"roadstead/registry"
)

// noted is a span that remembers what it was told.
type noted struct {
	registry.Span
	name  string
	facts map[string]string
	ended int
	err   error
}

func (n *noted) Note(facts ...slog.Attr) {
	for _, f := range facts {
		n.facts[f.Key] = f.Value.String()
	}
}

func (n *noted) End(err error) { n.ended, n.err = n.ended+1, err }

// Each request of the registry API is one span, which ends once and is a failure where the server failed; pages
// are none.
func TestARequestIsASpan(t *testing.T) {
	for _, row := range []struct {
		name, path string
		fail       error
		leaves     bool
		status     string
		failed     bool
	}{
		{name: "a hit", path: "/v2/docker.io/library/busybox/manifests/1", status: "200"},
		{name: "no such tag", path: "/v2/docker.io/library/busybox/manifests/2", status: "404"},
		{name: "not allowed", path: "/v2/docker.io/library/busybox/manifests/1", fail: registry.Denied, status: "403"},
		{name: "upstream is away", path: "/v2/docker.io/library/busybox/manifests/1", fail: registry.Unavailable, status: "503", failed: true},
		{name: "a mistake of ours", path: "/v2/docker.io/library/busybox/manifests/1", fail: http.ErrNotSupported, status: "500", failed: true},
		{name: "the client leaves", path: "/v2/docker.io/library/busybox/manifests/1", fail: context.Canceled, leaves: true, status: "499"},
		{name: "a page", path: "/somewhere"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newShelf()
			body := []byte(`{"schemaVersion":2}`)
			d := registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digestOf(body), Size: int64(len(body))}
			s.tags["docker.io/library/busybox:1"], s.manifests[d.Digest] = d, registry.Manifest{Descriptor: d, Bytes: body}
			s.note, s.fail = registry.Hit, row.fail
			var spans []*noted
			h := New(Config{Registry: s, Known: func(p string) bool { return p == "docker.io" }, Traced: func(h http.Header, name string) registry.Span {
				if h.Get("Traceparent") != "a parent" {
					t.Errorf("the headers are %v", h)
				}
				one := &noted{name: name, facts: map[string]string{}}
				spans = append(spans, one)
				return one
			}})
			q := httptest.NewRequest(http.MethodGet, row.path, nil)
			q.Header.Set("Traceparent", "a parent")
			q.Header.Set("User-Agent", "agent\n/1")
			if row.leaves {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				q = q.WithContext(ctx)
			}
			func() {
				defer func() { _ = recover() }() // how a connection is broken off
				h.ServeHTTP(httptest.NewRecorder(), q)
			}()
			if row.status == "" {
				if len(spans) != 0 {
					t.Errorf("%d spans", len(spans))
				}
				return
			}
			if len(spans) != 1 || spans[0].ended != 1 || spans[0].name != "registry manifest" {
				t.Fatalf("spans are %+v", spans)
			}
			if facts := spans[0].facts; facts["http.response.status_code"] != row.status || facts["repo"] != "docker.io/library/busybox" || facts["user_agent.original"] != "agent?/1" {
				t.Errorf("the facts are %v, want status %s", facts, row.status)
			}
			if failed := spans[0].err != nil; failed != row.failed {
				t.Errorf("it ended with %v", spans[0].err)
			}
		})
	}
}
