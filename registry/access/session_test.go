package access

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/storage/catalog"
)

// session returns the session of an id at a time.
func (h *house) session(id string, now time.Time) (session, bool) {
	h.t.Helper()
	one, ok, err := h.sessions.find(h.t.Context(), id, now)
	h.must(err)
	return one, ok
}

func (h *house) begun(user int64) string {
	h.t.Helper()
	id, err := h.sessions.begin(h.t.Context(), user, "", time.Now())
	h.must(err)
	return id
}

func TestASessionEnds(t *testing.T) {
	h := open(t)
	now := time.Now()
	id := h.begun(7)
	if one, ok := h.session(id, now.Add(sessionAge-time.Second)); !ok || one.user != 7 {
		t.Errorf("find = %+v, %v; want that of 7, true", one, ok)
	}
	if _, ok := h.session(id, now.Add(sessionAge+time.Second)); ok {
		t.Error("found after its age")
	}
	if _, ok := h.session("", now); ok {
		t.Error("nothing is a session")
	}
	if other := h.begun(7); other == id || len(id) != 64 {
		t.Errorf("ids %q and %q; want 256 bits each and 128 that only we make, and different ones", id, other)
	}
	h.must(h.sessions.end(t.Context(), id))
	if _, ok := h.session(id, now); ok {
		t.Error("found after its end")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		first := h.begun(1)
		mine := h.begun(2)
		var last string
		for range maxUserSessions {
			time.Sleep(time.Second)
			last = h.begun(1)
		}
		for name, want := range map[string]bool{first: false, mine: true, last: true} {
			if _, ok := h.session(name, time.Now()); ok != want {
				t.Errorf("the first, another's and the last are %q, %q, %q: %q is a session: %v, want %v", first, mine, last, name, ok, want)
			}
		}
		time.Sleep(24 * time.Hour)
		h.begun(3)
		for _, id := range []string{mine, last} {
			hash, _ := h.sessions.hash(id)
			if _, err := h.db.Session(t.Context(), hash); !errors.Is(err, catalog.ErrNotFound) {
				t.Errorf("a day later there is still one that is over: %v", err)
			}
		}
	})
}

// Whoever is signed in stays so when the server starts again, and whoever has signed out, is disabled or has
// another password does not.
func TestARestartEndsNoSession(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	signedIn := func(a *Access, id string) bool {
		t.Helper()
		_, ok, err := a.SessionOf(visit("/c/", id))
		h.must(err)
		return ok
	}
	ids := map[string]string{}
	for _, name := range []string{"stays", "disabled", "changed", "out"} {
		h.must(h.AddUser(ctx, "test", NewUser{Name: name, Password: password}))
		id, err := h.SignIn(ctx, name, password, here)
		h.must(err)
		if ids[name] = id; !signedIn(h.Access, id) {
			t.Fatalf("%s is not signed in", name)
		}
	}
	h.must(h.DisableUser(ctx, "test", "disabled", true), h.SetPassword(ctx, "test", "changed", "Another-Horse-2"),
		h.SignOut(httptest.NewRecorder(), visit("/c/", ids["out"])))
	h.must(h.DisableUser(ctx, "test", "disabled", false)) // who is let in again is not signed in by that
	for _, a := range []*Access{h.Access, h.again()} {
		for name, id := range ids {
			if got, want := signedIn(a, id), name == "stays"; got != want {
				t.Errorf("%s is signed in: %v, want %v (after a restart: %v)", name, got, want, a != h.Access)
			}
		}
	}
}

func TestCookiesAreTheBrowsersSecret(t *testing.T) {
	for _, tt := range []struct {
		name   string
		secure bool
		want   string
	}{
		{"https", true, "__Host-roadstead-session=x; Path=/; Max-Age=28800; HttpOnly; Secure; SameSite=Lax"},
		{"http", false, "roadstead-session=x; Path=/; Max-Age=28800; HttpOnly; SameSite=Lax"},
	} {
		w := httptest.NewRecorder()
		c := cookies{tt.secure}
		c.write(w, sessionCookie, "x", sessionAge)
		if got := w.Header().Get("Set-Cookie"); got != tt.want {
			t.Errorf("%s: Set-Cookie: %s, want %s", tt.name, got, tt.want)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: "roadstead-session", Value: "other"})
		r.AddCookie(&http.Cookie{Name: "__Host-roadstead-session", Value: "host"})
		if got, want := c.read(r, sessionCookie), map[bool]string{true: "host", false: "other"}[tt.secure]; got != want {
			t.Errorf("%s: read %q, want %q", tt.name, got, want)
		}
	}
}
