package access

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"roadstead/registry"
)

// Whatever is in an Authorization header, it makes nobody.
func FuzzAuthorization(f *testing.F) {
	h := open(f)
	_, token := h.ask(basic("admin", password), "repository:production/web:pull")
	for _, seed := range []string{"", "Basic", "Basic Og==", "Bearer", "Bearer  ", "Bearer a.b.c", basic("robot$a+b", "x"), basic("a\x00b", "c:d"), token[:len(token)-4], "basic x", "Negotiate x", strings.Repeat("A", 9000)} {
		f.Add(seed)
	}
	parts := strings.Split(token, ".")
	f.Add(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"admin"}`)) + "." + parts[2])
	f.Fuzz(func(t *testing.T, header string) {
		if header == token || header == basic("admin", password) {
			t.Skip()
		}
		h.limits = newLimits()
		r := request("/v2/", "")
		r.Header["Authorization"] = []string{header}
		p, err := h.Identify(r)
		if err != nil {
			t.Fatal(err)
		}
		if user, pass, ok := r.BasicAuth(); ok && user == "admin" && pass == password || strings.Contains(header, strings.TrimPrefix(token, "Bearer ")) {
			t.Skip() // another way to write the right ones
		}
		if p.Name() != "" {
			t.Errorf("%q is %q", header, p.Name())
		}
		if err := h.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}); err == nil {
			t.Errorf("%q may push", header)
		}
	})
}

// Whatever scopes are asked for, a token gives nobody more than he may, and is one that is taken.
func FuzzScopes(f *testing.F) {
	h := open(f)
	for _, seed := range []string{"", "repository:production/web:pull,push", "repository:public/tool:*", "registry:catalog:*", "a:b:c", ":::", "repository:a:b:c:pull",
		"repository(plugin):x/y:pull", "repository:public/tool:pull repository:production/web:pull", "repository:../..:pull", "repository:\"},{\"type\":pull"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, scope string) {
		h := &house{Access: h.Access, t: t}
		w, token := h.ask("", scope)
		if w.Code == http.StatusBadRequest && len(scope) > 1000 {
			return // a query that is too long
		}
		if w.Code != http.StatusOK {
			t.Fatalf("%q: %d %s", scope, w.Code, w.Body)
		}
		p := h.identify(request("/v2/", token))
		if p.refusal != nil {
			t.Fatalf("%q: the token is not taken: %v", scope, p.refusal)
		}
		for repo, verbs := range p.grants.verbs {
			if project := repo.Project; project != "public" && project != "docker.io" || strings.Join(verbs, "") != strings.Repeat("pull", len(verbs)) {
				t.Errorf("%q: anybody may %q in %s", scope, verbs, repo)
			}
		}
		if h.Authorize(p, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: web}) == nil {
			t.Errorf("%q: anybody may pull from a private project", scope)
		}
	})
}
