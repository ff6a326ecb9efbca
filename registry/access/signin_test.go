package access

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

const here = "192.0.2.7:1234"

// visit is a request of a browser with a session.
func visit(path, id string) *http.Request {
	r := request(path, "")
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: id})
	return r
}

func TestSignInByPassword(t *testing.T) {
	h := open(t)
	h.member("dora", Developer)
	id, err := h.SignIn(t.Context(), "dora", password, here)
	h.must(err)
	s, ok, _ := h.SessionOf(visit("/console/", id))
	if !ok || s.Principal.Name() != "dora" || time.Until(s.Until) > sessionAge || time.Until(s.Until) < sessionAge-time.Minute {
		t.Fatalf("session %+v, %v", s, ok)
	}
	action, resource := push(web)
	h.must(h.Authorize(s.Principal, action, resource))
	if name, u, admin, robot := h.Describe(s.Principal); name != "dora" || u == nil || u.Name != "dora" || admin || robot {
		t.Errorf("described as %q, %+v, %v, %v", name, u, admin, robot)
	}
	entries := h.entries()
	if e := entries[len(entries)-1]; e.Actor != "dora" || e.Action != login || e.Remote != here || e.Outcome != registry.Done || e.Detail != "by password" {
		t.Errorf("recorded %+v", e)
	}
	if u, err := h.UserByID(t.Context(), h.now.Load().named["dora"].ID); err != nil || u.LastLogin.IsZero() {
		t.Errorf("the login is not noted: %+v, %v", u, err)
	}

	other, err := h.SignIn(t.Context(), "dora", password, here)
	h.must(err)
	w := httptest.NewRecorder()
	h.SignOut(w, visit("/console/", id))
	if _, ok, _ := h.SessionOf(visit("/console/", id)); ok {
		t.Error("the session goes on after its end")
	}
	if got := w.Header().Get("Set-Cookie"); !strings.HasPrefix(got, sessionCookie+"=; Path=/; Max-Age=0; HttpOnly") {
		t.Errorf("Set-Cookie %q, want the session removed", got)
	}
	if _, ok, _ := h.SessionOf(visit("/console/", other)); !ok {
		t.Error("the other session has ended with it")
	}
}

// Whatever is wrong looks alike, and a robot or a secret for docker login begins no session.
func TestSignInRefuses(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.member("dora", "")
	h.member("dan", "")
	h.must(h.DisableUser(ctx, "test", "dan", true))
	h.must(h.change(ctx, deed{kind: Users, name: "olga"}, func(tx *catalog.Tx) error {
		_, err := tx.AddUser(catalog.User{Name: "olga"}, "")
		if err == nil {
			err = tx.SetSecret("olga", sumOf("Secret-of-Olga-1"))
		}
		return err
	}))
	if got := code(h.Login(h.who(basic("olga", "Secret-of-Olga-1")))); got != "" {
		t.Fatalf("olga cannot log in at all: %q", got)
	}
	robot := h.robot("production", "ci", "pull")
	said := map[string]bool{}
	for name, pair := range map[string][2]string{
		"nobody":             {"eve", password},
		"a wrong password":   {"dora", "Wrong-Horse-1"},
		"no password":        {"dora", ""},
		"disabled":           {"dan", password},
		"a robot":            {"robot$production+ci", robot},
		"for docker login":   {"olga", "Secret-of-Olga-1"},
		"an endless name":    {strings.Repeat("a", 300), password},
		"an endless one":     {"dora", strings.Repeat("a", 300)},
		"a name of no user":  {"dora\n", password},
		"a name of a header": {"", password},
	} {
		id, err := h.SignIn(ctx, pair[0], pair[1], here)
		if code(err) != registry.Unauthorized || id != "" {
			t.Errorf("%s: %q, %v; want Unauthorized", name, id, err)
		} else {
			said[err.Error()] = true
		}
	}
	if len(said) != 1 {
		t.Errorf("what is wrong is told: %v", said)
	}
	stop := h.running()
	stop()
	failed := 0
	for _, e := range h.entries() {
		if e.Action == login && e.Outcome == registry.Refused && e.Remote == here {
			failed++
		}
	}
	if failed != 4 {
		t.Errorf("%d failures are in the audit log, want one for each that was looked at: 4", failed)
	}
}

// Signing in is limited together with the logins of each request.
func TestC5_SigningInIsLimited(t *testing.T) {
	h := open(t)
	h.member("dora", "")
	for i := range 5 {
		r := request("/v2/", basic("dora", "Guess-1-"+strings.Repeat("x", i)))
		r.RemoteAddr = here
		h.must(func() error { _, err := h.Identify(r); return err }())
	}
	var last registry.Code
	for i := range 6 {
		_, err := h.SignIn(t.Context(), "dora", "Guess-2-"+strings.Repeat("x", i), here)
		last = code(err)
	}
	if last != registry.TooManyRequests {
		t.Errorf("the eleventh guess: %q, want TooManyRequests", last)
	}
	if _, err := h.SignIn(t.Context(), "dora", password, here); code(err) != registry.TooManyRequests {
		t.Errorf("the right one after that: %v, want TooManyRequests", err)
	}
	if _, err := h.SignIn(t.Context(), "dora", password, "198.51.100.1:1"); err != nil {
		t.Errorf("from another address: %v", err)
	}
}

// A session ends with what it stands on, and does not come back when that does (FAULTS C14).
func TestC14_SessionsEnd(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.must(h.AddUser(ctx, "test", NewUser{Name: "root", Password: password, Admin: true}))
	for _, test := range []struct {
		name string
		do   func(id int64) error
		ends bool
	}{
		{"disabled and enabled", func(id int64) error {
			h.must(h.DisableUser(ctx, "test", "dora", true))
			return h.DisableUser(ctx, "test", "dora", false)
		}, true},
		{"its own new password", func(id int64) error { return h.ChangePassword(ctx, id, password, "Second-Horse-2", here) }, true},
		{"an administrator's new password", func(id int64) error { return h.ResetPassword(ctx, "test", id, "Second-Horse-2") }, true},
		{"the same password again", func(id int64) error { return h.ResetPassword(ctx, "test", id, password) }, true},
		{"deleted and added", func(id int64) error {
			h.must(h.DeleteUserByID(ctx, "test", id))
			return h.AddUser(ctx, "test", NewUser{Name: "dora", Password: password})
		}, true},
		{"by another process", func(id int64) error {
			h.must(h.again().DisableUser(ctx, "test", "dora", true))
			h.refresh(ctx) // as Run does
			h.must(h.again().DisableUser(ctx, "test", "dora", false))
			h.refresh(ctx)
			return nil
		}, true},
		{"another address", func(id int64) error {
			return h.SetProfile(ctx, "test", id, func(p *catalog.Profile) { p.Email = "d@example.com" })
		}, false},
		{"another role", func(id int64) error {
			return h.SetMember(ctx, "test", catalog.Member{Project: "production", Name: "dora", Role: string(Guest)})
		}, false},
	} {
		h.must(h.AddUser(ctx, "test", NewUser{Name: "dora", Password: password}))
		id, err := h.SignIn(ctx, "dora", password, here)
		h.must(err)
		bystander, err := h.SignIn(ctx, "root", password, here)
		h.must(err)
		s, ok, _ := h.SessionOf(visit("/console/", id))
		if !ok {
			t.Fatalf("%s: no session", test.name)
		}
		_, dora, _, _ := h.Describe(s.Principal)
		h.must(test.do(dora.ID))
		if _, ok, _ := h.SessionOf(visit("/console/", id)); ok == test.ends {
			t.Errorf("%s: the session goes on: %v", test.name, ok)
		}
		if _, ok, _ := h.SessionOf(visit("/console/", bystander)); !ok {
			t.Errorf("%s: the session of another has ended", test.name)
		}
		h.must(h.DeleteUser(ctx, "test", "dora"))
	}
}

// The cookie of a session belongs to pages and to the REST API, over https under a name that no
// other host sets; the registry API and the token service do not read it (FAULTS C7).
func TestC7_WhereACookieIsRead(t *testing.T) {
	h := open(t)
	id, err := h.SignIn(t.Context(), "admin", password, here)
	h.must(err)
	for path, want := range map[string]bool{
		"/": true, "/console/projects": true, "/api/v2.0/projects": true, "/api/roadstead/v1/flights": true, "/c/oidc/": true, "/v2x": true,
		"/v2": false, "/v2/": false, "/v2/production/web/manifests/v1": false, "/service/token": false,
	} {
		if _, ok, _ := h.SessionOf(visit(path, id)); ok != want {
			t.Errorf("a session at %s: %v, want %v", path, ok, want)
		}
		p, byCookie, err := h.Caller(visit(path, id))
		if err != nil || byCookie != want || (p.Name() == "admin") != want {
			t.Errorf("the caller of %s: %q, %v, %v; want it by cookie: %v", path, p.Name(), byCookie, err, want)
		}
	}
	secure := open(t, func(c *Config) { c.URL = "https://registry.example.com" })
	id, err = secure.SignIn(t.Context(), "admin", password, here)
	h.must(err)
	w, r := httptest.NewRecorder(), visit("/console/", "planted")
	r.AddCookie(&http.Cookie{Name: "__Host-" + sessionCookie, Value: "before"})
	secure.KeepSession(w, r, id)
	if got, want := w.Header().Get("Set-Cookie"), "__Host-"+sessionCookie+"="+id+"; Path=/; Max-Age=28800; HttpOnly; Secure; SameSite=Lax"; got != want {
		t.Errorf("Set-Cookie: %s, want %s", got, want)
	}
	if _, ok, _ := secure.SessionOf(visit("/console/", id)); ok {
		t.Error("over https a session is read from a name that any host sets")
	}
}

// An id that was known before somebody signed in is worth nothing after.
func TestTheSessionBeforeEnds(t *testing.T) {
	h := open(t)
	old, err := h.SignIn(t.Context(), "admin", password, here)
	h.must(err)
	id, err := h.SignIn(t.Context(), "admin", password, here)
	h.must(err)
	h.KeepSession(httptest.NewRecorder(), visit("/console/", old), id)
	if _, ok, _ := h.SessionOf(visit("/console/", old)); ok {
		t.Error("the session before goes on")
	}
	if _, ok, _ := h.SessionOf(visit("/console/", id)); !ok {
		t.Error("the new session has ended")
	}
}

func TestCallers(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.member("dora", Developer)
	h.must(h.change(ctx, deed{kind: Users, name: "olga"}, func(tx *catalog.Tx) error {
		_, err := tx.AddUser(catalog.User{Name: "olga", Groups: []string{"dev"}}, "")
		if err == nil {
			err = tx.SetSecret("olga", sumOf("Secret-of-Olga-1"))
		}
		return err
	}))
	secret := h.robot("production", "ci", "pull")
	_, token := h.ask(basic("dora", password), "repository:production/web:pull")
	id, err := h.SignIn(ctx, "admin", password, here)
	h.must(err)
	for _, test := range []struct {
		name, authorization string
		cookie              string
		want                string // its name
		user, admin, robot  bool
		byCookie            bool
		code                registry.Code
	}{
		{name: "anybody"},
		{name: "a user", authorization: basic("dora", password), want: "dora", user: true},
		{name: "an administrator", authorization: basic("admin", password), want: "admin", user: true, admin: true},
		{name: "a secret for docker login", authorization: basic("olga", "Secret-of-Olga-1"), want: "olga", user: true},
		{name: "a robot", authorization: basic("robot$production+ci", secret), want: "robot$production+ci", robot: true},
		{name: "a browser", cookie: id, want: "admin", user: true, admin: true, byCookie: true},
		{name: "a browser whose session is none", cookie: "nonsense"},
		{name: "Basic beside a cookie", authorization: basic("dora", password), cookie: id, want: "dora", user: true},
		{name: "a wrong password beside a cookie", authorization: basic("dora", "Wrong-Horse-1"), cookie: id, code: registry.Unauthorized},
		{name: "a wrong secret of a robot", authorization: basic("robot$production+ci", "Wrong-Horse-1"), code: registry.Unauthorized},
		{name: "a token", authorization: token, code: registry.Unauthorized},
		{name: "a token that is none", authorization: "Bearer nonsense", code: registry.Unauthorized},
		{name: "another scheme", authorization: "Negotiate x", code: registry.Unauthorized},
	} {
		r := request("/api/v2.0/users/current", test.authorization)
		if test.cookie != "" {
			r.AddCookie(&http.Cookie{Name: sessionCookie, Value: test.cookie})
		}
		p, byCookie, err := h.Caller(r)
		if code(err) != test.code || byCookie != test.byCookie || p == nil {
			t.Errorf("%s: %v, %v, %v", test.name, p, byCookie, err)
			continue
		}
		name, u, admin, robot := h.Describe(p)
		if name != test.want || (u != nil) != test.user || u != nil && u.Name != test.want || admin != test.admin || robot != test.robot {
			t.Errorf("%s: described as %q, %+v, %v, %v", test.name, name, u, admin, robot)
		}
	}
	p, _, err := h.Caller(request("/api/v2.0/projects", basic("dora", password)))
	h.must(err, h.DisableUser(ctx, "test", "dora", true))
	if name, u, _, _ := h.Describe(p); name != "" || u != nil {
		t.Errorf("who is disabled is described as %q, %+v", name, u)
	}
	var last error
	for i := range 12 {
		_, _, last = h.Caller(request("/api/v2.0/projects", basic("eve", "Guess-1-"+strings.Repeat("x", i))))
	}
	if code(last) != registry.TooManyRequests {
		t.Errorf("the twelfth guess: %v, want TooManyRequests", last)
	}
}

// A login at the provider begins the same session as a password does.
func TestBothLoginsAreOneSession(t *testing.T) {
	t.Parallel()
	p := moor(t)
	b := p.browser()
	b.login(p.URL, "/console/projects?page=2", "grace", "compiler") // an administrator, by a group
	if last := b.trail[len(b.trail)-1]; last != p.URL+"/console/projects?page=2" {
		t.Errorf("the login led to %s", last)
	}
	s, ok, _ := p.SessionOf(visit("/console/", b.cookie(p.URL, sessionCookie)))
	if !ok || s.Principal.Name() != "grace" {
		t.Fatalf("session %+v, %v", s, ok)
	}
	if _, u, admin, _ := p.Describe(s.Principal); u == nil || !admin {
		t.Errorf("described as %+v, %v", u, admin)
	}
	p.must(p.DisableUser(t.Context(), "test", "grace", true), p.DisableUser(t.Context(), "test", "grace", false))
	if _, ok, _ := p.SessionOf(visit("/console/", b.cookie(p.URL, sessionCookie))); ok {
		t.Error("the session goes on after its user was disabled")
	}

	// Whoever has a password has no page of an account at the provider, and makes no secret there.
	id, err := p.SignIn(t.Context(), "admin", password, here)
	p.must(err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+home+"secret", nil)
	p.must(err)
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: id})
	answer, err := p.Client().Do(r)
	p.must(err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a user with a password makes a secret: %s, want 401", answer.Status)
	}
}
