package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A list is pasted, and its page says what has come of each image; whoever has not given it sees nothing
// of it.
func TestWarmupOfAList(t *testing.T) {
	v := open(t)
	admin := v.as("admin")
	admin.get("/c/jobs").has(t, http.StatusOK, "Warm-up of a list", `<textarea id="list" name="list"`, `name="list_platforms"`)
	admin.post("/c/warmups", url.Values{"list": {"team/UPPER"}}).has(t, http.StatusUnprocessableEntity, "line 1", "team/UPPER</textarea>")
	admin.post("/c/warmups", url.Values{"list": {"# none"}}).has(t, http.StatusUnprocessableEntity, "There is no image on the list")
	admin.post("/c/warmups", url.Values{"list": {"busybox\nquay.io/team/app\n"}, "list_platforms": {"all"}}).leads(t, "/c/warmups/1?done=task.started")

	page := admin.get("/c/warmups/1")
	for late := time.Now().Add(10 * time.Second); strings.Contains(page.body, "data-live=") && time.Now().Before(late); {
		page = admin.get("/c/warmups/1")
	}
	page.has(t, http.StatusOK, "Warm-up 1", "2 images: docker.io/library/busybox:latest", "quay.io/team/app:latest</td>", `<span class="state failed">`)
	admin.get("/c/jobs").has(t, http.StatusOK, `<a href="/c/warmups/1">2 images`)
	admin.post("/c/tasks/1/stop", nil).leads(t, "/c/warmups/1?done=task.stopped")
	v.as("gina").get("/c/warmups/1").has(t, http.StatusNotFound)
	v.as("gina").get("/c/warmups/1/live").has(t, http.StatusNotFound)
	admin.get("/c/warmups/2").has(t, http.StatusNotFound)
}
