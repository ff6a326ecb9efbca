package access

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"

	"roadstead/registry"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

// The projects of most tests: one that is private, one that is public, and the two kinds of
// proxy caches.
var projects = []Project{
	{Name: "production", Hosted: true},
	{Name: "staging", Hosted: true},
	{Name: "public", Hosted: true, Public: true},
	{Name: "docker.io", Public: true},
	{Name: "ghcr.io"},
}

const password = "Correct-Horse-1"

// house is an Access with its catalog.
type house struct {
	*Access
	t   testing.TB
	dir string
	db  *catalog.DB
}

// open opens an Access over an empty catalog, with the administrator "admin" and the projects.
func open(t testing.TB, change ...func(*Config)) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	var err error
	if h.db, err = catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(h.dir, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.db.Close() })
	h.Access = h.again(change...)
	return h
}

// again opens another Access over the same catalog and directory.
func (h *house) again(change ...func(*Config)) *Access {
	h.t.Helper()
	c := Config{Catalog: h.db, Directory: filepath.Join(h.dir, "keys"), AdminPassword: password, cost: cost{memory: 64, passes: 1, threads: 1}}
	for _, change := range change {
		change(&c)
	}
	a, err := Open(h.t.Context(), c)
	if err != nil {
		h.t.Fatal(err)
	}
	a.SetProjects(projects)
	return a
}

// must fails the test when something that has to work does not.
func (h *house) must(errs ...error) {
	h.t.Helper()
	for _, err := range errs {
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// member adds a user with a role in production; "" for none.
func (h *house) member(name string, role Role) {
	h.t.Helper()
	h.must(h.AddUser(h.t.Context(), "test", NewUser{Name: name, Password: password}))
	if role != "" {
		h.must(h.SetMember(h.t.Context(), "test", catalog.Member{Project: "production", Name: name, Role: string(role)}))
	}
}

// request is one to a path, with an Authorization header unless that is empty.
func request(path, authorization string) *http.Request {
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "registry.example.com"
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func basic(user, password string) string {
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// who identifies whoever sends an Authorization header.
func (h *house) who(authorization string) registry.Principal {
	h.t.Helper()
	p, err := h.Identify(request("/v2/", authorization))
	h.must(err)
	return p
}

// ask asks for a token, and returns the status, the answer and, if it is one, the token as an
// Authorization header.
func (h *house) ask(authorization string, scopes ...string) (*httptest.ResponseRecorder, string) {
	h.t.Helper()
	return h.askFor("", authorization, scopes...)
}

// askFor is ask with names as they are at another registry.
func (h *house) askFor(ns, authorization string, scopes ...string) (*httptest.ResponseRecorder, string) {
	h.t.Helper()
	w := httptest.NewRecorder()
	r := request("/service/token?"+url.Values{"service": {"roadstead"}, "scope": scopes, "ns": {ns}}.Encode(), authorization)
	h.Handler().ServeHTTP(w, r)
	var answer struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		h.t.Fatalf("answer %q: %v", w.Body, err)
	}
	if w.Code != http.StatusOK {
		return w, ""
	}
	return w, "Bearer " + answer.Token
}

var (
	web  = registry.Repo{Project: "production", Name: "web"}
	tool = registry.Repo{Project: "public", Name: "tool"}
)

// code is the code of an error for a client, "" for none.
func code(err error) registry.Code {
	for _, c := range []registry.Code{registry.Unauthorized, registry.Denied, registry.NameUnknown, registry.TooManyRequests, registry.Conflict, Invalid} {
		if err != nil && isCode(err, c) {
			return c
		}
	}
	if err != nil {
		return "UNKNOWN"
	}
	return ""
}

// running runs an Access until the test ends.
func (h *house) running() (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	return func() {
		cancel()
		h.must(<-ended)
	}
}
