package peer

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"roadstead/registry"
)

// carried is a span that another process is to continue.
type carried struct{ registry.Span }

func (carried) Start(string) registry.Span         { return carried{} }
func (carried) Note(...slog.Attr)                  {}
func (carried) End(error)                          {}
func (carried) Carry(set func(name, value string)) { set("Traceparent", "of this node") }

// What a node asks another is a piece of the request that it is for, and signed all the same.
func TestANodeContinuesWhatAnotherHasBegun(t *testing.T) {
	var came []http.Header
	owner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := secret.signer(r, time.Now()); err != nil {
			t.Error(err)
		}
		came = append(came, r.Header.Clone())
		io.WriteString(w, "bytes")
	}))
	defer owner.Close()
	c, err := New(Config{Self: Node{ID: "here", URL: "http://127.0.0.1:1"}, Secret: secret, Roll: &roll{}, Client: owner.Client()})
	if err != nil {
		t.Fatal(err)
	}
	repo, d := registry.SplitRepo("mirror/app"), registry.Digest("sha256:"+"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	for _, ctx := range []struct {
		traced bool
		want   string
	}{{true, "of this node"}, {false, ""}} {
		asking := t.Context()
		if ctx.traced {
			asking = registry.WithSpan(asking, carried{})
		}
		body, _, err := c.blob(asking, Node{ID: "owner", URL: owner.URL}, repo, d, 0)
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		if got := came[len(came)-1].Get("Traceparent"); got != ctx.want {
			t.Errorf("traced %v: the owner was sent %q, want %q", ctx.traced, got, ctx.want)
		}
	}
}
