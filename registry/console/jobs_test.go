package console

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/registry/access"
)

// events reads a stream until an event of a name has come, and returns what came, by name.
func (b *browser) events(lines *bufio.Scanner, until string) map[string]string {
	b.t.Helper()
	all, name := map[string]string{}, ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		switch value = strings.TrimPrefix(value, " "); {
		case field == "event":
			name = value
			all[name] = ""
		case field == "data":
			all[name] += value + "\n"
		case field == "" && name == until:
			return all
		}
	}
	b.t.Fatalf("the stream ended before %q came: %v", until, lines.Err())
	return nil
}

// The page of jobs says how far they are, as long as any runs and no longer, in the places that it
// has for that; and without script it can be loaded again.
func TestJobsAsTheyRun(t *testing.T) {
	v := open(t)
	admin := v.as("admin")
	still := admin.get("/c/jobs")
	still.has(t, http.StatusOK, "No job is running.")
	if strings.Contains(still.body, "data-live=") || strings.Contains(still.body, "data-live-instead") {
		t.Error("a page on which nothing runs is to be told of news")
	}
	admin.post("/c/tasks", url.Values{"do": {"scrub"}}).leads(t, "/c/jobs?done=task.started")
	page := admin.get("/c/jobs")
	for late := time.Now().Add(10 * time.Second); !strings.Contains(page.body, "4 MiB") && time.Now().Before(late); {
		page = admin.get("/c/jobs")
	}
	page.has(t, http.StatusOK, "1 job is running.", `<a href="/c/jobs" data-live-instead>`, `<progress max="100" value="25" aria-label="Progress of task 1">`, "25% · 1 MiB / 4 MiB")
	v.as("gina").get("/c/jobs/live").has(t, http.StatusForbidden)
	v.as("").get("/c/jobs/live").leads(t, "/c/signin?next=%2Fc%2Fjobs%2Flive")

	s := httptest.NewServer(v)
	defer s.Close()
	r, err := http.NewRequest(http.MethodGet, s.URL+"/c/jobs/live", nil)
	v.must(err)
	for _, c := range admin.cookies {
		r.AddCookie(c)
	}
	res, err := http.DefaultClient.Do(r)
	v.must(err)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	first := admin.events(lines, "jobs-tasks")
	for place, html := range first {
		if !strings.Contains(page.body, `id="`+place+`" data-live="/c/jobs/live"`) && !strings.Contains(page.body, `id="`+place+`" role="status" data-live="/c/jobs/live"`) {
			t.Errorf("the page has no place for %s", place)
		}
		if !strings.Contains(page.body, strings.TrimSuffix(html, "\n")) {
			t.Errorf("%s is told other than the page has it: %s", place, html)
		}
	}
	if len(first) != 4 {
		t.Errorf("told of %d places", len(first))
	}
	admin.post("/c/tasks/1/stop", nil).leads(t, "/c/jobs?done=task.stopped")
	last := admin.events(lines, "end")
	if !strings.Contains(last["jobs-running"], "No job is running.") || strings.Contains(last["jobs-tasks"], "<button") || strings.Contains(last["jobs-collections"], "<") {
		t.Errorf("at the end it is told %q", last)
	}
	if lines.Scan() {
		t.Errorf("more comes after the end: %s", lines.Text())
	}
	// Who comes again after that is told what there is, and that this was all.
	again := bufio.NewScanner(strings.NewReader(admin.get("/c/jobs/live").body))
	admin.events(again, "end")
}

// Whoever may not look any more is told nothing more.
func TestJobsStreamEndsWithTheRight(t *testing.T) {
	v := open(t)
	admin := v.as("admin")
	v.must(v.access.AddUser(t.Context(), "test", access.NewUser{Name: "second", Password: password, Admin: true}))
	second := v.as("second")
	admin.post("/c/tasks", url.Values{"do": {"scrub"}}).leads(t, "/c/jobs?done=task.started")
	s := httptest.NewServer(v)
	defer s.Close()
	r, err := http.NewRequest(http.MethodGet, s.URL+"/c/jobs/live", nil)
	v.must(err)
	for _, c := range second.cookies {
		r.AddCookie(c)
	}
	res, err := http.DefaultClient.Do(r)
	v.must(err)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	second.events(lines, "jobs-tasks")
	second.post("/c/signout", nil)
	var rest []string
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	if lines.Err() != nil || slices.ContainsFunc(rest, func(line string) bool { return strings.HasPrefix(line, "data: ") }) {
		t.Errorf("%q, %v", rest, lines.Err())
	}
}
