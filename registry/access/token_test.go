package access

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"roadstead/registry"
)

// decoded is a part of a token.
func decoded(t *testing.T, part string) map[string]any {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func encoded(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// Every way that is known to make a verifier take somebody else's token (FAULTS B4, C16). Each
// says that it is of the administrator and good for everything.
func TestB4C16_ForgedTokens(t *testing.T) {
	h := open(t)
	_, good := h.ask(basic("admin", password), "repository:production/web:pull,push")
	parts := strings.Split(strings.TrimPrefix(good, "Bearer "), ".")
	header, body := decoded(t, parts[0]), decoded(t, parts[1])
	ours := h.keys.now.Load().newest

	if want := map[string]any{"alg": "EdDSA", "typ": "JWT", "kid": header["kid"]}; fmt.Sprint(header) != fmt.Sprint(want) || header["kid"] == "" {
		t.Errorf("header %v, want %v", header, want)
	}
	_, theirs, err := ed25519.GenerateKey(rand.Reader)
	h.must(err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err)
	der, err := x509.MarshalPKIXPublicKey(ours.public)
	h.must(err)

	// with returns the good header with changes.
	with := func(changes map[string]any) map[string]any {
		all := map[string]any{}
		for k, v := range header {
			all[k] = v
		}
		for k, v := range changes {
			if all[k] = v; v == nil {
				delete(all, k)
			}
		}
		return all
	}
	raw := func(h map[string]any, sign func(input []byte) []byte) string {
		input := encoded(h) + "." + parts[1]
		return input + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(input)))
	}
	mine := func(input []byte) []byte { return ed25519.Sign(theirs, input) }
	none := func([]byte) []byte { return nil }
	public := jose.JSONWebKey{Key: theirs.Public(), KeyID: "evil", Algorithm: "EdDSA"}
	library := func(alg jose.SignatureAlgorithm, key any, change func(*jwt.Claims)) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: header["kid"].(string)}}, (&jose.SignerOptions{}).WithType("JWT"))
		h.must(err)
		now := time.Now()
		c := jwt.Claims{Issuer: "roadstead", Audience: jwt.Audience{"roadstead"}, Subject: "admin", IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute))}
		if change != nil {
			change(&c)
		}
		token, err := jwt.Signed(signer).Claims(c).Claims(claims{Access: []grant{{"repository", "production/web", []string{"pull", "push"}}}, Kind: aUser, ID: int64(body["id"].(float64))}).Serialize()
		h.must(err)
		return token
	}
	// ourSigned signs other claims with the key of this install.
	ourSigned := func(change func(*jwt.Claims), c claims) string {
		now := time.Now()
		standard := jwt.Claims{Issuer: "roadstead", Audience: jwt.Audience{"roadstead"}, Subject: "admin", IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute))}
		change(&standard)
		token, err := jwt.Signed(ours.signer).Claims(standard).Claims(c).Serialize()
		h.must(err)
		return token
	}
	all := claims{Access: []grant{{"repository", "production/web", []string{"pull", "push"}}}, Kind: aUser, ID: int64(body["id"].(float64))}
	at := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(d)) }

	forged := map[string]string{
		"alg none":                            raw(with(map[string]any{"alg": "none"}), none),
		"alg None":                            raw(with(map[string]any{"alg": "None"}), none),
		"alg none without kid":                raw(with(map[string]any{"alg": "none", "kid": nil}), none),
		"no signature":                        parts[0] + "." + parts[1] + ".",
		"two parts":                           parts[0] + "." + parts[1],
		"HS256 with the public key":           library(jose.HS256, []byte(ours.public), nil),
		"HS256 with the public key in DER":    library(jose.HS256, der, nil),
		"ES256 under our kid":                 library(jose.ES256, curve, nil),
		"another Ed25519 key under our kid":   library(jose.EdDSA, theirs, nil),
		"jwk in the header":                   raw(with(map[string]any{"jwk": public}), mine),
		"jwk in the header, without kid":      raw(with(map[string]any{"jwk": public, "kid": nil}), mine),
		"jku":                                 raw(with(map[string]any{"jku": "https://evil.example/keys"}), mine),
		"x5u":                                 raw(with(map[string]any{"x5u": "https://evil.example/cert"}), mine),
		"x5c":                                 raw(with(map[string]any{"x5c": []string{"MIIB"}}), mine),
		"kid that is a path":                  raw(with(map[string]any{"kid": "../../signing-1.key"}), mine),
		"kid of another":                      raw(with(map[string]any{"kid": "evil"}), mine),
		"crit":                                raw(with(map[string]any{"crit": []string{"exp"}}), mine),
		"b64":                                 raw(with(map[string]any{"b64": false}), mine),
		"claims of another token":             parts[0] + "." + encoded(map[string]any{"sub": "admin", "kind": "user", "id": body["id"]}) + "." + parts[2],
		"JWE":                                 "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA",
		"JSON serialization":                  `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"nothing":                             "",
		"dots":                                "...",
		"longer than 8 KiB":                   parts[0] + "." + strings.Repeat("A", maxToken) + "." + parts[2],
		"ours, expired":                       ourSigned(func(c *jwt.Claims) { c.Expiry = at(-leeway - 2*time.Second) }, all),
		"ours, not yet":                       ourSigned(func(c *jwt.Claims) { c.NotBefore = at(leeway + 5*time.Second) }, all),
		"ours, made in the future":            ourSigned(func(c *jwt.Claims) { c.IssuedAt = at(leeway + 5*time.Second) }, all),
		"ours, without an end":                ourSigned(func(c *jwt.Claims) { c.Expiry = nil }, all),
		"ours, for another service":           ourSigned(func(c *jwt.Claims) { c.Audience = jwt.Audience{"other"} }, all),
		"ours, for no service":                ourSigned(func(c *jwt.Claims) { c.Audience = nil }, all),
		"ours, of another issuer":             ourSigned(func(c *jwt.Claims) { c.Issuer = "other" }, all),
		"ours, of an account that never was":  ourSigned(func(c *jwt.Claims) {}, claims{Access: all.Access, Kind: aUser, ID: 4711}),
		"ours, of a kind that there is not":   ourSigned(func(c *jwt.Claims) {}, claims{Access: all.Access, Kind: "root", ID: all.ID}),
		"ours, of a robot with a user's ID":   ourSigned(func(c *jwt.Claims) {}, claims{Access: all.Access, Kind: aRobot, ID: all.ID}),
		"ours, anybody's, good for something": ourSigned(func(c *jwt.Claims) { c.Subject = "admin" }, claims{Access: all.Access}),
	}
	for name, token := range forged {
		for range 2 { // the second time it may be remembered
			p := h.who("Bearer " + token)
			if got := code(h.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: web})); got != registry.Unauthorized {
				t.Errorf("%s: push: %q, want Unauthorized", name, got)
			}
			if err := h.Authorize(p, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: tool}); err != nil {
				t.Errorf("%s: pull what anybody may: %v", name, err)
			}
		}
	}
	for name, token := range map[string]string{
		"as it was made":                  strings.TrimPrefix(good, "Bearer "),
		"expired within the leeway":       ourSigned(func(c *jwt.Claims) { c.Expiry = at(-leeway / 2) }, all),
		"from a clock that is a bit fast": ourSigned(func(c *jwt.Claims) { c.IssuedAt, c.NotBefore = at(leeway/2), at(leeway/2) }, all),
	} {
		if err := h.Authorize(h.who("Bearer "+token), registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}); err != nil {
			t.Errorf("a good token, %s: %v", name, err)
		}
	}
}

// A token that is remembered ends when it ends.
func TestRememberedTokenEnds(t *testing.T) {
	h := open(t)
	_, token := h.ask(basic("admin", password), "repository:production/web:pull")
	if h.who(token).Name() != "admin" {
		t.Fatal("the token is not good")
	}
	for _, key := range h.verified.all.Keys() {
		v, _ := h.verified.all.Peek(key)
		if left := time.Until(v.until); left > tokenLife+leeway || left < tokenLife-time.Minute {
			t.Errorf("remembered for %s, want five minutes and the leeway", left)
		}
		h.verified.all.Add(key, verifiedToken{v.principal, time.Now().Add(-time.Second)})
	}
	if p := h.who(token); p.Name() != "" || code(h.Login(p)) != registry.Unauthorized {
		t.Errorf("after its end it is of %q, login: %v", p.Name(), h.Login(p))
	}
}

// Keys are made by each install, for nobody else to read (FAULTS C15).
func TestC15_KeysAreMadePerInstall(t *testing.T) {
	one, two := open(t), open(t)
	_, token := one.ask(basic("admin", password), "repository:production/web:push")
	if got := code(two.Authorize(two.who(token), registry.Push, registry.Resource{Kind: registry.Repository, Repo: web})); got != registry.Unauthorized {
		t.Errorf("a token of another install: %q, want Unauthorized", got)
	}
	one.must(one.PutSecret(t.Context(), "test", "hub", "x"))
	if mode := mode(t, one.dir, "keys"); mode != fs.ModeDir|0o700 {
		t.Errorf("directory of keys: %s, want 0700", mode)
	}
	for _, name := range []string{"signing-1.key", "vault-1.key"} {
		if mode := mode(t, one.dir, "keys", name); mode != 0o600 {
			t.Errorf("%s: %s, want 0600", name, mode)
		}
		a, err := os.ReadFile(filepath.Join(one.dir, "keys", name))
		one.must(err)
		if b, _ := os.ReadFile(filepath.Join(two.dir, "keys", name)); string(a) == string(b) {
			t.Errorf("%s is the same in two installs", name)
		}
	}
	entries, err := os.ReadDir(filepath.Join(one.dir, "keys"))
	if one.must(err); len(entries) != 2 {
		t.Errorf("%d files in the directory of keys, want 2: %v", len(entries), entries)
	}
}

func mode(t *testing.T, path ...string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// Processes that start at once in an empty directory come to the same keys and the same first user.
func TestManyOpensAtOnce(t *testing.T) {
	h := open(t)
	dir := t.TempDir()
	var (
		all  = make([]*Access, 8)
		told sync.Map
		wg   sync.WaitGroup
	)
	// An empty catalog for all of them.
	fresh := open(t, func(c *Config) { c.AdminPassword = "" })
	for i := range all {
		wg.Go(func() {
			var err error
			all[i], err = Open(t.Context(), Config{Catalog: fresh.db, Directory: dir, cost: h.config.cost, Announce: func(_, password string) { told.Store(password, true) }})
			if err != nil {
				t.Error(err)
				return
			}
			all[i].SetProjects(projects)
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	var secrets []string
	told.Range(func(k, _ any) bool { secrets = append(secrets, k.(string)); return true })
	if len(secrets) != 1 {
		t.Fatalf("%d passwords were announced, want 1", len(secrets))
	}
	for _, maker := range all {
		maker.refresh(t.Context())
		_, token := (&house{Access: maker, t: t}).ask(basic("admin", secrets[0]), "repository:production/web:push")
		for i, a := range all {
			a.refresh(t.Context())
			p, _ := a.Identify(request("/v2/", token))
			if err := a.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}); err != nil {
				t.Errorf("process %d does not take a token of another: %v", i, err)
			}
		}
	}
	wg.Go(func() { fresh.must(all[0].PutSecret(t.Context(), "test", "one", "1")) })
	wg.Go(func() { fresh.must(all[1].PutSecret(t.Context(), "test", "two", "2")) })
	wg.Wait()
	one, err := all[1].Secret(t.Context(), "one")
	two, err2 := all[0].Secret(t.Context(), "two")
	if err != nil || err2 != nil || one != "1" || two != "2" {
		t.Errorf("secrets of two processes: %q, %v and %q, %v", one, err, two, err2)
	}
}

// A key is followed by another after a month, and what it signed stays good for as long as that can
// be: also at a process that has not looked since.
func TestKeysRotate(t *testing.T) {
	h := open(t)
	other := h.again()
	made := h.keys.now.Load().newest.made
	_, old := h.ask(basic("admin", password), "repository:production/web:push")

	h.must(h.keys.tend(made.Add(rotateEvery - time.Second)))
	if n := h.keys.now.Load().newest.number; n != 1 {
		t.Fatalf("key %d signs before a month is over, want 1", n)
	}
	h.must(h.keys.tend(made.Add(rotateEvery)))
	if n := h.keys.now.Load().newest.number; n != 2 {
		t.Fatalf("key %d signs after a month, want 2", n)
	}
	_, new := h.ask(basic("admin", password), "repository:production/web:push")
	for name, token := range map[string]string{"of the old key": old, "of the new key": new} {
		for _, a := range []*Access{h.Access, other} {
			p, _ := a.Identify(request("/v2/", token))
			if err := a.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}); err != nil {
				t.Errorf("a token %s: %v", name, err)
			}
		}
	}
	// The other process would make the second key now, too, and finds it.
	h.must(other.keys.tend(made.Add(rotateEvery)))
	if a, b := other.keys.now.Load().newest, h.keys.now.Load().newest; a.number != 2 || !a.public.Equal(b.public) {
		t.Errorf("another process signs with key %d", a.number)
	}
	h.must(h.keys.tend(h.keys.now.Load().newest.made.Add(retireAfter)))
	if _, err := os.Stat(filepath.Join(h.dir, "keys", "signing-1.key")); !os.IsNotExist(err) {
		t.Errorf("the old key is still there after a day: %v", err)
	}
	if p := h.again(); code(p.Login(mustIdentify(p, old))) != registry.Unauthorized {
		t.Error("a token of a key that has gone is good")
	}
}

func mustIdentify(a *Access, authorization string) registry.Principal {
	p, err := a.Identify(request("/v2/", authorization))
	if err != nil {
		panic(err)
	}
	return p
}

// A key that cannot be read stops the start, and says what to do.
func TestDamagedKey(t *testing.T) {
	h := open(t)
	path := filepath.Join(h.dir, "keys", "signing-1.key")
	h.must(os.WriteFile(path, []byte("nonsense"), 0o600))
	_, err := Open(t.Context(), Config{Catalog: h.db, Directory: filepath.Dir(path)})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("open with a damaged key: %v, want an error that names it and says what to do", err)
	}
	// One that others can read is told of.
	h.must(os.Remove(path))
	h.again()
	h.must(os.Chmod(path, 0o644))
	var log strings.Builder
	h.again(func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if !strings.Contains(log.String(), "chmod 600") {
		t.Errorf("log of a key that others can read: %q", log.String())
	}
}
