package main_test

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Canaries are secrets of every kind, each driven through all that is done with such a one.
// Nothing that the node says has any of them in it, and nothing that it keeps has one as it is
// (FAULTS C11).
func TestC11_CanarySecrets(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{tokens: startTokenServer(t, true)})
	open := startUpstream(t, upstreamConfig{dir: u.dir})
	img := recipe{seed: 360000}.make(t, "1")
	open.push(t, "team/web", img)

	const administrator, vaulted, oidc = "Canary-admin-7f3a", "Canary-vault-91bc", "Canary-oidc-44de"
	home := t.TempDir()
	admin := filepath.Join(home, "admin")
	if err := os.WriteFile(admin, []byte(administrator), 0o600); err != nil {
		t.Fatal(err)
	}
	dead := "http://" + freeAddress(t)
	upstreamOf := func(more map[string]any) map[string]any {
		more["username"], more["insecure"], more["auth_hosts"] = tokenUser, true, []string{"127.0.0.1"}
		return u.project(more)
	}
	w := startWharf(t, nodeConfig{
		plain: true,
		projects: map[string]any{
			"quay.io":  upstreamOf(map[string]any{"password": tokenSecret}),
			"gcr.io":   upstreamOf(map[string]any{"password": "Canary-wrong-5522"}),
			"down.io":  project(dead, map[string]any{"insecure": true, "username": "x", "password": "Canary-down-7711"}),
			"vault.io": upstreamOf(map[string]any{"password_secret": "quay"}),
		},
		more: map[string]any{
			"admin_password_file": admin, "url": "http://roadstead.example.com",
			"log":  map[string]any{"level": "debug"},
			"oidc": map[string]any{"issuer": dead, "client_id": "roadstead", "client_secret": oidc},
		},
	}, "developer", "guest", "puller")
	secrets := map[string]string{
		"the administrator's password": administrator, "a vaulted secret": vaulted, "the OIDC secret": oidc,
		"an upstream's password": tokenSecret, "a wrong upstream's password": "Canary-wrong-5522", "that of one that is down": "Canary-down-7711",
		"a user's password": w.members["developer"].secret, "a robot's secret": w.robot.secret, "another robot's": w.puller.secret,
		"a wrong password": "Canary-mistyped-3141", "a password in a URL": "Canary-url-2718",
	}
	said := &bytes.Buffer{} // all that clients and commands were told
	ask := func(n *node, method, path string, headers ...string) answer {
		a := n.ask(method, path, headers...)
		said.Write(a.body)
		for name, values := range a.header {
			said.WriteString(name + ": " + strings.Join(values, "\n") + "\n")
		}
		return a
	}
	value := filepath.Join(home, "value")
	if err := os.WriteFile(value, []byte(vaulted), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, environment(w.home), "/bin/sh", "-c", `exec "$0" "$@" <`+value, roadsteadCommand(t), "secret", "set", "quay", "--config", w.config)

	repo := "production/team/web"
	if err := w.as(w.members["developer"]).push(repo, img); err != nil {
		t.Fatal(err)
	}
	if a := ask(w.as(account{"admin", administrator}), http.MethodGet, "/v2/"); a.status != http.StatusOK {
		t.Errorf("the administrator of the first start: %v", a)
	}
	everybody := []account{w.root, w.robot, w.puller, w.members["developer"], {"admin", administrator}, {w.members["guest"].name, "Canary-mistyped-3141"}, {w.robot.name, "Canary-mistyped-3141"}, {"nobody\nlevel=ERROR", "Canary-mistyped-3141"}}
	for i, who := range everybody {
		n := w.as(who)
		for _, repo := range []string{repo, "other/team/web", "quay.io/team/web", "gcr.io/team/web", "down.io/team/web", "vault.io/team/web", "absent/team/web"} {
			for _, c := range calls(img)[i%3:] {
				if i >= 5 && c.method != http.MethodGet {
					continue // few failures are enough, and many are refused without a look
				}
				a, err := c.to(n, repo)
				if err != nil {
					t.Fatal(err)
				}
				said.Write(a.body)
			}
		}
		a := ask(n, http.MethodGet, "/service/token?service=x&account="+url.QueryEscape(who.name)+"&scope=repository:"+repo+":pull,push")
		if a.status == http.StatusOK {
			var token struct{ Token string }
			decode(t, a.body, &token)
			secrets["a token of "+who.name] = token.Token[strings.LastIndex(token.Token, ".")+1:]
			b := w.ask(http.MethodGet, manifestPath(repo, "1"), "Authorization: Bearer "+token.Token)
			said.Write(b.body)
			b = w.ask(http.MethodGet, manifestPath(repo, "1"), "Authorization: Bearer "+token.Token[:len(token.Token)-3])
			said.Write(b.body)
			// What a token service is for is to say one: the rest of its answer is looked at.
			said = bytes.NewBuffer(bytes.ReplaceAll(said.Bytes(), []byte(token.Token), nil))
		}
	}
	in := *w.node
	in.url = strings.Replace(w.url, "://", "://developer:Canary-url-2718@", 1)
	ask(&in, http.MethodGet, "/v2/")
	ask(w.node, http.MethodGet, "/v2/?password=Canary-url-2718&access_token=Canary-url-2718")
	ask(w.node, http.MethodGet, "/service/token?password=Canary-url-2718&refresh_token=Canary-url-2718")
	ask(w.node, http.MethodGet, "/c/oidc/login")
	ask(w.node, http.MethodGet, "/c/oidc/callback?code=Canary-url-2718&state=Canary-url-2718")
	ask(w.node, http.MethodGet, "/Canary-url-2718/../x")

	for _, args := range [][]string{
		{"user", "list"}, {"robot", "list"}, {"secret", "list"}, {"project", "list"}, {"project", "show", "production"},
		{"project", "member", "list", "production"}, {"audit", "--since", "24h"}, {"check"},
	} {
		out, err := try(environment(w.home), roadsteadCommand(t), append(args, "--config", w.config)...)
		if err != nil {
			t.Error(err)
		}
		said.Write(out)
	}
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/debug/pprof/cmdline", "/"} {
		res, err := http.Get(w.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		said.ReadFrom(res.Body)
		res.Body.Close()
	}
	w.terminate(15 * 1e9)
	log, err := os.ReadFile(w.log)
	if err != nil {
		t.Fatal(err)
	}
	// The names that were asked for are in the log: this one was asked for.
	log = bytes.ReplaceAll(log, []byte("/Canary-url-2718/"), nil)
	for what, secret := range secrets {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(":" + secret))[2:]} {
			form = strings.TrimRight(form, "=")
			form = form[:len(form)-1] // its last letter is shared with what comes after it
			for where, text := range map[string][]byte{"the log": log, "what it said": said.Bytes()} {
				if i := bytes.Index(text, []byte(form)); i >= 0 {
					t.Errorf("%s has %s: …%s…", where, what, text[max(0, i-200):min(len(text), i+200)])
				}
			}
		}
		if what == "an upstream's password" || strings.HasPrefix(what, "a token") {
			continue
		}
		inFiles(t, w.dir, what, secret)
	}
	if n := bytes.Count(log, []byte("\nlevel=ERROR")); n > 0 {
		t.Errorf("a name has made %d lines of its own in the log (FAULTS C12)", n)
	}
}

// inFiles looks for a secret as it is in all files of a data directory.
func inFiles(t *testing.T, dir, what, secret string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.Contains(path, "docker/registry/v2") {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s has %s as it is", path, what)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
