package main_test

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	formID     = regexp.MustCompile(`name="id" value="([^"]+)"`)
	shownOnce  = regexp.MustCompile(`<output>([^<]+)</output>`)
	shownLogin = regexp.MustCompile(`docker login (\S+) (?:-u|--username) ([^\s<]+)`)
)

// Somebody who logs in at an OpenID provider by his browser gets a secret for his clients, and
// with it the rights of his groups; a cookie of that browser is good for nothing else (FAULTS C7).
func TestOIDCUsersPushAndPull(t *testing.T) {
	e2e(t)
	program := need(t, "oidc-issuer")
	home := t.TempDir()
	const clientSecret = "Canary-client-secret-8d21"
	users := writeJSON(t, filepath.Join(home, "users.json"), map[string]any{
		"ada":   map[string]any{"sub": "1815", "password": "analytical", "email": "ada@example.com", "groups": []string{"dev"}},
		"grace": map[string]any{"sub": "1906", "password": "compiler", "email": "grace@example.com", "groups": []string{"visitors"}},
	})
	issuer := freeAddress(t)
	addr := freeAddress(t)
	w := startWharf(t, nodeConfig{plain: true, addr: addr, more: map[string]any{"url": "http://" + addr, "oidc": map[string]any{
		"issuer": "http://" + issuer, "client_id": "roadstead", "client_secret": clientSecret,
		"groups": []any{
			map[string]any{"group": "dev", "project": "production", "role": "maintainer"},
			map[string]any{"group": "dev", "project": "other", "role": "maintainer"},
		},
	}}})
	provider := start(t, home, "oidc-issuer", program, "-listen", issuer, "-users", users, "-secret", clientSecret, "-redirects", w.url+"/c/oidc/callback")
	waitForHTTP(t, provider, http.DefaultClient, "http://"+issuer+"/.well-known/openid-configuration")

	ada, browser := w.signIn(t, "ada", "analytical")
	grace, _ := w.signIn(t, "grace", "compiler")
	for i, p := range pushers {
		switch p.name {
		case "docker", "podman", "crane":
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				pusherWorks(t, w.as(ada), w.as(account{ada.name, "analytical"}), p, uint64(470000+1000*i), "production", "other")
			})
		}
	}
	t.Run("who is in no such group", func(t *testing.T) {
		if a := w.as(grace).ask(http.MethodGet, "/v2/"); a.status != http.StatusOK {
			t.Errorf("grace logs in with her secret: %v", a)
		}
		if err := w.as(grace).push("production/team/x", recipe{seed: 479000}.make(t, "1")); err == nil {
			t.Error("grace pushes to a project that none of her groups has a role in")
		}
	})
	t.Run("a cookie is no login for a registry", func(t *testing.T) {
		res, err := browser.Get(w.url + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("GET /v2/ by the browser that is logged in: %s, want 401", res.Status)
		}
	})
	log := []byte(tail(w.log, 1<<30))
	for what, secret := range map[string]string{"the client's secret": clientSecret, "ada's secret": ada.secret, "ada's password": "analytical"} {
		if strings.Contains(string(log), secret) {
			t.Errorf("the log has %s", what)
		}
	}
}

// signIn logs in as a browser does, at the provider by the provider's form, and asks for a secret.
func (w *wharf) signIn(t *testing.T, name, password string) (account, *http.Client) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	read := func(res *http.Response, err error) (*http.Response, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, html.UnescapeString(string(b))
	}
	res, page := read(browser.Get(w.url + "/c/oidc/login"))
	id := formID.FindStringSubmatch(page)
	if id == nil {
		t.Fatalf("no form of the provider at %s: %s\n%s", res.Request.URL, res.Status, page)
	}
	action := res.Request.URL.ResolveReference(&url.URL{Path: "/login/username"})
	res, page = read(browser.PostForm(action.String(), url.Values{"id": {id[1]}, "username": {name}, "password": {password}}))
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Request.URL.String(), w.url) {
		t.Fatalf("after the login %s is at %s: %s\n%s", name, res.Request.URL, res.Status, page)
	}
	res, page = read(browser.PostForm(w.url+"/c/oidc/secret", nil))
	secret, command := shownOnce.FindStringSubmatch(page), shownLogin.FindStringSubmatch(page)
	if res.StatusCode != http.StatusOK || secret == nil || command == nil {
		t.Fatalf("%s asks for a secret: %s\n%s", name, res.Status, page)
	}
	if command[1] != w.addr {
		t.Errorf("the page says docker login %s, want %s", command[1], w.addr)
	}
	return account{command[2], secret[1]}, browser
}
