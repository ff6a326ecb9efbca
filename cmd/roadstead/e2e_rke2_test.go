package main_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// What people push to a project is what RKE2's nodes pull by the rewrite that they have for it:
// ksd-test is how the cluster calls what is production here.
func TestRKE2PullsWhatWasPushed(t *testing.T) {
	e2e(t)
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "tls"}[secure]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWharf(t, nodeConfig{plain: true, tls: secure}, "guest", "puller")
			img := recipe{seed: 310000, platforms: []string{"amd64", "arm64"}}.make(t, "2.0")
			for _, repo := range []string{"production/team/web", "open/team/web"} {
				if err := w.as(w.robot).push(repo, img); err != nil {
					t.Fatal(err)
				}
			}
			image := reference{project: "ksd.example.com", repo: "ksd-test/team/web", tag: "2.0"}
			mirror := func(project string) map[string]any {
				return map[string]any{"endpoint": []string{w.url}, "rewrite": map[string]string{"^ksd-test/(.*)": project + "/$1"}}
			}
			t.Run("registries.yaml with auth", func(t *testing.T) {
				wharfiePull(t, w.as(w.puller), image, img, mirror("production"))
				wharfiePull(t, w.as(w.members["guest"]), image, img, mirror("production"))
			})
			t.Run("registries.yaml without", func(t *testing.T) {
				wharfiePull(t, w.node, image, img, mirror("open"))
				if err := wharfieTry(t, w.node, image, mirror("production")); err == nil {
					t.Error("wharfie pulls from a private project without credentials")
				}
			})
			t.Run("with a password that is wrong", func(t *testing.T) {
				wrong := w.as(account{w.puller.name, "wrong"})
				if err := wharfieTry(t, wrong, image, mirror("production")); err == nil {
					t.Error("wharfie pulls from a private project with a wrong password")
				}
			})
			t.Run("as the containerd of RKE2 asks", func(t *testing.T) {
				pullAsForked(t, w.as(w.puller), "production/team/web", "ksd.example.com", "2.0", img)
				pullAsForked(t, w.node, "open/team/web", "ksd.example.com", "2.0", img)
			})
			t.Run("containerd without rewrites", func(t *testing.T) {
				c := startContainerd(t)
				var tls []string
				if secure {
					tls = []string{`ca = "` + w.ca + `"`}
				}
				c.hosts(t, "ksd.example.com", w.url+"/v2/production", append(tls, "override_path = true")...)
				c.user = w.puller.name + ":" + w.puller.secret
				web := reference{project: "ksd.example.com", repo: "team/web", tag: "2.0"}
				c.pull(t, web, img)
				c.pullForKubelet(t, web, img)
			})
		})
	}
}

// token follows a challenge to the token service, with the credentials of whoever n asks for.
func (n *node) token(t testing.TB, challenge string) string {
	t.Helper()
	a := n.askToken(t, challenge)
	var answer struct {
		Token       string
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal(a.body, &answer); err != nil || a.status != http.StatusOK || answer.Token == "" {
		t.Fatalf("the token service answers %q with %v", challenge, a)
	}
	if answer.ExpiresIn > 300 {
		t.Errorf("a token is good for %d s, want at most 300", answer.ExpiresIn)
	}
	return answer.Token
}

// askToken is token without an opinion of the answer.
func (n *node) askToken(t testing.TB, challenge string) answer {
	t.Helper()
	rest, bearer := strings.CutPrefix(challenge, "Bearer ")
	if !bearer {
		t.Fatalf("the challenge is %q, want Bearer", challenge)
	}
	values, realm := url.Values{}, ""
	for _, parameter := range strings.Split(rest, `",`) {
		name, value, _ := strings.Cut(strings.TrimSuffix(parameter, `"`), `="`)
		if name == "realm" {
			realm = value
		} else {
			values.Add(strings.TrimSpace(name), value)
		}
	}
	path, ours := strings.CutPrefix(realm, n.url)
	if !ours {
		t.Fatalf("the realm is %q, want one of %s", realm, n.url)
	}
	return n.ask(http.MethodGet, path+"?"+values.Encode())
}

// tokenFor asks the token service that the node names for a scope.
func (n *node) tokenFor(t testing.TB, scope string) string {
	t.Helper()
	challenge := n.as(account{}).ask(http.MethodGet, "/v2/").header.Get("WWW-Authenticate")
	return n.token(t, challenge+`,scope="`+scope+`"`)
}
