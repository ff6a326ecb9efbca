package console

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// A maintainer of a proxy pins and warms, which is his to do, and is sent on to a page that he may see.
func TestMaintainersPinAndWarm(t *testing.T) {
	v := open(t)
	repo := registry.Repo{Project: "hub", Name: "library/busybox"}
	v.image(repo, "latest", plainConfig, `{}`)
	v.must(v.access.SetMember(t.Context(), "test", catalog.Member{Project: "hub", Name: "gina", Role: string(access.Maintainer)}))
	gina := v.as("gina")
	pins := func() []string {
		p, err := v.estate.Project(t.Context(), v.principal("admin"), estate.Ref{Name: "hub"})
		v.must(err)
		return p.Policy.Pin
	}
	page := "/c/artifacts/hub/library/busybox?ref=latest"
	gina.get(page).has(t, http.StatusOK, `value="pin"`)
	gina.post("/c/pin/hub/library/busybox", url.Values{"ref": {"latest"}, "do": {"pin"}}).leads(t, page+"&done=tag.pinned")
	if got := pins(); !slices.Equal(got, []string{"library/busybox:latest"}) {
		t.Errorf("pins %q", got)
	}
	gina.get(page).has(t, http.StatusOK, `value="unpin"`)
	gina.post("/c/pin/hub/library/busybox", url.Values{"ref": {"latest"}, "do": {"unpin"}}).leads(t, page+"&done=tag.unpinned")
	if got := pins(); len(got) != 0 {
		t.Errorf("pins %q, want none", got)
	}
	v.as("nobody").post("/c/pin/hub/library/busybox", url.Values{"ref": {"latest"}, "do": {"pin"}}).has(t, http.StatusForbidden)
	gina.post("/c/projects/hub/settings", url.Values{"public": {"on"}}).has(t, http.StatusForbidden) // that is not

	started := gina.post("/c/tasks", url.Values{"do": {"warm"}, "image": {"hub/library/busybox:1"}})
	started.leads(t, "/c/projects/hub?done=task.started")
	gina.get(started.header.Get("Location")).has(t, http.StatusOK, "It has begun.")
	gina.post("/c/tasks/1/stop", nil).leads(t, "/c/projects/hub?done=task.stopped")
	gina.post("/c/tasks", url.Values{"do": {"warm"}, "image": {"hub/library/busybox@sha256:1"}}).has(t, http.StatusUnprocessableEntity, "neither a tag nor a digest")
}
