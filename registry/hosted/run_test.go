package hosted

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

var (
	_ registry.Reader   = (*Registry)(nil)
	_ registry.Writer   = (*Registry)(nil)
	_ registry.Uploader = (*Registry)(nil)
)

// TestRun: it finishes what a crash has left, collects and retains, and puts uploads away in the end.
func TestRun(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Retention: catalog.Retention{Newest: 1}})
	h.blob(web, "config")
	loose := h.blob(web, "layer")
	h.push(web, crashOld, "new")
	h.push(web, crashEarlier, "old", "crashed")
	h.pushed(web, "old", 50*day, 0)
	h.pushed(web, "crashed", 50*day, 0)
	h.crashAtDelete()
	h.open(Config{Every: 10 * time.Millisecond, Grace: time.Millisecond})
	u := h.start(web, "")
	h.append(u, 0, "hello")

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	for h.Stats().Retired < 1 || h.Stats().Collections < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	h.uploads.mu.Lock()
	open := h.uploads.open
	h.uploads.mu.Unlock()
	if open != 0 {
		t.Errorf("%d uploads are open after the end", open)
	}
	h.append(u, 5, " world") // one that comes late is put away again
	h.open(Config{})
	again, err := h.Upload(t.Context(), web, "", u.ID())
	if err != nil {
		t.Fatal(err)
	}
	want(t, again.Commit(t.Context(), digest.FromString("hello world")), "")
	if tags, err := h.Tags(t.Context(), web, "", -1); err != nil || strings.Join(tags, " ") != "new" {
		t.Errorf("tags = %v, %v, want the new one", tags, err)
	}
	if _, err := h.read(web, loose.Digest); err != nil {
		t.Error(err)
	}
	h.agree(never)
}

// crashAtDelete has a process end in the middle of a deletion.
func (h *house) crashAtDelete() {
	h.t.Helper()
	h.at = func(step string) {
		if step == "delete: forgotten" {
			panic(ended(step))
		}
	}
	defer func() {
		if recover() == nil {
			h.t.Error("it did not end")
		}
	}()
	h.DeleteTag(context.Background(), web, "crashed")
}
