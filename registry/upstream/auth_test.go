package upstream

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

// tokenLine is a token request as it is logged.
func tokenLine(repo string) string {
	return "GET /token?scope=repository:" + repo + ":pull&service=registrytest"
}

func TestPullCostsOneToken(t *testing.T) {
	up := registrytest.New(t)
	up.Require(registrytest.Auth{Anonymous: true, Scoped: true})
	image := up.PutImage("a", "1", []byte("x"))
	blob := up.PutBlob("a", []byte("x"))
	up.PutImage("b", "1", []byte("x"))
	r := open(t, Config{}, up)
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), repo("a"), image); err != nil {
		t.Fatal(err)
	}
	if _, err := all(r, "a", blob); err != nil {
		t.Fatal(err)
	}
	wants(t, up,
		"HEAD /v2/a/manifests/1", // 401, the only one: from now on it is known what is wanted
		tokenLine("a"),
		"HEAD /v2/a/manifests/1",
		"GET /v2/a/manifests/"+image.String(),
		"GET /v2/a/blobs/"+blob.String(),
	)
	up.Reset()
	if _, err := r.Resolve(t.Context(), repo("b"), "1"); err != nil {
		t.Fatal(err)
	}
	wants(t, up, tokenLine("b"), "HEAD /v2/b/manifests/1")
	if n := up.Connections(); n != 1 {
		t.Errorf("%d connections, want 1: answers must be read to their end", n)
	}
}

func TestTokenIsAskedForOnce(t *testing.T) {
	up := registrytest.New(t)
	up.Require(registrytest.Auth{Anonymous: true})
	blob := up.PutBlob("a", []byte("x"))
	r := open(t, Config{}, up)
	if _, err := all(r, "a", blob); err != nil { // learns the challenge
		t.Fatal(err)
	}
	up.PutBlob("b", []byte("x"))
	release := make(chan struct{})
	up.Fail("/token", 0, registrytest.Hold(release))
	up.Reset()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := all(r, "b", blob); err != nil {
				t.Error(err)
			}
		})
	}
	for up.Count("/token") == 0 {
		time.Sleep(time.Millisecond) // one of them is about to ask
	}
	close(release)
	wg.Wait()
	if n := up.Count("/token"); n != 1 {
		t.Errorf("%d token requests for 20 pulls, want 1", n)
	}
}

func TestAuthentication(t *testing.T) {
	const head = "HEAD /v2/a/manifests/1"
	password := Credentials{Username: "u", Password: "hunter2"}
	expiring := func(in any) func(string) map[string]any {
		return func(token string) map[string]any { return map[string]any{"token": token, "expires_in": in} }
	}
	for _, row := range []struct {
		name     string
		auth     registrytest.Auth
		who      Credentials
		fail     func(up *registrytest.Registry)
		want     registry.Code // none: the tag resolves
		requests []string
	}{
		{name: "Basic", auth: registrytest.Auth{Basic: true, Username: "u", Password: "hunter2"}, who: password,
			requests: []string{head, head}},
		{name: "Basic without credentials", auth: registrytest.Auth{Basic: true, Username: "u", Password: "hunter2"},
			want: registry.Denied, requests: []string{head}},
		{name: "U4 Basic with wrong credentials", auth: registrytest.Auth{Basic: true, Username: "u", Password: "other"}, who: password,
			want: registry.Denied, requests: []string{head, head}},
		{name: "token with a password", auth: registrytest.Auth{Username: "u", Password: "hunter2"}, who: password,
			requests: []string{head, tokenLine("a"), head}},
		{name: "token with a wrong password", auth: registrytest.Auth{Username: "u", Password: "other"}, who: password,
			want: registry.Denied, requests: []string{head, tokenLine("a")}},
		{name: "token for nobody where anonymous is not served", auth: registrytest.Auth{Username: "u", Password: "other"},
			want: registry.Denied, requests: []string{head, tokenLine("a")}},
		{name: "identity token", auth: registrytest.Auth{Identity: "hunter2"}, who: Credentials{Username: "<token>", Password: "hunter2"},
			requests: []string{head, "POST /token", head}},
		{name: "access_token", auth: registrytest.Auth{Anonymous: true, Token: func(token string) map[string]any {
			return map[string]any{"access_token": token}
		}}, requests: []string{head, tokenLine("a"), head}},
		{name: "U4 403 after good credentials", auth: registrytest.Auth{Username: "u", Password: "hunter2"}, who: password,
			fail: func(up *registrytest.Registry) {
				up.Fail(head, 1, registrytest.Header())
				up.Fail(head, 0, registrytest.Status(403))
			},
			want: registry.Denied, requests: []string{head, tokenLine("a"), head}},
		{name: "U4 401 whatever the token", auth: registrytest.Auth{Anonymous: true, Uses: -1},
			want: registry.Denied, requests: []string{head, tokenLine("a"), head, tokenLine("a"), head}},
		{name: "U4 a token that is refused once is replaced once", auth: registrytest.Auth{Anonymous: true},
			fail: func(up *registrytest.Registry) {
				up.Fail(head, 1, registrytest.Header())
				up.Fail(head, 1, registrytest.Status(401, "WWW-Authenticate", `Bearer realm="`+up.URL()+`/token",service="registrytest"`))
			},
			requests: []string{head, tokenLine("a"), head, tokenLine("a"), head}},
		{name: "401 without a challenge", fail: func(up *registrytest.Registry) { up.Fail(head, 0, registrytest.Status(401)) },
			want: registry.Denied, requests: []string{head}},
		{name: "401 with an unknown challenge", auth: registrytest.Auth{Challenge: "Negotiate"},
			want: registry.Denied, requests: []string{head}},
		{name: "U20 expires_in 0", auth: registrytest.Auth{Anonymous: true, Token: expiring(0)},
			requests: []string{head, tokenLine("a"), head}},
		{name: "U20 expires_in negative", auth: registrytest.Auth{Anonymous: true, Token: expiring(-1e300)},
			requests: []string{head, tokenLine("a"), head}},
		{name: "U20 expires_in beyond all time", auth: registrytest.Auth{Anonymous: true, Token: expiring(1e300)},
			requests: []string{head, tokenLine("a"), head}},
		{name: "U20 expires_in as text", auth: registrytest.Auth{Anonymous: true, Token: expiring("300")},
			requests: []string{head, tokenLine("a"), head}},
		{name: "U20 expires_in of no sense", auth: registrytest.Auth{Anonymous: true, Token: expiring([]string{"soon"})},
			requests: []string{head, tokenLine("a"), head}},
		{name: "U20 issued long ago and in another century", auth: registrytest.Auth{Anonymous: true, Token: func(token string) map[string]any {
			return map[string]any{"token": token, "expires_in": 300, "issued_at": "1970-01-01T00:00:00Z"}
		}}, requests: []string{head, tokenLine("a"), head}},
		{name: "an answer without a token", auth: registrytest.Auth{Anonymous: true, Token: func(string) map[string]any { return nil }},
			want: registry.Unavailable, requests: []string{head, tokenLine("a")}},
		{name: "a token that would end the header", auth: registrytest.Auth{Anonymous: true, Token: func(string) map[string]any {
			return map[string]any{"token": "a\r\nX-Evil: b"}
		}}, want: registry.Unavailable, requests: []string{head, tokenLine("a")}},
		{name: "U13 a portal for a token service", auth: registrytest.Auth{Anonymous: true},
			fail: func(up *registrytest.Registry) { up.Fail("/token", 0, registrytest.HTML()) },
			want: registry.Unavailable, requests: []string{head, tokenLine("a")}},
		{name: "A7 a token without end", auth: registrytest.Auth{Anonymous: true},
			fail: func(up *registrytest.Registry) {
				up.Fail("/token", 0, registrytest.Answer("application/json", `{"token":"`+strings.Repeat("a", 1<<20)+`"}`))
			},
			want: registry.Unavailable, requests: []string{head, tokenLine("a")}},
		{name: "U7 token service broken once", auth: registrytest.Auth{Anonymous: true},
			fail:     func(up *registrytest.Registry) { up.Fail("/token", 1, registrytest.Status(503)) },
			requests: []string{head, tokenLine("a"), tokenLine("a"), head}},
		{name: "token service has nothing at its address", auth: registrytest.Auth{Anonymous: true},
			fail: func(up *registrytest.Registry) { up.Fail("/token", 0, registrytest.Status(404)) },
			want: registry.Unavailable, requests: []string{head, tokenLine("a")}},
		{name: "U6 token service throttles", auth: registrytest.Auth{Anonymous: true},
			fail: func(up *registrytest.Registry) { up.Fail("/token", 0, registrytest.Status(429, "Retry-After", "7")) },
			want: registry.Throttled, requests: []string{head, tokenLine("a")}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			image := up.PutImage("a", "1", []byte("x"))
			if row.auth.Basic || row.auth.Anonymous || row.auth.Username != "" || row.auth.Identity != "" || row.auth.Challenge != "" {
				up.Require(row.auth)
			}
			if row.fail != nil {
				row.fail(up)
			}
			r := open(t, Config{Credentials: row.who}, up)
			d, err := r.Resolve(t.Context(), repo("a"), "1")
			if row.want == "" && (err != nil || d.Digest != image) {
				t.Errorf("got %v, %v", d, err)
			}
			if row.want != "" {
				f := fault(t, err, row.want)
				if !strings.Contains(f.Message, "example.com") {
					t.Errorf("message %q does not name the upstream", f.Message)
				}
				if text := err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, "token-") {
					t.Errorf("error %q shows a secret", text)
				}
			}
			wants(t, up, row.requests...)
		})
	}
}

// TestWrongCredentialsAreNotTriedByAHerd is U4: no storm, and no locked account.
func TestWrongCredentialsAreNotTriedByAHerd(t *testing.T) {
	up := registrytest.New(t)
	up.Require(registrytest.Auth{Username: "u", Password: "other"})
	r := open(t, Config{Credentials: Credentials{Username: "u", Password: "hunter2"}}, up)
	for range 10 {
		_, err := r.Resolve(t.Context(), repo("a"), "1")
		fault(t, err, registry.Denied)
	}
	wants(t, up, "HEAD /v2/a/manifests/1", tokenLine("a"))
}

func TestConstantScope(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("a", "1", []byte("x"))
	up.PutImage("b", "1", []byte("x"))
	up.Require(registrytest.Auth{Anonymous: true, Challenge: fmt.Sprintf(`Bearer realm="%s/token",service="ecr",scope="aws"`, up.URL())})
	r := open(t, Config{}, up)
	for _, name := range []string{"a", "b"} {
		if _, err := r.Resolve(t.Context(), repo(name), "1"); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, up, "HEAD /v2/a/manifests/1", "GET /token?scope=aws&service=ecr", "HEAD /v2/a/manifests/1", "HEAD /v2/b/manifests/1")
}

func TestChallengeChangesItsMind(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("a", "1", []byte("x"))
	up.Require(registrytest.Auth{Username: "u", Password: "p"})
	r := open(t, Config{Credentials: Credentials{Username: "u", Password: "p"}}, up)
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
	up.Require(registrytest.Auth{Basic: true, Username: "u", Password: "p"})
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
	up.Require(registrytest.Auth{Username: "u", Password: "p"})
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
}

func TestPasswordFile(t *testing.T) {
	for _, basic := range []bool{true, false} {
		t.Run(fmt.Sprintf("basic %t", basic), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "password")
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("first\r\n")
			up := registrytest.New(t)
			up.PutImage("a", "1", []byte("x"))
			up.Require(registrytest.Auth{Basic: basic, Username: "u", Password: "first"})
			r := open(t, Config{Credentials: Credentials{Username: "u", PasswordFile: file}}, up)
			if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
				t.Fatal(err)
			}
			// The password is changed on both sides, and nobody tells us.
			write("second\n")
			up.Require(registrytest.Auth{Basic: basic, Username: "u", Password: "second"})
			_, err := r.Resolve(t.Context(), repo("a"), "1")
			if basic && err != nil {
				t.Errorf("a changed file was not read again: %v", err)
			}
			if !basic {
				// The token service says no to the old password once; that makes it read.
				fault(t, err, registry.Denied)
				if s, err := r.keys.secret(t.Context(), up.Host()); err != nil || s.password != "second" {
					t.Errorf("password %q, %v", s.password, err)
				}
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			r.keys.fetched = shared[secret]{}
			if basic {
				_, err = r.Resolve(t.Context(), repo("a"), "1")
				fault(t, err, registry.Unavailable)
			}
		})
	}
}

// helper puts a credential helper on the PATH that runs this shell script.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\n" + script
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestHelper(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, row := range []struct {
		name   string
		script string // $log is where it writes what it was asked
		auth   registrytest.Auth
		want   registry.Code
		asked  int    // how often the helper ran for two questions
		says   string // in the error for the log
	}{
		{"a password", `echo "$1 $(cat)" >>"$log"; echo '{"ServerURL":"x","Username":"u","Secret":"hunter2"}'`,
			registrytest.Auth{Username: "u", Password: "hunter2"}, "", 1, ""},
		{"an identity token", `echo "$1 $(cat)" >>"$log"; echo '{"Username":"<token>","Secret":"hunter2"}'`,
			registrytest.Auth{Identity: "hunter2"}, "", 1, ""},
		{"Basic, as ECR", `echo "$1 $(cat)" >>"$log"; echo '{"Username":"AWS","Secret":"hunter2"}'`,
			registrytest.Auth{Basic: true, Username: "AWS", Password: "hunter2"}, "", 1, ""},
		{"Basic that has changed since", `echo "$1 $(cat)" >>"$log"; echo "{\"Username\":\"AWS\",\"Secret\":\"$(wc -l <"$log" | tr -d ' ')\"}"`,
			registrytest.Auth{Basic: true, Username: "AWS", Password: "2"}, "", 2, ""},
		{"none", `echo "$1 $(cat)" >>"$log"; echo "credentials not found in native keychain"; exit 1`,
			registrytest.Auth{Username: "u", Password: "p"}, registry.Unavailable, 1, "credentials not found in native keychain"},
		{"an error on standard error", `echo "$1 $(cat)" >>"$log"; echo "no region
second line" >&2; exit 2`,
			registrytest.Auth{Username: "u", Password: "p"}, registry.Unavailable, 1, `"no region"`},
		{"no JSON", `echo "$1 $(cat)" >>"$log"; echo hunter2`,
			registrytest.Auth{Username: "u", Password: "p"}, registry.Unavailable, 1, "not JSON"},
		{"no secret", `echo "$1 $(cat)" >>"$log"; echo '{"Username":"u"}'`,
			registrytest.Auth{Username: "u", Password: "p"}, registry.Unavailable, 1, "no secret"},
		{"output without end", `echo "$1 $(cat)" >>"$log"; yes`,
			registrytest.Auth{Username: "u", Password: "p"}, registry.Unavailable, 1, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			helper(t, "test", "log='"+log+"'\n"+row.script+"\n")
			up := registrytest.New(t)
			up.PutImage("a", "1", []byte("x"))
			up.PutImage("b", "1", []byte("x"))
			up.Require(row.auth)
			r := open(t, Config{Credentials: Credentials{Helper: "test"}}, up)
			for _, name := range []string{"a", "b"} {
				_, err := r.Resolve(t.Context(), repo(name), "1")
				if row.want == "" && err != nil {
					t.Error(err)
				}
				if row.want != "" {
					f := fault(t, err, row.want)
					if !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "hunter2") || strings.Contains(f.Message, "docker-credential") {
						t.Errorf("error %q with message %q, want %q in the error only", err, f.Message, row.says)
					}
				}
			}
			b, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(b), strings.Repeat("get "+up.Host()+"\n", row.asked); got != want {
				t.Errorf("the helper was asked %q, want %q", got, want)
			}
		})
	}
}

func TestHelperKey(t *testing.T) {
	for host, want := range map[string]string{
		"registry-1.docker.io":  "https://index.docker.io/v1/",
		"quay.io":               "quay.io",
		"registry.example:5000": "registry.example:5000",
	} {
		if got := helperKey(host); got != want {
			t.Errorf("a helper is asked for %s, want %s", got, want)
		}
	}
}

// TestRealm is A2: where a token service may be, and what it gets to see.
func TestRealm(t *testing.T) {
	authority := registrytest.NewAuthority(t)
	names, resolver := registrytest.NewNames(t)
	hosts := []string{"registry.roadstead.example", "auth.roadstead.example", "auth.other.example"}
	for _, h := range hosts {
		names.Put(h, "127.0.0.1")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	// named is a registry's URL by another name.
	named := func(r *registrytest.Registry, host string) string {
		u, err := url.Parse(r.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.Host = host + ":" + u.Port()
		return u.String()
	}
	for _, row := range []struct {
		name      string
		plain     bool   // the upstream has no TLS
		plainAuth bool   // nor has the token service
		realm     string // host
		path      string // of the realm, if not /token
		authHosts []string
		anonymous bool // the token service gives tokens to anybody
		want      registry.Code
		sees      bool // the token service got the credentials
		asked     bool // the token service was asked at all
		says      string
	}{
		{name: "the same registrable domain over TLS", realm: hosts[1], sees: true, asked: true},
		{name: "the same host on another port", realm: hosts[0], sees: true, asked: true},
		{name: "another domain", realm: hosts[2], want: registry.Denied, asked: true, says: "auth_hosts"},
		{name: "another domain that gives anonymous tokens", realm: hosts[2], anonymous: true, asked: true},
		{name: "another domain that the configuration names", realm: hosts[2], authHosts: []string{"Auth.Other.example"}, sees: true, asked: true},
		{name: "one whose neighbour the configuration names", realm: hosts[2], authHosts: []string{"other.example"}, want: registry.Denied, asked: true},
		{name: "http while the upstream is https", realm: hosts[1], plainAuth: true, want: registry.Unavailable},
		{name: "http on the same host while the upstream is https", realm: hosts[0], plainAuth: true, want: registry.Unavailable},
		{name: "http and named, while the upstream is https", realm: hosts[2], plainAuth: true, authHosts: []string{hosts[2]}, want: registry.Unavailable},
		{name: "http everywhere on the same host", plain: true, plainAuth: true, realm: hosts[0], sees: true, asked: true},
		{name: "http everywhere on the same domain", plain: true, plainAuth: true, realm: hosts[1], want: registry.Denied, asked: true},
		{name: "https for an http upstream, same domain", plain: true, realm: hosts[1], sees: true, asked: true},
		{name: "an address beside another one", realm: "127.0.0.1", want: registry.Denied, asked: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := func(plain bool) registrytest.Options {
				if plain {
					return registrytest.Options{}
				}
				return registrytest.Options{TLS: authority.Server(registrytest.Leaf{Names: hosts})}
			}
			up, auth := registrytest.Listen(t, options(row.plain)), registrytest.Listen(t, options(row.plainAuth))
			up.PutImage("a", "1", []byte("x"))
			auth.Require(registrytest.Auth{Username: "u", Password: "hunter2", Anonymous: row.anonymous})
			up.Require(registrytest.Auth{Realm: named(auth, row.realm) + "/token", Issuer: auth})
			r := open(t, Config{
				Endpoints: []string{named(up, hosts[0])}, CAFile: ca, Resolver: resolver,
				Credentials: Credentials{Username: "u", Password: "hunter2"}, AuthHosts: row.authHosts,
			})
			_, err := r.Resolve(t.Context(), repo("a"), "1")
			if row.want == "" && err != nil {
				t.Error(err)
			}
			if row.want != "" {
				f := fault(t, err, row.want)
				if !strings.Contains(f.Message, row.says) || row.says != "" && !strings.Contains(f.Error(), row.realm) {
					t.Errorf("message %q and error %q, want %q and the host in them", f.Message, f, row.says)
				}
			}
			if got := len(auth.Secrets()) > 0; got != row.sees {
				t.Errorf("the token service saw the credentials: %t, want %t", got, row.sees)
			}
			if got := len(auth.Requests()) > 0; got != row.asked {
				t.Errorf("the token service was asked: %t, want %t", got, row.asked)
			}
		})
	}
	for _, row := range []struct{ name, realm string }{
		{"no URL", ":"},
		{"empty", ""},
		{"relative", "/token"},
		{"another scheme", "file:///etc/passwd"},
		{"a user in it", "https://u:p@auth.roadstead.example/token"},
		{"no host", "https:///token"},
	} {
		t.Run("A2 realm is "+row.name, func(t *testing.T) {
			up := registrytest.New(t)
			up.Require(registrytest.Auth{Challenge: fmt.Sprintf("Bearer realm=%q", row.realm)})
			r := open(t, Config{}, up)
			_, err := r.Resolve(t.Context(), repo("a"), "1")
			fault(t, err, registry.Unavailable)
			wants(t, up, "HEAD /v2/a/manifests/1")
		})
	}
}

// TestTokenServiceRedirects is A1 for token services: a GET may be sent elsewhere, and then
// without the password; a body goes nowhere else.
func TestTokenServiceRedirects(t *testing.T) {
	for _, row := range []struct {
		name string
		who  Credentials
		want registry.Code
		seen []string // by the sentinel
	}{
		{"a password by GET", Credentials{Username: "u", Password: "hunter2"}, registry.Denied, []string{tokenLine("a")}},
		{"an identity token by POST", Credentials{Username: "<token>", Password: "hunter2"}, registry.Unavailable, []string{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up, sentinel := registrytest.New(t), registrytest.New(t)
			up.PutImage("a", "1", []byte("x"))
			up.Require(registrytest.Auth{Username: "u", Password: "hunter2", Identity: "hunter2"})
			sentinel.Require(registrytest.Auth{Username: "u", Password: "hunter2"})
			up.Fail("/token", 0, registrytest.Redirect(sentinel.URL()))
			r := open(t, Config{Credentials: row.who}, up)
			_, err := r.Resolve(t.Context(), repo("a"), "1")
			fault(t, err, row.want)
			wants(t, sentinel, row.seen...)
			if got := sentinel.Secrets(); len(got) > 0 {
				t.Errorf("secrets left in %q", got)
			}
		})
	}
}

func TestTrusts(t *testing.T) {
	for _, row := range []struct {
		endpoint, realm string
		want            bool
	}{
		{"https://registry-1.docker.io", "https://auth.docker.io/token", true},
		{"https://registry.redhat.io", "https://sso.redhat.com/auth", false},
		{"https://quay.io", "https://quay.io/v2/auth", true},
		{"https://QUAY.io", "https://quay.IO/v2/auth", true},
		{"https://docker.io", "https://docker.io.evil.example/token", false},
		{"https://alice.github.io", "https://mallory.github.io/token", false},
		{"https://a.co.uk", "https://b.co.uk/token", false},
		{"https://10.0.0.1", "https://11.0.0.1/token", false},
		{"https://127.0.0.1:5000", "https://127.0.0.1:5001/token", true},
		{"https://1.127.1", "https://2.127.1/token", false},
		{"https://[::1]", "https://[::2]/token", false},
		{"https://registry", "https://auth/token", false},
		{"https://registry.corp.internal", "https://auth.corp.internal/token", true},
	} {
		r := &Registry{}
		if err := r.addEndpoints([]string{row.endpoint}); err != nil {
			t.Fatal(err)
		}
		realm, err := url.Parse(row.realm)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.endpoints[0].trusts(realm); got != row.want {
			t.Errorf("%s trusts %s: %t, want %t", row.endpoint, row.realm, got, row.want)
		}
	}
}

func TestParseTokenLives(t *testing.T) {
	for _, row := range []struct {
		body string
		want string
	}{
		{`{"token":"a"}`, "54s"},
		{`{"token":"a","expires_in":5}`, "54s"},
		{`{"token":"a","expires_in":300}`, "4m30s"},
		{`{"token":"a","expires_in":"3600"}`, "59m30s"},
		{`{"token":"a","expires_in":1e18}`, "11h59m30s"},
		{`{"token":"a","expires_in":null}`, "54s"},
	} {
		_, life, err := parseToken([]byte(row.body))
		if err != nil || life.String() != row.want {
			t.Errorf("%s is used for %s, %v, want %s", row.body, life, err, row.want)
		}
	}
}

// TestTokenServiceMoves is a token service that is gone, while the endpoint knows the new one.
func TestTokenServiceMoves(t *testing.T) {
	up, old, moved := registrytest.New(t), registrytest.New(t), registrytest.New(t)
	up.PutImage("a", "1", []byte("x"))
	up.PutImage("b", "1", []byte("x"))
	old.Require(registrytest.Auth{Anonymous: true})
	moved.Require(registrytest.Auth{Anonymous: true})
	up.Require(registrytest.Auth{Realm: old.URL() + "/token", Issuer: old})
	r := open(t, Config{}, up)
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
	old.Stop()
	up.Require(registrytest.Auth{Realm: moved.URL() + "/token", Issuer: moved})
	_, err := r.Resolve(t.Context(), repo("b"), "1")
	fault(t, err, registry.Unavailable)
	if _, err := r.Resolve(t.Context(), repo("b"), "1"); err != nil {
		t.Errorf("the new token service is not found: %v", err)
	}
}

// TestHelperHangs is U19 for credential helpers.
func TestHelperHangs(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	helper(t, "hangs", "exec sleep 60\n")
	up := registrytest.New(t)
	up.Require(registrytest.Auth{Username: "u", Password: "p"})
	r := open(t, Config{Timeout: 300 * time.Millisecond, Credentials: Credentials{Helper: "hangs"}}, up)
	begun := time.Now()
	_, err := r.Resolve(t.Context(), repo("a"), "1")
	if f := fault(t, err, registry.Unavailable); !f.Timeout {
		t.Errorf("fault %+v is no timeout", f)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}
