package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is known of credentials: wrong ones and none let nobody in, on any way in, and those that
// are for somebody else's registry are no obstacle where everybody may pull (RKE2.md §3.6).
func TestLogins(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{plain: true}, "developer", "guest", "puller")
	img := recipe{seed: 350000}.make(t, "1")
	for _, repo := range []string{"production/team/web", "open/team/web"} {
		if err := w.as(w.root).push(repo, img); err != nil {
			t.Fatal(err)
		}
	}
	challenge := w.ask(http.MethodGet, "/v2/").header.Get("WWW-Authenticate")
	hub := w.as(account{"somebody-at-docker-hub", "dckr_pat_1234"})

	t.Run("foreign credentials count as none", func(t *testing.T) {
		if err := hub.pull("open/team/web", "1", img); err != nil {
			t.Error(err)
		}
		if a := hub.ask(http.MethodGet, manifestPath("production/team/web", "1")); a.status != http.StatusUnauthorized {
			t.Errorf("a private project: %v, want 401", a)
		}
		if a := hub.ask(http.MethodGet, "/v2/"); a.status != http.StatusUnauthorized {
			t.Errorf("GET /v2/, which is how clients log in: %v, want 401", a)
		}
		// containerd sends a pod's credentials to whichever mirror the image comes from.
		scope := challenge + `,scope="repository:open/team/web:pull"`
		if a := hub.askToken(t, scope); a.status != http.StatusOK {
			t.Errorf("a token to pull what is public: %v, want 200", a)
		}
		if a := hub.askToken(t, challenge+`,scope="repository:production/team/web:pull"`); a.status != http.StatusUnauthorized {
			t.Errorf("a token to pull what is private: %v, want 401", a)
		}
	})

	t.Run("docker login", func(t *testing.T) {
		d := startDocker(t)
		login := func(a account) error {
			_, err := try(environment(shortDir(t)), d.docker, "--host", d.socket, "login", "-u", a.name, "-p", a.secret, w.addr)
			return err
		}
		developer := w.members["developer"]
		if err := login(developer); err != nil {
			t.Error(err)
		}
		if err := login(account{developer.name, "wrong"}); err == nil {
			t.Error("docker logs in with a wrong password")
		}
		if err := login(account{w.robot.name, "wrong"}); err == nil {
			t.Error("docker logs in with a robot's name and a wrong secret")
		}
	})

	t.Run("C1 no password that everybody knows", func(t *testing.T) {
		for _, name := range []string{"admin", "administrator"} {
			for _, password := range []string{"Harbor12345", "admin", "password", "roadstead", ""} {
				if a := w.as(account{name, password}).ask(http.MethodGet, "/v2/"); a.status != http.StatusUnauthorized {
					t.Errorf("%s with the password %q: %v", name, password, a)
				}
			}
		}
	})

	t.Run("C5 an unknown name looks like a wrong password", func(t *testing.T) {
		// One failed login of each kind in turn, so that whatever else the machine does is in
		// both; each name is tried seldom enough not to be refused for it.
		took := map[string][]time.Duration{}
		answers := map[string]string{}
		for i := range 8 {
			for kind, name := range map[string]string{"known": w.members["guest"].name, "unknown": "unknown"} {
				began := time.Now()
				a := w.as(account{name, fmt.Sprint("wrong-", i)}).ask(http.MethodGet, "/v2/")
				took[kind] = append(took[kind], time.Since(began))
				answers[kind] = a.faceless("x/y")
			}
		}
		if answers["known"] != answers["unknown"] {
			t.Errorf("a wrong password is answered\n%s\nand an unknown name\n%s", answers["known"], answers["unknown"])
		}
		known, unknown := median(took["known"]), median(took["unknown"])
		if known > 4*unknown+5*time.Millisecond || unknown > 4*known+5*time.Millisecond {
			t.Errorf("a wrong password takes %v, an unknown name %v: want the same class", known, unknown)
		}
		t.Logf("a wrong password takes %v, an unknown name %v", known, unknown)
	})

	t.Run("C7 no cookie is a login", func(t *testing.T) {
		for _, cookie := range []string{"sid=1", "token=" + w.as(w.root).tokenFor(t, "repository:production/team/web:pull"), "Authorization=Basic " + w.root.basic()} {
			if a := w.ask(http.MethodGet, manifestPath("production/team/web", "1"), "Cookie: "+cookie); a.status != http.StatusUnauthorized {
				t.Errorf("with the cookie %.20q: %v, want 401", cookie, a)
			}
		}
	})

	t.Run("the token service", func(t *testing.T) {
		path := "/service/token?service=x&scope=repository:production/team/web:pull"
		if a, err := w.as(w.robot).send(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader("a=b"), 3); err != nil || a.status != http.StatusMethodNotAllowed {
			t.Errorf("POST: %v, %v; want 405, which has containerd try GET", a, err)
		}
		// A scope that is denied is left out, and is no error.
		guest := w.as(w.members["guest"])
		token := guest.tokenFor(t, "repository:production/team/web:pull,push,delete")
		bearer := "Authorization: Bearer " + token
		if a := w.ask(http.MethodGet, manifestPath("production/team/web", "1"), bearer); !a.whole() {
			t.Errorf("a guest pulls with a token: %v", a)
		}
		if a, err := w.node.send(http.MethodPost, uploadsPath("production/team/web"), "", http.NoBody, 0, bearer); err != nil || a.status != http.StatusForbidden {
			t.Errorf("a guest pushes with a token that was asked for it: %v, %v; want 403", a, err)
		}
		// One for another repository is good for that one only.
		elsewhere := "Authorization: Bearer " + w.as(w.root).tokenFor(t, "repository:other/team/web:pull")
		if a := w.ask(http.MethodGet, manifestPath("production/team/web", "1"), elsewhere); a.whole() {
			t.Errorf("a token for one repository reads another: %v", a)
		}
		for _, broken := range []string{"Bearer " + token + "x", "Bearer " + token[:len(token)/2], "Bearer ", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.", "Basic !!!", "Digest x"} {
			if a := w.ask(http.MethodGet, manifestPath("production/team/web", "1"), "Authorization: "+broken); a.status != http.StatusUnauthorized && a.status != http.StatusBadRequest {
				t.Errorf("with %.30q: %v, want 401", broken, a)
			}
		}
	})

	// Last: it takes people's rights away.
	t.Run("C14 what is taken away is gone", func(t *testing.T) {
		reads := func(a account, headers ...string) int {
			return w.as(a).ask(http.MethodGet, manifestPath("production/team/web", "1"), headers...).status
		}
		developer, guest := w.members["developer"], w.members["guest"]
		tokens := map[string]string{}
		for _, a := range []account{w.puller, developer, guest} {
			tokens[a.name] = "Authorization: Bearer " + w.as(a).tokenFor(t, "repository:production/team/web:pull")
			if got := reads(account{}, tokens[a.name]); got != http.StatusOK {
				t.Fatalf("%s reads with a token: %d", a.name, got)
			}
		}
		w.administer("robot", "disable", w.puller.name)
		w.administer("user", "disable", developer.name)
		w.administer("project", "member", "remove", "production", guest.name)
		for a, want := range map[account]int{w.puller: 401, developer: 401, guest: 404} {
			eventually(t, 10*time.Second, a.name+" having lost his rights", func() bool { return reads(a) == want })
			if got := reads(account{}, tokens[a.name]); got == http.StatusOK {
				t.Errorf("%s reads with a token from before", a.name)
			}
		}
		w.administer("robot", "enable", w.puller.name)
		w.administer("user", "enable", developer.name)
		for _, a := range []account{w.puller, developer} {
			eventually(t, 10*time.Second, a.name+" having his rights again", func() bool { return reads(a) == 200 })
		}
	})
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
