package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"roadstead/registry"
)

// Every place and method is written down here, once more: a row that is changed or added has to
// be wanted twice.
func TestRoutes(t *testing.T) {
	want := map[kind]string{
		nothing:     "",
		ping:        "GET read, HEAD read",
		catalog:     "GET list catalog, HEAD list catalog",
		manifest:    "GET pull repository, HEAD pull repository, PUT push repository hosted audited, DELETE delete artifact hosted audited",
		manifestTag: "GET pull repository, HEAD pull repository, PUT push repository hosted audited, DELETE delete tag hosted audited",
		blob:        "GET pull repository, HEAD pull repository, DELETE delete artifact hosted audited",
		uploads:     "POST push repository hosted",
		upload:      "GET push repository hosted, HEAD push repository hosted, PUT push repository hosted, PATCH push repository hosted, DELETE push repository hosted",
		tags:        "GET list tag, HEAD list tag",
		referrers:   "GET pull repository, HEAD pull repository",
		other:       "",
	}
	if len(want) != int(places) || len(routes) != int(places) {
		t.Fatalf("%d and %d places, want %d", len(want), len(routes), places)
	}
	for place, rows := range want {
		var got []string
		for v, row := range routes[place] {
			if row.serve == nil {
				if row.action != "" {
					t.Errorf("place %d, %s: a right and nothing to do", place, methods[v])
				}
				continue
			}
			if row.action == "" || belongs(min(place, kinds)) && row.kind == "" {
				t.Errorf("place %d, %s: no right", place, methods[v])
			}
			if verb(v).writes() && !row.hosted {
				t.Errorf("place %d, %s: changes something everywhere", place, methods[v])
			}
			line := strings.TrimSuffix(fmt.Sprintf("%s %s %s", methods[v], row.action, row.kind), " ")
			if row.hosted {
				line += " hosted"
			}
			if row.audited {
				line += " audited"
			}
			got = append(got, line)
		}
		if got := strings.Join(got, ", "); got != rows {
			t.Errorf("place %d: %s\nwant %s", place, got, rows)
		}
	}
}

// spots are a path for each place about a repository of the project.
func spots(project string) map[kind]string {
	repo := "/v2/" + project + "/web"
	return map[kind]string{
		manifest: repo + "/manifests/" + someDigest, manifestTag: repo + "/manifests/1", blob: repo + "/blobs/" + someDigest,
		uploads: repo + "/blobs/uploads/", upload: repo + "/blobs/uploads/upload-1?digest=" + someDigest,
		tags: repo + "/tags/list", referrers: repo + "/referrers/" + someDigest,
	}
}

// newGate starts a server with accounts over a yard. The projects public, private and team are
// hosted.
func newGate(t testing.TB) (*running, *yard, *gate, *lines) {
	y, g, log := newYard(), &gate{}, &lines{}
	run := start(t, New(Config{
		Registry: y, Writer: y, Uploader: y, Access: g, Log: log.logger(),
		Hosted: func(project string) bool { return project == "public" || project == "private" || project == "team" },
		Route: func(_, ns, name string) (registry.Repo, error) {
			repo := registry.SplitRepo(name)
			if ns != "" {
				repo = registry.Repo{Project: ns, Name: name}
			}
			switch repo.Project {
			case "public", "private", "team", "hub":
				return repo, nil
			}
			return registry.Repo{}, &registry.Fault{Code: registry.NameUnknown, Message: "there is no project called " + repo.Project}
		},
	}))
	return run, y, g, log
}

// as is a header for ask with the credentials of a user.
func as(user string) []string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, user)
	return []string{"Authorization", r.Header.Get("Authorization")}
}

// C3, C19, D1 of the methods: every place and method, for everybody, is refused or not as the
// rights have it, and nothing that is refused asks the registry anything.
func TestC19_RouteMatrix(t *testing.T) {
	run, y, g, _ := newGate(t)
	all := append([]string{"OPTIONS", "TRACE", "PROPFIND"}, methods[:]...)
	for _, user := range []string{"", "alien", "guest", "dev", "boss", "root"} {
		for _, project := range []string{"private", "absent", "hub"} {
			for place, path := range spots(project) {
				for _, method := range all {
					v := verbOf(method)
					want := 0 // anything but a refusal
					switch row := (&Server{}).rowAt(place, v); {
					case row == nil:
						want = 405
					case user == "root" && project == "absent":
						want = 404
					case user == "root" && project == "hub" && row.hosted:
						want = 403
					case user == "root":
					case project == "hub" && !row.hosted:
					case user == "":
						want = 401
					case project == "private" && (user == "boss" || user == "dev" && row.action != registry.Delete || user == "guest" && row.action != registry.Push && row.action != registry.Delete):
					case row.action == registry.Pull || row.action == registry.List:
						want = 404
					default:
						want = 403
					}
					var header []string
					if user != "" {
						header = as(user)
					}
					y.questions()
					before := y.changes()
					resp, body := run.ask(t, method, path, header...)
					what := fmt.Sprintf("%q: %s %s", user, method, path)
					if want == 0 {
						if resp.StatusCode == 400 && method == "PUT" && place != upload {
							continue // a manifest that is none
						}
						if resp.StatusCode == 401 || resp.StatusCode == 403 || resp.StatusCode == 405 || len(y.questions()) == 0 && y.changes() == before {
							t.Errorf("%s: %s", what, resp.Status)
						}
						continue
					}
					if resp.StatusCode != want {
						t.Errorf("%s: %s, want %d", what, resp.Status, want)
					}
					if asked := y.questions(); len(asked) != 0 || y.changes() != before {
						t.Errorf("%s asked %q", what, asked)
					}
					if method != "HEAD" {
						checkError(t, resp, body, "")
					}
					if (resp.Header.Get("WWW-Authenticate") != "") != (want == 401) {
						t.Errorf("%s: %s, WWW-Authenticate %q", what, resp.Status, resp.Header.Get("WWW-Authenticate"))
					}
				}
			}
		}
	}
	g.records()
}

// rowAt is the row of a place by itself.
func (*Server) rowAt(place kind, v verb) *route {
	if v == verbs || routes[place][v].serve == nil {
		return nil
	}
	return &routes[place][v]
}

func TestAllow(t *testing.T) {
	run, _, _, _ := newGate(t)
	want := map[kind]string{
		manifest: "GET, HEAD, PUT, DELETE", manifestTag: "GET, HEAD, PUT, DELETE", blob: "GET, HEAD, DELETE",
		uploads: "POST", upload: "GET, HEAD, PUT, PATCH, DELETE", tags: "GET, HEAD", referrers: "GET, HEAD",
	}
	for place, path := range spots("private") {
		if resp, _ := run.ask(t, "OPTIONS", path); resp.StatusCode != 405 || resp.Header.Get("Allow") != want[place] {
			t.Errorf("%s: %s, Allow %q, want %q", path, resp.Status, resp.Header.Get("Allow"), want[place])
		}
	}
}

// Nobody can tell a private project from one that is not there: not by status, header or body.
func TestPrivateLooksLikeAbsent(t *testing.T) {
	run, y, _, _ := newGate(t)
	y.tag("private/web", "1", []byte(`{}`))
	y.put("private/web", layer)
	form := func(resp *http.Response, body []byte, project string) string {
		resp.Header.Del("Date")
		return strings.ReplaceAll(fmt.Sprintln(resp.Status, resp.Header, string(body)), project, "PROJECT")
	}
	for _, user := range []string{"", "alien", "wrong"} {
		header := []string{"If-None-Match", "*", "Range", "bytes=900000-"}
		switch user {
		case "alien":
			header = append(header, as(user)...)
		case "wrong":
			header = append(header, "Authorization", "Basic eDp5")
		}
		for place, path := range spots("private") {
			for _, method := range methods {
				there, body := run.ask(t, method, path, header...)
				one := form(there, body, "private")
				gone, body := run.ask(t, method, spots("absent")[place], header...)
				if two := form(gone, body, "absent"); one != two {
					t.Errorf("%q: %s %s:\n%s\n%s", user, method, path, one, two)
				}
			}
		}
		for _, rest := range []string{"/manifests/1", "/tags/list", "/web/manifests/1?ns=%s"} {
			one, two := "/v2/private"+rest, "/v2/absent"+rest
			if strings.Contains(rest, "%s") {
				one, two = fmt.Sprintf("/v2/team"+rest, "private"), fmt.Sprintf("/v2/team"+rest, "absent")
			}
			there, body := run.ask(t, "GET", one, header...)
			want := form(there, body, "private")
			gone, body := run.ask(t, "GET", two, header...)
			if got := form(gone, body, "absent"); got != want {
				t.Errorf("%q: %s:\n%s\n%s", user, one, want, got)
			}
		}
	}
}

// Who may be told that no project stands for a registry is told at once, whatever credentials there are; what
// is there is not told of, nor what is named without ns.
func TestARegistryThatNoProjectStandsFor(t *testing.T) {
	run, y, g, _ := newGate(t)
	y.tag("private/web", "1", []byte(`{}`))
	g.told = true
	for _, header := range [][]string{nil, {"Authorization", "Basic eDp5"}, as("alien")} {
		for _, method := range []string{"GET", "HEAD", "PUT"} {
			resp, body := run.ask(t, method, "/v2/team/web/manifests/1?ns=absent", header...)
			if resp.StatusCode != 404 || method != "HEAD" && !strings.Contains(string(body), "there is no project called absent") {
				t.Errorf("%s as %q: %s %s", method, header, resp.Status, body)
			}
		}
	}
	for _, path := range []string{"/v2/web/manifests/1?ns=private", "/v2/absent/web/manifests/1", "/v2/absent/web/manifests/1?ns="} {
		if resp, body := run.ask(t, "GET", path); resp.StatusCode != 401 {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

func TestC17_ChecksBeforeConditionsAndRanges(t *testing.T) {
	run, y, _, _ := newGate(t)
	d := y.put("private/web", layer)
	etag := `"` + string(d) + `"`
	for _, header := range [][]string{{"If-None-Match", etag}, {"If-Match", `"x"`}, {"Range", "bytes=5000-"}, {"Range", "bytes=0-1"}} {
		if resp, _ := run.ask(t, "GET", "/v2/private/web/blobs/"+string(d), header...); resp.StatusCode != 401 {
			t.Errorf("%q: %s", header, resp.Status)
		}
		if resp, _ := run.ask(t, "GET", "/v2/private/web/blobs/"+string(d), append(header, as("alien")...)...); resp.StatusCode != 404 {
			t.Errorf("%q as a stranger: %s", header, resp.Status)
		}
		if resp, _ := run.ask(t, "GET", "/v2/private/web/blobs/"+string(d), append(header, as("guest")...)...); resp.StatusCode/100 == 4 && resp.StatusCode < 412 {
			t.Errorf("%q as a guest: %s", header, resp.Status)
		}
	}
}

func TestChallenge(t *testing.T) {
	run, _, g, _ := newGate(t)
	const repo = "/v2/private/web"
	tests := []struct{ name, method, path, scope string }{
		{"ping", "GET", "/v2/", ""},
		{"catalog", "GET", "/v2/_catalog", "registry:catalog:*"},
		{"pull", "GET", repo + "/manifests/1", "repository:private/web:pull"},
		{"list", "GET", repo + "/tags/list", "repository:private/web:pull"},
		{"push", "PUT", repo + "/manifests/1", "repository:private/web:pull,push"},
		{"upload", "POST", repo + "/blobs/uploads/", "repository:private/web:pull,push"},
		{"mount", "POST", repo + "/blobs/uploads/?mount=" + someDigest + "&from=team/base", "repository:private/web:pull,push repository:team/base:pull"},
		{"mount from nonsense", "POST", repo + "/blobs/uploads/?mount=" + someDigest + "&from=A%22", "repository:private/web:pull,push"},
		{"deletion of a tag", "DELETE", repo + "/manifests/1", "repository:private/web:delete"},
		{"deletion", "DELETE", repo + "/blobs/" + someDigest, "repository:private/web:delete"},
		{"canonical name", "GET", "/v2/web/manifests/1?ns=private", "repository:private/web:pull"},
		{"project alone", "GET", "/v2/private/manifests/1", "repository:private:pull"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// C18: nobody in front is believed.
			resp, _ := run.ask(t, test.method, test.path, "X-Forwarded-For", "10.0.0.1", "X-Forwarded-User", "root", "X-Webauth-User", "root")
			want := `Bearer realm="https://x/service/token",service="x",scope="` + test.scope + `"`
			if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || got != want {
				t.Errorf("%s %q, want %q", resp.Status, got, want)
			}
		})
	}
	if resp, body := run.ask(t, "GET", "/v2/", as("alien")...); resp.StatusCode != 200 || string(body) != "{}" {
		t.Errorf("login: %s %s", resp.Status, body)
	}
	g.busy = &registry.Fault{Code: registry.TooManyRequests, RetryAfter: 30e9}
	if resp, _ := run.ask(t, "GET", "/v2/"); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "30" {
		t.Errorf("too many: %s", resp.Status)
	}
	if records := g.records(); len(records) != 0 {
		t.Errorf("a question for credentials is in the audit log: %q", records)
	}
}

func TestC6_CatalogShowsWhatMayBePulled(t *testing.T) {
	run, y, g, _ := newGate(t)
	g.open = true
	for i := range 30 {
		y.put(fmt.Sprintf("private/r%02d", i), nil)
		y.put(fmt.Sprintf("public/r%02d", i), nil)
		y.put(fmt.Sprintf("hub/r%02d", i), nil)
	}
	for _, path := range []string{"/v2/_catalog", "//v2//_catalog/", "/v2/_catalog?last=private/r02&n=1000"} {
		if _, body := run.ask(t, "GET", path); strings.Contains(string(body), "private") || !strings.Contains(string(body), "public/r29") {
			t.Errorf("%s: %s", path, body)
		}
	}
	for user, want := range map[string]int{"": 60, "root": 90} {
		var header []string
		if user != "" {
			header = as(user)
		}
		n, pages := 0, 0
		for path := "/v2/_catalog?n=20"; path != ""; pages++ {
			resp, body := run.ask(t, "GET", path, header...)
			size := strings.Count(string(body), "/r")
			n += size
			path, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
			if path != "" && size != 20 || strings.Contains(path, "private") && user == "" {
				t.Errorf("%q: a page of %d, then %s", user, size, path)
			}
		}
		if n != want || pages != (want+19)/20 {
			t.Errorf("%q: %d names on %d pages, want %d", user, n, pages, want)
		}
	}
}

func TestB6_ProxyProjectRefusesEveryWrite(t *testing.T) {
	run, y, g, _ := newGate(t)
	for place, path := range spots("hub") {
		for v, row := range routes[place] {
			if !row.hosted {
				continue
			}
			resp, body := run.ask(t, methods[v], path, as("root")...)
			if resp.StatusCode != 403 || methods[v] != "HEAD" && !strings.Contains(string(body), "project hub is a proxy cache") {
				t.Errorf("%s %s: %s %s", methods[v], path, resp.Status, body)
			}
		}
	}
	if y.changes() != 0 || len(y.questions()) != 0 {
		t.Error("the registry was asked")
	}
	g.records()

	// Without accounts nobody writes to a hosted project either.
	bare := start(t, New(Config{Registry: y, Writer: y, Uploader: y, Hosted: func(string) bool { return true }}))
	for place, path := range spots("private") {
		for v, row := range routes[place] {
			if row.hosted {
				if resp, _ := bare.ask(t, methods[v], path); resp.StatusCode != 403 {
					t.Errorf("without accounts: %s %s: %s", methods[v], path, resp.Status)
				}
			}
		}
	}
	if y.changes() != 0 {
		t.Error("without accounts the registry was written to")
	}
}

func TestAudit(t *testing.T) {
	run, y, g, log := newGate(t)
	d := y.tag("private/web", "1", []byte(`{}`))
	b := y.put("private/web", layer)
	const repo = "/v2/private/web"
	tests := []struct {
		name, user, method, path string
		want                     []string
	}{
		{"pull", "dev", "GET", repo + "/manifests/1", nil},
		{"push that fails", "dev", "PUT", repo + "/manifests/1", []string{"dev push repository private/web 1 failed"}},
		{"upload", "dev", "POST", repo + "/blobs/uploads/", nil},
		{"deletion that is refused", "dev", "DELETE", repo + "/manifests/1", []string{"dev delete tag private/web 1 refused"}},
		{"push that is refused", "guest", "POST", repo + "/blobs/uploads/", []string{"guest push repository private/web  refused"}},
		{"push to nowhere", "alien", "PUT", "/v2/absent/x/manifests/1", []string{"alien push repository absent/x 1 refused"}},
		{"deletion of a tag", "boss", "DELETE", repo + "/manifests/1", []string{"boss delete tag private/web 1 done"}},
		{"deletion of a manifest", "boss", "DELETE", repo + "/manifests/" + string(d), []string{"boss delete artifact private/web " + string(d) + " done"}},
		{"deletion of a blob", "boss", "DELETE", repo + "/blobs/" + string(b), []string{"boss delete artifact private/web " + string(b) + " done"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run.ask(t, test.method, test.path, as(test.user)...)
			if got := g.records(); fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
			if line := log.next(t); line["user"] != test.user {
				t.Errorf("logged %v", line)
			}
		})
	}
	run.ask(t, "GET", "/v2/", as("a\x1b[2J\n")...)
	if line := log.next(t); line["user"] != "a?[2J?" {
		t.Errorf("logged %v", line)
	}
}
