package access

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

// access of a token, as "repository:name:pull,push".
func accessOf(t *testing.T, token string) string {
	t.Helper()
	var c claims
	text, err := json.Marshal(decoded(t, strings.Split(token, ".")[1]))
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range c.Access {
		all = append(all, g.Type+":"+g.Name+":"+strings.Join(g.Actions, ","))
	}
	return strings.Join(all, " ")
}

// What the token service answers to whoever asks for what (RKE2 §3.4–6).
func TestTokenService(t *testing.T) {
	h := open(t, func(c *Config) {
		c.Route = func(host, ns, name string) (registry.Repo, error) { // as with a default project
			repo := registry.SplitRepo(name)
			for _, p := range projects {
				if p.Name == repo.Project {
					if repo.Project == "docker.io" && repo.Name != "" && !strings.Contains(repo.Name, "/") {
						repo.Name = "library/" + repo.Name
					}
					return repo, nil
				}
			}
			if repo.Name == "" {
				name = "library/" + name
			}
			return registry.Repo{Project: "docker.io", Name: name}, nil
		}
	})
	h.member("dora", Developer)
	h.member("max", Maintainer)
	dora, foreign := basic("dora", password), basic("hubuser", "Hub-Password-1")
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("repository:public/%s%d:pull", strings.Repeat("long", 50), i)
	}
	for _, test := range []struct {
		name, authorization string
		scopes              []string
		status              int
		access              string
	}{
		{"anybody, public", "", []string{"repository:public/tool:pull"}, 200, "repository:public/tool:pull"},
		{"anybody, private: left out", "", []string{"repository:production/web:pull"}, 200, ""},
		{"anybody, no scope", "", nil, 200, ""},
		{"anybody, push to a public project: left out", "", []string{"repository:public/tool:pull,push"}, 200, "repository:public/tool:pull"},
		{"developer", dora, []string{"repository:production/web:pull,push"}, 200, "repository:production/web:pull,push"},
		{"order and doubles do not matter", dora, []string{"repository:production/web:push,pull,push"}, 200, "repository:production/web:push,pull"},
		{"developer, delete: left out", dora, []string{"repository:production/web:pull,push,delete"}, 200, "repository:production/web:pull,push"},
		{"maintainer, everything", basic("max", password), []string{"repository:production/web:*"}, 200, "repository:production/web:pull,push,delete"},
		{"several parameters", dora, []string{"repository:production/web:pull", "repository:docker.io/library/alpine:pull"}, 200, "repository:production/web:pull repository:docker.io/library/alpine:pull"},
		{"several in one", dora, []string{"repository:production/web:pull repository:public/tool:pull"}, 200, "repository:production/web:pull repository:public/tool:pull"},
		{"other projects are left out", dora, []string{"repository:staging/web:pull repository:production/web:pull"}, 200, "repository:production/web:pull"},
		{"a raw name is its canonical one", "", []string{"repository:busybox:pull"}, 200, "repository:docker.io/library/busybox:pull"},
		{"a short name is its canonical one", "", []string{"repository:docker.io/busybox:pull"}, 200, "repository:docker.io/library/busybox:pull"},
		{"push to a proxy cache: left out", basic("admin", password), []string{"repository:docker.io/library/busybox:pull,push"}, 200, "repository:docker.io/library/busybox:pull"},
		{"the list", dora, []string{"registry:catalog:*"}, 200, "registry:catalog:*"},
		{"a class", dora, []string{"repository(plugin):production/web:pull"}, 200, "repository:production/web:pull"},
		{"what is no scope is left out", dora, []string{"", "x", "repository:", "repository::pull", "repository:production/web:", "repository:../etc:pull", "repository:production/web:fly", "job:x:pull", "registry:other:*"}, 200, ""},
		{"a name with a port is no repository here", dora, []string{"repository:host:5000/web:pull"}, 200, ""},

		{"docker login, right", dora, nil, 200, ""},
		{"docker login, wrong", basic("dora", "Wrong-Horse-1"), nil, 401, ""},
		{"docker login with somebody else's", foreign, nil, 401, ""},
		{"foreign, public", foreign, []string{"repository:docker.io/library/busybox:pull"}, 200, "repository:docker.io/library/busybox:pull"},
		{"foreign, private", foreign, []string{"repository:production/web:pull"}, 401, ""},
		{"foreign, not there", foreign, []string{"repository:production/web:pull"}, 401, ""},
		{"foreign, public and private", foreign, []string{"repository:public/tool:pull", "repository:staging/web:pull"}, 200, "repository:public/tool:pull"},
		{"foreign, public and not there", foreign, []string{"repository:public/tool:pull", "repository:ghcr.io/none:pull"}, 200, "repository:public/tool:pull"},
		{"foreign, push", foreign, []string{"repository:public/tool:pull,push"}, 401, ""},
		{"foreign, the list", foreign, []string{"registry:catalog:*"}, 401, ""},
		{"garbage as credentials", "Basic !!!", []string{"repository:production/web:pull"}, 401, ""},
	} {
		w, token := h.ask(test.authorization, test.scopes...)
		if w.Code != test.status {
			t.Errorf("%s: %d %s, want %d", test.name, w.Code, w.Body, test.status)
			continue
		}
		if test.status == 401 && (!strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ") || !strings.Contains(w.Body.String(), `"UNAUTHORIZED"`)) {
			t.Errorf("%s: %v %s", test.name, w.Header(), w.Body)
		}
		if token != "" {
			if got := accessOf(t, token); got != test.access {
				t.Errorf("%s: good for %q, want %q", test.name, got, test.access)
			}
		}
	}
	_, token := h.ask("", many[:29]...)
	if p := h.who(token).(*principal); len(token) > maxToken || p.refusal != nil || len(p.grants.verbs) < 10 {
		t.Errorf("a token for very many scopes has %d bytes and is good for %d", len(token), len(p.grants.verbs))
	}

	w, _ := h.ask("", "repository:public/tool:pull")
	var answer map[string]any
	h.must(json.Unmarshal(w.Body.Bytes(), &answer))
	at, err := time.Parse(time.RFC3339, fmt.Sprint(answer["issued_at"]))
	if answer["token"] == "" || answer["token"] != answer["access_token"] || answer["expires_in"] != 300.0 || err != nil || time.Since(at) > time.Minute {
		t.Errorf("answer %v", answer)
	}
	if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("header %v", w.Header())
	}
	// A token is no credential for the next one, or it would never end.
	_, token = h.ask(dora, "repository:production/web:pull")
	if w, _ := h.ask(token, "repository:production/web:pull"); w.Code != 401 {
		t.Errorf("a token for a token: %d, want 401", w.Code)
	}
}

// containerd tries POST first and GET after a 405.
// A scope is of the name that the client was given: with ns of what that is at another registry, and
// whoever may not pull it here gets nothing by that.
func TestTokensForNamesAtAnotherRegistry(t *testing.T) {
	h := open(t, func(c *Config) {
		c.Route = func(host, ns, name string) (registry.Repo, error) {
			if ns == "harbor.lan" {
				return registry.Repo{Project: "production", Name: name}, nil
			}
			return registry.Repo{Project: "docker.io", Name: name}, nil
		}
	})
	h.member("dora", Developer)
	for ns, want := range map[string]string{"": "docker.io/team/app", "harbor.lan": "production/team/app"} {
		_, token := h.askFor(ns, basic("dora", password), "repository:team/app:pull")
		if got := accessOf(t, token); got != "repository:"+want+":pull" {
			t.Errorf("ns %q: good for %q, want %s", ns, got, want)
		}
	}
	if _, token := h.askFor("harbor.lan", "", "repository:team/app:pull"); accessOf(t, token) != "" {
		t.Errorf("anybody's token is good for %q", accessOf(t, token))
	}
	if w, _ := h.askFor("harbor.lan", basic("hubuser", "Hub-Password-1"), "repository:team/app:pull"); w.Code != 401 {
		t.Errorf("somebody else's credentials for what is private here: %d, want 401", w.Code)
	}
}

func TestTokenServiceTakesGetOnly(t *testing.T) {
	h := open(t)
	for _, method := range []string{"POST", "PUT", "DELETE", "HEAD", "PATCH"} {
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, httptest.NewRequest(method, "/service/token", strings.NewReader("grant_type=password&username=admin&password="+password)))
		if w.Code != 405 || w.Header().Get("Allow") != "GET" {
			t.Errorf("%s: %d, Allow %q, want 405 and GET", method, w.Code, w.Header().Get("Allow"))
		}
	}
	for target, want := range map[string]int{
		"/service/token?scope=" + strings.Repeat("x", maxQuery): 400, "/service/tokens": 404, "/": 404, "/service/token/": 404,
	} {
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if w.Code != want || !strings.Contains(w.Body.String(), `"errors"`) {
			t.Errorf("%.40s: %d %s, want %d", target, w.Code, w.Body, want)
		}
	}
}

// Where a client is sent is configured, or what its request says itself, if that is a host
// (FAULTS C20); nothing that a proxy or anybody else writes into it counts (C18).
func TestC18C20_Challenge(t *testing.T) {
	configured := open(t, func(c *Config) { c.URL = "https://registry.example.com/" })
	h := open(t)
	for _, test := range []struct {
		name, host string
		tls        bool
		access     *house
		scopes     []string
		want       string
	}{
		{"by its host", "mirror:5000", false, h, nil, `Bearer realm="http://mirror:5000/service/token",service="roadstead"`},
		{"by TLS", "mirror", true, h, []string{"repository:production/web:pull,push"}, `Bearer realm="https://mirror/service/token",service="roadstead",scope="repository:production/web:pull,push"`},
		{"several scopes", "mirror", true, h, []string{"repository:a/b:pull", "repository:c/d:pull"}, `Bearer realm="https://mirror/service/token",service="roadstead",scope="repository:a/b:pull repository:c/d:pull"`},
		{"IPv6", "[2001:db8::1]:443", true, h, nil, `Bearer realm="https://[2001:db8::1]:443/service/token",service="roadstead"`},
		{"configured", "evil.example", false, configured, nil, `Bearer realm="https://registry.example.com/service/token",service="roadstead"`},
		{"configured, whatever the host", `x"y`, false, configured, nil, `Bearer realm="https://registry.example.com/service/token",service="roadstead"`},
		{"a quote", `a",service="evil`, false, h, nil, `Basic realm="roadstead"`},
		{"a path", "evil/x", false, h, nil, `Basic realm="roadstead"`},
		{"a user", "evil@x", false, h, nil, `Basic realm="roadstead"`},
		{"a line", "a\r\nX-Evil: 1", false, h, nil, `Basic realm="roadstead"`},
		{"nothing", "", false, h, nil, `Basic realm="roadstead"`},
		{"no port", "a:", false, h, nil, `Basic realm="roadstead"`},
		{"no address", "[::1", false, h, nil, `Basic realm="roadstead"`},
		{"an address with more", "[::1]x", false, h, nil, `Basic realm="roadstead"`},
		{"an address with a zone", "[fe80::1%25eth0]:5000", false, h, nil, `Basic realm="roadstead"`},
		{"a long one", strings.Repeat("a", 300), false, h, nil, `Basic realm="roadstead"`},
	} {
		r := request("/v2/", "")
		r.Host = test.host
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		for k, v := range map[string]string{"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example;proto=https",
			"X-Forwarded-For": "203.0.113.9", "X-Real-Ip": "203.0.113.9", "X-Original-Host": "evil.example"} {
			r.Header.Set(k, v)
		}
		if got := test.access.Challenge(r, test.scopes...); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, got, test.want)
		}
	}
	// Whoever pings for another registry gets a token there for names as they are at that one.
	for ns, want := range map[string]string{"quay.io": "?ns=quay.io", "old.lan:5000": "?ns=old.lan%3A5000", `a"b`: "", "a b": "", strings.Repeat("a", 300): ""} {
		r := request("/v2/?ns="+url.QueryEscape(ns), "")
		r.Host = "mirror"
		if got := h.Challenge(r); got != `Bearer realm="http://mirror/service/token`+want+`",service="roadstead"` {
			t.Errorf("a ping for %q: %s", ns, got)
		}
		if got := h.Challenge(r, "repository:a/b:pull"); strings.Contains(got, "ns=") {
			t.Errorf("a challenge that names the repository: %s", got)
		}
	}
	for text, ok := range map[string]bool{
		"https://a": true, "http://a:5000": true, "https://a/": true, "a": false, "ftp://a": false, "https://": false,
		"https://a/path": false, "https://u:p@a": false, "https://a?x": false, "https://a\"": false, "https://a#x": false,
	} {
		if err := checkURL(text); (err == nil) != ok {
			t.Errorf("url %q: %v, want ok %v", text, err, ok)
		}
	}
}

// Neither who somebody is nor how often he failed depends on a header that a proxy might write
// (FAULTS C18); a cookie is no credential (C7).
func TestC18_HeadersOfProxiesAreIgnored(t *testing.T) {
	h := open(t)
	var last registry.Code
	for i := range 20 {
		r := request("/v2/", basic("admin", fmt.Sprint("Wrong-Horse-", i)))
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i))
		r.Header.Set("X-Real-IP", fmt.Sprintf("203.0.113.%d", i))
		p, err := h.Identify(r)
		h.must(err)
		last = code(h.Login(p))
	}
	if last != registry.TooManyRequests {
		t.Errorf("after 20 failures from one address: %q, want TooManyRequests", last)
	}
	r := request("/v2/", "")
	for k, v := range map[string]string{"X-Webauth-User": "admin", "X-Remote-User": "admin", "X-Forwarded-User": "admin", "Cookie": "session=admin; sid=admin"} {
		r.Header.Set(k, v)
	}
	r.URL.User = url.UserPassword("admin", password)
	if p, err := h.Identify(r); err != nil || p.Name() != "" {
		t.Errorf("headers of a proxy make %q, %v", p.Name(), err)
	}
}
