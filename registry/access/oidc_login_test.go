package access

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// port is a house that browsers can reach, and the provider that its users log in by.
type port struct {
	*house
	*httptest.Server
	issuer *issuer
	log    *lines
}

// lines is what a house has logged.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// moor opens a house and starts its provider.
func moor(t *testing.T, change ...func(*OIDC)) *port {
	t.Helper()
	p := dock(t, newIssuer(t), httptest.NewUnstartedServer, change...)
	p.Start()
	p.issuer.start(t, p.URL)
	return p
}

// dock opens a house whose server and provider are still to be started.
func dock(t *testing.T, i *issuer, server func(http.Handler) *httptest.Server, change ...func(*OIDC)) *port {
	t.Helper()
	p := &port{issuer: i, log: &lines{}}
	p.house = open(t, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(p.log, nil))
		c.OIDC = &OIDC{
			Issuer: i.url, ClientID: "roadstead", ClientSecret: clientSecret, Scopes: []string{"profile", "email", "groups"},
			AdminGroup: "ops", Groups: []GroupRole{{"dev", "production", Developer}},
		}
		for _, change := range change {
			change(c.OIDC)
		}
	})
	p.Server = server(p.house.Handler())
	t.Cleanup(p.Close)
	return p
}

// browser is a new one of somebody who visits p.
func (p *port) browser() *browser { return newBrowser(p.t.(*testing.T), p.Client().Transport) }

// user is a user as the catalog has it.
func (p *port) user(name string) (catalog.User, bool) {
	p.t.Helper()
	users, err := p.Users(p.t.Context())
	p.must(err)
	for _, u := range users {
		if u.Name == name {
			return u, true
		}
	}
	return catalog.User{}, false
}

var shownSecret = regexp.MustCompile(`<output>([A-Za-z0-9]{43})</output>`)

// secret makes a secret on the page of an account.
func (p *port) secret(b *browser) string {
	p.t.Helper()
	page := b.post(p.URL+home+"secret", nil)
	found := shownSecret.FindStringSubmatch(page.body)
	if page.StatusCode != http.StatusOK || found == nil {
		p.t.Fatalf("no secret on the page: %s\n%s", page.Status, page.body)
	}
	return found[1]
}

// forget makes a provider one that was asked long ago.
func (p *provider) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = time.Time{}
}

func TestLoginByAProvider(t *testing.T) {
	for _, client := range []string{"roadstead", "terse"} { // claims in the ID token, and at the UserInfo endpoint
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			p := moor(t, func(o *OIDC) { o.ClientID = client })
			b := p.browser()
			if page := b.get(p.URL + home); page.StatusCode != http.StatusOK || !strings.Contains(page.body, `href="/c/oidc/login"`) {
				t.Errorf("the page of nobody: %s\n%s", page.Status, page.body)
			}
			asked := ""
			b.on = func(u *url.URL) error {
				if u.Host == p.issuer.addr && asked == "" {
					asked = u.RawQuery
				}
				return nil
			}
			page := b.login(p.URL, home, "ada", "analytical")
			if q, _ := url.ParseQuery(asked); q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 {
				t.Errorf("the provider is asked for %s, want a code with PKCE", asked)
			}
			if page.StatusCode != http.StatusOK || page.Request.URL.String() != p.URL+home {
				t.Fatalf("logged in to %s: %s\n%s", page.Request.URL, page.Status, page.body)
			}
			for _, want := range []string{"<h1>ada</h1>", "ada@example.com", "<li>dev</li>", "<td>production</td><td>developer</td><td>group dev</td>"} {
				if !strings.Contains(page.body, want) {
					t.Errorf("the page lacks %s", want)
				}
			}
			u, _ := p.user("ada")
			if u.Issuer != p.issuer.url || u.Subject != "1815" || u.Email != "ada@example.com" || time.Since(u.IdentifiedAt) > time.Minute || u.LastLogin.IsZero() {
				t.Errorf("the catalog has %+v", u)
			}
			if wrong := p.browser().login(p.URL, home, "ada", "wrong"); !strings.Contains(wrong.body, "username or password wrong") {
				t.Errorf("the provider takes anything: %s", wrong.body)
			}
			entries, err := p.Audit(t.Context(), time.Time{}, -1)
			p.must(err)
			last := entries[len(entries)-1]
			if last.Actor != "ada" || last.Action != login || last.Outcome != registry.Done || !strings.Contains(last.Detail, p.issuer.url) || last.Remote == "" {
				t.Errorf("the audit log ends with %+v", last)
			}
		})
	}
}

// With https, and a provider whose certificate only the CA file knows.
func TestLoginWithHTTPS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := newIssuer(t, "-cert", filepath.Join(dir, "cert.pem"), "-key", filepath.Join(dir, "key.pem"))
	i.url = "https://" + i.addr
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var p *port
	start := func(ca string) {
		p = dock(t, i, httptest.NewUnstartedServer, func(o *OIDC) { o.CAFile = ca })
		p.StartTLS()
	}
	start("")
	// The certificate of httptest's servers is for 127.0.0.1, and its own CA.
	certificate := p.TLS.Certificates[0]
	write("cert.pem", "CERTIFICATE", certificate.Certificate[0])
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	p.must(err)
	write("key.pem", "PRIVATE KEY", key)
	i.start(t, p.URL)
	if page := p.browser().get(p.URL + loginPath); page.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a provider that nobody vouches for: %s, want 503", page.Status)
	}
	i.stop()

	start(filepath.Join(dir, "cert.pem"))
	i.start(t, p.URL)
	b := p.browser()
	page := b.login(p.URL, "/c/oidc/?a=b", "grace", "compiler")
	if page.StatusCode != http.StatusOK || page.Request.URL.String() != p.URL+home+"?a=b" || !strings.Contains(page.body, "administrator") {
		t.Errorf("logged in to %s: %s\n%s", page.Request.URL, page.Status, page.body)
	}
	u, _ := url.Parse(p.URL)
	for _, c := range b.client.Jar.Cookies(u) {
		if strings.HasSuffix(c.Name, sessionCookie) && c.Name != "__Host-"+sessionCookie {
			t.Errorf("over https the cookie is %s", c.Name)
		}
	}
}

func TestALoginThatSomebodyMeddledWith(t *testing.T) {
	t.Parallel()
	p := moor(t)
	// caught is the callback that a browser did not follow.
	catch := func(b *browser) string {
		t.Helper()
		var caught string
		b.on = func(u *url.URL) error {
			if u.Path == callbackPath {
				caught = u.String()
				return http.ErrUseLastResponse
			}
			return nil
		}
		b.login(p.URL, home, "ada", "analytical")
		b.on = nil
		if caught == "" {
			t.Fatalf("no callback: %v", b.trail)
		}
		return caught
	}
	// altered is a callback with another value of a parameter.
	altered := func(callback, name, value string) string {
		u, err := url.Parse(callback)
		p.must(err)
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		return u.String()
	}
	state := func(callback string) string {
		u, err := url.Parse(callback)
		p.must(err)
		return u.Query().Get("state")
	}
	refused := func(name string, want int, page response, b *browser) {
		t.Helper()
		if page.StatusCode != want {
			t.Errorf("%s: %s, want %d\n%s", name, page.Status, want, page.body)
		}
		if b.cookie(p.URL, sessionCookie) != "" {
			t.Errorf("%s: logged in", name)
		}
	}

	b := p.browser()
	callback := catch(b)
	refused("another state", http.StatusBadRequest, b.get(altered(callback, "state", "x")), b)
	refused("no state", http.StatusBadRequest, b.get(altered(callback, "state", "")), b)
	stranger := p.browser()
	refused("a browser that began nothing", http.StatusBadRequest, stranger.get(callback), stranger)
	u, err := url.Parse(p.URL)
	p.must(err)
	forged, err := newSealer("").seal(flow{State: state(callback), Until: time.Now().Add(time.Hour)})
	p.must(err)
	stranger.client.Jar.SetCookies(u, []*http.Cookie{{Name: flowCookie, Value: forged}})
	refused("a cookie that is not ours", http.StatusBadRequest, stranger.get(callback), stranger)

	// The code of one browser with the state of another: whoever sends somebody such a link has
	// them log in as somebody else. PKCE refuses it at the provider.
	victim := p.browser()
	own := catch(victim)
	refused("another browser's code", http.StatusForbidden, victim.get(altered(callback, "state", state(own))), victim)
	refused("the same again", http.StatusBadRequest, victim.get(own), victim) // a flow ends with its answer

	late := p.browser()
	callback = catch(late)
	sealed, err := p.portal.sealer.open(late.cookie(p.URL, flowCookie), time.Now())
	p.must(err)
	sealed.Until = time.Now().Add(-time.Second)
	expired, err := p.portal.sealer.seal(sealed)
	p.must(err)
	late.client.Jar.SetCookies(u, []*http.Cookie{{Name: flowCookie, Value: expired, Path: "/"}})
	refused("too late", http.StatusBadRequest, late.get(callback), late)

	refusal := p.browser()
	callback = catch(refusal)
	refused("an error instead of a code", http.StatusForbidden, refusal.get(altered(callback, "error", "access_denied")), refusal)
	mixed := p.browser()
	callback = catch(mixed)
	refused("an answer of another issuer", http.StatusForbidden, mixed.get(altered(callback, "iss", "https://evil.example")), mixed)

	// The nonce goes by way of the browser, which changes it: the provider signs an ID token that
	// was not asked for.
	swapped := p.browser()
	swapped.on = func(u *url.URL) error {
		if q := u.Query(); q.Has("nonce") {
			q.Set("nonce", "another")
			u.RawQuery = q.Encode()
		}
		return nil
	}
	refused("another nonce", http.StatusForbidden, swapped.login(p.URL, home, "ada", "analytical"), swapped)
	if text := p.log.String(); !strings.Contains(text, "another nonce") {
		t.Errorf("the log does not say why: %s", text)
	}

	// A code is good once, even for its own browser.
	replay := p.browser()
	callback = catch(replay)
	cookie := replay.cookie(p.URL, flowCookie)
	if page := replay.get(callback); page.StatusCode != http.StatusOK || replay.cookie(p.URL, sessionCookie) == "" {
		t.Errorf("the login that nobody meddled with: %s", page.Status)
	}
	again := p.browser()
	again.client.Jar.SetCookies(u, []*http.Cookie{{Name: flowCookie, Value: cookie, Path: "/"}})
	refused("a code that was used", http.StatusForbidden, again.get(callback), again)
}

func TestC8_ALoginLeadsToALocalPath(t *testing.T) {
	t.Parallel()
	p := moor(t)
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "/\t/evil.example", "javascript:alert(1)"} {
		b := p.browser()
		page := b.login(p.URL, next, "ada", "analytical")
		if page.Request.URL.String() != p.URL+home {
			t.Errorf("next=%q led to %s", next, page.Request.URL)
		}
	}
	b := p.browser()
	b.login(p.URL, "/c/somewhere?x=1", "ada", "analytical")
	if last := b.trail[len(b.trail)-1]; last != p.URL+"/c/somewhere?x=1" {
		t.Errorf("a local path led to %s", last)
	}
}

func TestC7_ACookieIsGoodForPagesOnly(t *testing.T) {
	t.Parallel()
	p := moor(t)
	b := p.browser()
	b.login(p.URL, home, "grace", "compiler") // an administrator

	for _, cookie := range []string{sessionCookie, "__Host-" + sessionCookie} {
		r := request("/v2/production/web/manifests/v1", "")
		r.AddCookie(&http.Cookie{Name: cookie, Value: b.cookie(p.URL, sessionCookie)})
		who, err := p.Identify(r)
		p.must(err)
		if who.Name() != "" || p.Authorize(who, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: web}) == nil || p.Login(who) == nil {
			t.Errorf("cookie %s identifies %q at the API", cookie, who.Name())
		}
	}
	token := b.get(p.URL + "/service/token?service=roadstead&scope=repository:production/web:pull")
	if token.StatusCode == http.StatusOK {
		bearer := regexp.MustCompile(`"token":"([^"]+)"`).FindStringSubmatch(token.body)
		action, resource := pull(web)
		if bearer == nil || p.Authorize(p.who("Bearer "+bearer[1]), action, resource) == nil {
			t.Errorf("the token service takes a cookie: %s", token.body)
		}
	}

	// What another site makes a browser send.
	for name, header := range map[string]http.Header{
		"of today":           {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
		"of a sister site":   {"Sec-Fetch-Site": {"same-site"}},
		"of some years ago":  {"Origin": {"https://evil.example"}},
		"that says nowhere":  {"Origin": {"null"}},
		"of the same name":   {"Origin": {"https://127.0.0.1"}},
		"from another place": {"Sec-Fetch-Site": {"cross-site"}},
	} {
		for _, path := range []string{"secret", "secret/remove", "logout"} {
			b.header = header
			if page := b.post(p.URL+home+path, url.Values{}); page.StatusCode != http.StatusForbidden {
				t.Errorf("POST %s by a browser %s: %s, want 403", path, name, page.Status)
			}
		}
	}
	b.header = http.Header{"Sec-Fetch-Site": {"same-origin"}}
	p.secret(b)
	b.header = http.Header{"Origin": {p.URL}}
	p.secret(b)
	b.header = http.Header{}
	for _, path := range []string{"secret", "secret/remove", "logout"} {
		if page := b.get(p.URL + home + path); page.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %s, want 405", path, page.Status)
		}
	}
	for _, path := range []string{home, loginPath, callbackPath, home + "style.css", home + "nothing"} {
		h := p.browser().get(p.URL + path).Header
		if path == loginPath {
			continue // it is the provider's page
		}
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, h)
		}
		if path != home+"style.css" && h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control %q, want no-store", path, h.Get("Cache-Control"))
		}
	}
	if page := b.post(p.URL+home+"logout", nil); page.StatusCode != http.StatusOK || !strings.Contains(page.body, "Log in with") || b.cookie(p.URL, sessionCookie) != "" {
		t.Errorf("after the logout: %s\n%s", page.Status, page.body)
	}
}

func TestALogoutEndsTheSessionItself(t *testing.T) {
	t.Parallel()
	p := moor(t)
	b := p.browser()
	b.login(p.URL, home, "ada", "analytical")
	thief := p.browser()
	u, err := url.Parse(p.URL)
	p.must(err)
	thief.client.Jar.SetCookies(u, b.client.Jar.Cookies(u))
	if page := thief.get(p.URL + home); !strings.Contains(page.body, "<h1>ada</h1>") {
		t.Fatalf("the copy of a cookie is none: %s", page.body)
	}
	b.post(p.URL+home+"logout", nil)
	if page := thief.get(p.URL + home); strings.Contains(page.body, "ada") {
		t.Error("the session goes on after the logout")
	}
	if page := thief.post(p.URL+home+"secret", nil); page.StatusCode != http.StatusUnauthorized {
		t.Errorf("nobody makes a secret: %s, want 401", page.Status)
	}
}

func TestAProviderThatIsDown(t *testing.T) {
	t.Parallel()
	p := dock(t, newIssuer(t), httptest.NewUnstartedServer)
	p.Start()
	page := p.browser().get(p.URL + loginPath)
	if page.StatusCode != http.StatusServiceUnavailable || page.Header.Get("Retry-After") == "" || !strings.Contains(page.body, "The login provider gives no answer") {
		t.Errorf("login: %s %v\n%s", page.Status, page.Header, page.body)
	}
	if strings.Contains(page.body, "dial") {
		t.Errorf("the page says more than it should: %s", page.body)
	}
	if p.who(basic("admin", password)).Name() != "admin" {
		t.Error("local accounts are down with it")
	}
	p.issuer.start(t, p.URL)
	p.portal.provider.forget()
	b := p.browser()
	if page := b.login(p.URL, home, "ada", "analytical"); page.StatusCode != http.StatusOK {
		t.Errorf("after it came back: %s", page.Status)
	}

	// It goes while somebody is logging in.
	var callback string
	late := p.browser()
	late.on = func(u *url.URL) error {
		if callback = u.String(); u.Path == callbackPath {
			return http.ErrUseLastResponse
		}
		return nil
	}
	late.login(p.URL, home, "ada", "analytical")
	late.on = nil
	p.issuer.stop()
	if page := late.get(callback); page.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("callback: %s, want 503\n%s", page.Status, page.body)
	}
	p.portal.provider.forget()
	if page := late.get(p.URL + loginPath); page.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("login after it went: %s, want 503\n%s", page.Status, page.body)
	}
	if page := b.get(p.URL + home); !strings.Contains(page.body, "<h1>ada</h1>") {
		t.Error("who is logged in already needs the provider")
	}
}

func TestNoProviderNoPages(t *testing.T) {
	t.Parallel()
	h := open(t)
	for _, path := range []string{home, loginPath, callbackPath, home + "style.css"} {
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, request(path, ""))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, w.Code)
		}
	}
	_, err := Open(t.Context(), Config{Catalog: h.db, Directory: h.dir, OIDC: &OIDC{Issuer: "http://login.example.com", ClientID: "c"}})
	if err == nil || errors.Is(err, registry.Unavailable) {
		t.Errorf("an unsafe issuer: %v", err)
	}
}
