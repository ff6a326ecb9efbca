package console

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// principal is who gives a name and the password.
func (v *town) principal(name string) registry.Principal {
	v.t.Helper()
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	v.must(err)
	r.SetBasicAuth(name, password)
	p, err := v.access.Identify(r)
	v.must(err)
	return p
}

func newRobotOf(project string) catalog.Robot {
	return catalog.Robot{Project: project, Name: "ci", Permissions: []catalog.Permission{{Project: project, Access: []catalog.Access{{Kind: registry.Repository, Action: registry.Pull}}}}}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasSuffix(e.Name(), "_test.go") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whatever others write is text on our pages, and never a part of them (FAULTS C8).
func TestTextOfOthersStaysText(t *testing.T) {
	v := open(t)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}`
	repo := registry.Repo{Project: "shop", Name: "app"}
	quoted := strings.ReplaceAll(evil, `"`, `\"`)
	v.image(repo, "v1",
		`{"os":"`+quoted+`","architecture":"amd64","author":"`+quoted+`","config":{"Env":["`+quoted+`"],"Labels":{"`+quoted+`":"`+quoted+`"},"User":"`+quoted+`"},"history":[{"created_by":"`+quoted+`","comment":"`+quoted+`"}]}`,
		`{"`+quoted+`":"`+quoted+`","org.opencontainers.image.url":"javascript:alert(1)","a":"data:text/html,<script>alert(1)</script>","b":"https://user@evil.example/","c":"https://good.example/a?b=c"}`)
	robot := newRobotOf("shop")
	robot.Description = evil
	_, _, err := v.access.AddRobot(t.Context(), "test", robot)
	v.must(err, v.db.Durable(t.Context(), func(tx *catalog.Tx) error {
		_, err := tx.AddRegistry(catalog.Registry{Name: evil, Kind: "quay", URL: "https://evil.example/" + evil, Description: evil, Username: evil})
		return errors.Join(err, tx.SetDescription(repo, evil),
			tx.PutMember(catalog.Member{Project: "shop", Group: true, Name: evil, Role: "guest"}),
			tx.AddAudit(catalog.Entry{At: time.Now(), Actor: evil, Action: "create", Kind: "project", Resource: evil, Reference: evil, Remote: evil, Outcome: registry.Done, Detail: evil}))
	}))
	b := v.as("admin")
	for _, path := range []string{
		"/c/", "/c/registries", "/c/registries/3", "/c/registries/3/delete", "/c/projects/new", "/c/projects/shop", "/c/projects/shop/members", "/c/projects/shop/robots",
		"/c/repositories/shop/app", "/c/artifacts/shop/app?ref=v1", "/c/audit",
		"/c/search?q=" + url.QueryEscape(evil), "/c/projects?q=" + url.QueryEscape(evil), "/c/audit?actor=" + url.QueryEscape(evil), "/c/users?q=" + url.QueryEscape(evil),
		"/c/repositories/shop/app?q=" + url.QueryEscape(evil), "/c/?done=" + url.QueryEscape(evil), "/c/remove/shop/app?ref=" + url.QueryEscape(evil),
		"/c/signin?next=" + url.QueryEscape(evil), "/c/artifacts/shop/app?ref=" + url.QueryEscape(evil),
	} {
		p := b.get(path)
		if p.status >= 500 {
			t.Errorf("%s: status %d", path, p.status)
		}
		for _, bad := range []string{"<script>alert", "<img src=x", "href=\"javascript:", "href=\"data:", "href=\"https://user@"} {
			if strings.Contains(p.body, bad) {
				t.Errorf("%s has %q in it", path, bad)
			}
		}
	}
	b.get("/c/artifacts/shop/app?ref=v1").has(t, http.StatusOK, `<a href="https://good.example/a?b=c" rel="noreferrer noopener nofollow">`, "&lt;script&gt;alert(1)")
	b.post("/c/registries", url.Values{"name": {evil}, "url": {evil}, "kind": {evil}}).has(t, http.StatusUnprocessableEntity, "&lt;script&gt;")
	v.as("").post("/c/signin", url.Values{"username": {evil}, "password": {"x"}}).has(t, http.StatusUnauthorized, "&lt;script&gt;")
}

// A form that another site has a browser send changes nothing (FAULTS C7).
func TestOtherSitesChangeNothing(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	for _, headers := range []map[string]string{
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
	} {
		b.headers = headers
		for _, path := range []string{"/c/registries", "/c/projects", "/c/signout", "/c/users", "/c/registries/1/delete", "/c/projects/shop/robots", "/c/signin", "/c/language", "/c/remove/shop/app"} {
			b.post(path, url.Values{"name": {"evil"}, "url": {"https://evil.example"}, "kind": {"quay"}}).has(t, http.StatusForbidden)
		}
	}
	b.headers = nil
	b.get("/c/projects").has(t, http.StatusOK)
	if _, err := v.estate.Registry(t.Context(), v.principal("admin"), 3); err == nil {
		t.Error("another site has made a registry")
	}
	// No page changes anything by being looked at.
	for pattern := range v.inside() {
		method, path, _ := strings.Cut(pattern, " ")
		if method != "GET" && method != "POST" {
			t.Errorf("%s %s: pages are GET and changes POST", method, path)
		}
	}
}

func TestNobodyIsSentElsewhere(t *testing.T) {
	for _, tt := range []struct{ next, want string }{
		{"", "/c/"},
		{"/c/projects?q=a&page=2", "/c/projects?q=a&page=2"},
		{"https://evil.example/c/", "/c/"},
		{"//evil.example/c/", "/c/"},
		{"/c//evil.example", "/c/"},
		{"/\\evil.example", "/c/"},
		{"/c/\\evil.example", "/c/"},
		{"/c/\n//evil.example", "/c/"},
		{"/v2/", "/c/"},
		{"/api/v2.0/users", "/c/"},
		{"javascript:alert(1)", "/c/"},
		{"c/projects", "/c/"},
		{"/c", "/c/"},
		{"http:/c/", "/c/"},
		{"/c/oidc/", "/c/oidc/"},
	} {
		if got := local(tt.next); got != tt.want {
			t.Errorf("local(%q) = %q, want %q", tt.next, got, tt.want)
		}
	}
	v := open(t)
	v.as("").post("/c/signin", url.Values{"username": {"gina"}, "password": {password}, "next": {"https://evil.example"}}).leads(t, "/c/")
	v.as("").post("/c/signin", url.Values{"username": {"gina"}, "password": {password}, "next": {"/c/projects/shop"}}).leads(t, "/c/projects/shop")
	v.as("gina").get("/c/signin?next=//evil.example").leads(t, "/c/")
}

// The console answers below /c/ and, to browsers, at the root; what belongs to APIs is never its.
func TestWants(t *testing.T) {
	for _, tt := range []struct {
		method, path, accept string
		want                 bool
	}{
		{"GET", "/", "text/html,application/xhtml+xml", true},
		{"GET", "/", "*/*", false},
		{"GET", "/", "", false},
		{"POST", "/", "text/html", false},
		{"GET", "/c", "", true},
		{"GET", "/c/", "", true},
		{"POST", "/c/projects", "", true},
		{"GET", "/c/oidc/login", "text/html", false},
		{"GET", "/c/oidc", "text/html", false},
		{"GET", "/v2/", "text/html", false},
		{"GET", "/v2/c/manifests/latest", "text/html", false},
		{"GET", "/api/v2.0/projects", "text/html", false},
		{"GET", "/service/token", "text/html", false},
		{"GET", "/else", "text/html", false},
		{"GET", "/cc/", "text/html", false},
	} {
		r, _ := http.NewRequest(tt.method, tt.path, nil)
		r.Header.Set("Accept", tt.accept)
		if got := Wants(r); got != tt.want {
			t.Errorf("Wants(%s %s, %q) = %v", tt.method, tt.path, tt.accept, got)
		}
	}
	v := open(t)
	if p := v.as("").get("/"); p.status != http.StatusFound || p.header.Get("Location") != "/c/" {
		t.Errorf("/ answers %d to %q", p.status, p.header.Get("Location"))
	}
}

func TestSigningInAndOut(t *testing.T) {
	v := open(t)
	b := v.as("")
	b.get("/c/signin").has(t, http.StatusOK, `name="password"`)
	for _, form := range []url.Values{{"username": {"gina"}, "password": {"wrong"}}, {"username": {"who"}, "password": {password}}, {}} {
		b.post("/c/signin", form).has(t, http.StatusUnauthorized, "wrong, or the account is disabled", `role="alert"`)
	}
	b = v.as("gina")
	b.get("/c/").has(t, http.StatusOK, "gina")
	b.post("/c/signout", nil).leads(t, "/c/signin")
	b.get("/c/projects").leads(t, "/c/signin?next=%2Fc%2Fprojects")
	b = v.as("gina")
	users, err := v.access.Users(t.Context())
	v.must(err, v.access.DisableUser(t.Context(), "admin", users[1].Name, true))
	b.get("/c/").leads(t, "/c/signin") // at once (FAULTS C14)
}
