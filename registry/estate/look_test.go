package estate

import (
	"context"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// As many look as there is memory for; whoever comes next waits, as long as he likes.
func TestLooksAreBounded(t *testing.T) {
	l := open(t)
	for range maxLooks {
		l.looks <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	l.Look(ctx, registry.Repo{Project: "quay.io", Name: "a"}, catalog.Artifact{})
	if ctx.Err() == nil {
		t.Error("one more has not waited")
	}
	<-l.looks
	l.Look(t.Context(), registry.Repo{Project: "quay.io", Name: "a"}, catalog.Artifact{})
	if len(l.looks) != maxLooks-1 {
		t.Errorf("%d places are taken after it, want %d", len(l.looks), maxLooks-1)
	}
}
