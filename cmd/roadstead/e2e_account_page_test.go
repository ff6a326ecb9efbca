package main_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// A person logs in at the provider, sees who he is, makes a secret, gives it up and logs out, by
// clicking, on every kind of screen. One node serves them all, by TLS, where its cookies are as
// strict as they get.
func TestTheAccountPageInABrowser(t *testing.T) {
	e2e(t)
	need(t, "chromium")
	need(t, "axe.min.js")
	program := need(t, "oidc-issuer")
	home := t.TempDir()
	const clientSecret = "Client-secret-of-a-browser-31"
	people := map[string]any{}
	for _, look := range everyLook {
		people["ada-"+look.String()] = map[string]any{"sub": "1815-" + look.String(), "password": "analytical",
			"email": "ada@example.com", "groups": []string{"dev", "a-group-whose-name-is-as-long-as-those-that-directories-give-to-theirs"}}
	}
	issuer, addr := freeAddress(t), freeAddress(t)
	w := startWharf(t, nodeConfig{plain: true, addr: addr, tls: true, more: map[string]any{"url": "https://" + addr, "oidc": map[string]any{
		"issuer": "http://" + issuer, "client_id": "roadstead", "client_secret": clientSecret,
		"groups": []any{map[string]any{"group": "dev", "project": "production", "role": "maintainer"}},
	}}})
	provider := start(t, home, "oidc-issuer", program, "-listen", issuer, "-users", writeJSON(t, filepath.Join(home, "users.json"), people),
		"-secret", clientSecret, "-redirects", w.url+"/c/oidc/callback")
	waitForHTTP(t, provider, http.DefaultClient, "http://"+issuer+"/.well-known/openid-configuration")
	for _, look := range everyLook {
		t.Run(look.String(), func(t *testing.T) {
			t.Parallel()
			look.trusts, look.foreign = w.ca, issuer
			visitAccount(t, w, startBrowser(t, look), "ada-"+look.String())
		})
	}
}

func visitAccount(t *testing.T, w *wharf, b *browser, name string) {
	b.open(w.url + "/c/oidc/")
	b.inspect("account-welcome")
	b.follow("main a")
	b.fill("input[name=username]", name)
	b.fill("input[name=password]", "analytical")
	b.follow("button[type=submit]")
	user := b.text("h1")
	if !strings.Contains(user, name) {
		t.Errorf("%s is greeted as %q", name, user)
	}
	for _, want := range []string{"production", "maintainer", "group dev"} {
		if table := b.text("table"); !strings.Contains(table, want) {
			t.Errorf("the roles lack %q:\n%s", want, table)
		}
	}
	b.inspect("account-new")
	b.follow("form[action$=secret] button")
	me := account{user, b.text("output")}
	b.inspect("account-secret")
	w.knows(me)
	b.follow("form[action$=remove] button")
	if text := b.text("main"); !strings.Contains(text, "You have none.") || strings.Contains(text, me.secret) {
		t.Errorf("after the secret was removed:\n%s", text)
	}
	b.follow("form[action$=logout] button")
	if title := b.text("h1"); title != "Roadstead" {
		t.Errorf("after the logout there is %q", title)
	}
	b.open(w.url + "/c/oidc/callback?state=none")
	b.inspect("account-error")
	if heard := b.complaints(); len(heard) != 1 || !strings.Contains(heard[0], "400") {
		t.Errorf("of an error page the browser says %q, want the status 400", heard)
	}
}
