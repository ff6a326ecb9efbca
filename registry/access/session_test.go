package access

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// aloneSessions are sessions of a node alone, none of whose methods can fail.
type aloneSessions struct{ sessions }

func (s *aloneSessions) begin(user int64, password string, now time.Time) string {
	id, _ := s.sessions.begin(context.Background(), user, password, now)
	return id
}

func (s *aloneSessions) find(id string, now time.Time) (session, bool) {
	one, ok, _ := s.sessions.find(context.Background(), id, now)
	return one, ok
}

func TestASessionEnds(t *testing.T) {
	var s aloneSessions
	now := time.Now()
	id := s.begin(7, "", now)
	if one, ok := s.find(id, now.Add(sessionAge-time.Second)); !ok || one.user != 7 {
		t.Errorf("find = %+v, %v; want that of 7, true", one, ok)
	}
	if _, ok := s.find(id, now.Add(sessionAge)); ok {
		t.Error("found after its age")
	}
	if _, ok := s.find("", now); ok {
		t.Error("nothing is a session")
	}
	if other := s.begin(7, "", now); other == id || len(id) != 43 {
		t.Errorf("ids %q and %q; want 256 bits each, and different ones", id, other)
	}
	s.end(t.Context(), id)
	if _, ok := s.find(id, now); ok {
		t.Error("found after its end")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	var s aloneSessions
	now := time.Now()
	first := s.begin(1, "", now)
	mine := s.begin(2, "", now)
	for i := range maxUserSessions {
		s.begin(1, "", now.Add(time.Duration(i+1)*time.Second))
	}
	if _, ok := s.find(first, now); ok {
		t.Error("a user has more sessions than it may have")
	}
	if _, ok := s.find(mine, now); !ok {
		t.Error("a user's many sessions ended another's")
	}
	if len(s.all) != maxUserSessions+1 {
		t.Errorf("%d sessions, want %d", len(s.all), maxUserSessions+1)
	}
	s.begin(3, "", now.Add(24*time.Hour))
	if len(s.all) != 1 {
		t.Errorf("%d sessions a day later, want only the new one", len(s.all))
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
