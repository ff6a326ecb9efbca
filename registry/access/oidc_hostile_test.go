package access

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"roadstead/registry"
)

// lair is an OIDC provider that answers what no honest one does. What honest ones do is tested
// with one.
type lair struct {
	*httptest.Server
	key      ed25519.PrivateKey
	document map[string]any // the discovery document
	token    string         // the ID token that every code is exchanged for
	info     map[string]any // what the UserInfo endpoint says
	answer   http.HandlerFunc
	asked    atomic.Int32
}

const hostileSecret = "the secret of a client, 32 bytes" // long enough to be the key of a MAC

func newLair(t *testing.T) *lair {
	t.Helper()
	l := &lair{}
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	l.key = key
	mux := http.NewServeMux()
	send := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			l.asked.Add(1)
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(v); err != nil {
				t.Error(err)
			}
		}
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) { send(l.document)(w, r) })
	mux.HandleFunc("/keys", send(map[string]any{"keys": []any{map[string]any{
		"kty": "OKP", "crv": "Ed25519", "kid": "1", "alg": "EdDSA", "use": "sig", "x": base64.RawURLEncoding.EncodeToString(public),
	}}}))
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		if l.answer != nil {
			l.answer(w, r)
			return
		}
		send(map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": l.token})(w, r)
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, r *http.Request) { send(l.info)(w, r) })
	l.Server = httptest.NewServer(mux)
	t.Cleanup(l.Close)
	l.document = map[string]any{
		"issuer": l.URL, "authorization_endpoint": l.URL + "/auth", "token_endpoint": l.URL + "/token", "jwks_uri": l.URL + "/keys",
		"id_token_signing_alg_values_supported": []string{"EdDSA", "HS256", "none"},
	}
	return l
}

// claims are those of an ID token that is right, with others over them.
func (l *lair) claims(others map[string]any) map[string]any {
	c := map[string]any{
		"iss": l.URL, "aud": "roadstead", "sub": "1", "nonce": "n", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"preferred_username": "ada", "email": "ada@example.com", "groups": []string{"dev"},
	}
	maps.Copy(c, others)
	return c
}

func (l *lair) signed(t *testing.T, header, claims map[string]any, sign func(string) []byte) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text))
}

func (l *lair) sign(text string) []byte { return ed25519.Sign(l.key, []byte(text)) }

var eddsa = map[string]any{"alg": "EdDSA", "kid": "1"}

// exchange does what a callback does.
func (l *lair) exchange(t *testing.T) (identity, error) {
	t.Helper()
	p, err := newProvider(&OIDC{Issuer: l.URL, ClientID: "roadstead", ClientSecret: hostileSecret})
	if err != nil {
		t.Fatal(err)
	}
	q := &portal{provider: p}
	return p.exchange(httptest.NewRequest(http.MethodGet, callbackPath, nil), q.oauth, flow{Nonce: "n", Verifier: oauth2.GenerateVerifier()}, "code")
}

func TestC16_AnIDTokenThatIsNotRightIsNobodys(t *testing.T) {
	l := newLair(t)
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, []byte(hostileSecret))
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	with := func(name string, value any) string {
		return l.signed(t, eddsa, l.claims(map[string]any{name: value}), l.sign)
	}
	for _, tt := range []struct {
		name, token string
		right       bool
	}{
		{"right", with("sub", "1"), true},
		{"for us and asked for by us", l.signed(t, eddsa, l.claims(map[string]any{"aud": []string{"roadstead", "other"}, "azp": "roadstead"}), l.sign), true},
		{"none", "", false},
		{"no token", "a.b.c", false},
		{"another issuer", with("iss", "https://login.example.com"), false},
		{"for another client", with("aud", "other"), false},
		{"for us, asked for by another client", with("azp", "other"), false},
		{"for several, and nobody says who asked", with("aud", []string{"roadstead", "other"}), false},
		{"expired", with("exp", time.Now().Add(-time.Minute).Unix()), false},
		{"not valid yet", with("nbf", time.Now().Add(time.Hour).Unix()), false},
		{"another nonce", with("nonce", "m"), false},
		{"no nonce", with("nonce", ""), false},
		{"no subject", with("sub", ""), false},
		{"endless subject", with("sub", strings.Repeat("1", 300)), false},
		{"unsigned", l.signed(t, map[string]any{"alg": "none"}, l.claims(nil), func(string) []byte { return nil }), false},
		{"a MAC with the client secret", l.signed(t, map[string]any{"alg": "HS256"}, l.claims(nil), mac), false},
		{"a MAC with the public key", l.signed(t, map[string]any{"alg": "HS256", "kid": "1"}, l.claims(nil), func(text string) []byte {
			h := hmac.New(sha256.New, l.key.Public().(ed25519.PublicKey))
			h.Write([]byte(text))
			return h.Sum(nil)
		}), false},
		{"a stranger's key", l.signed(t, eddsa, l.claims(nil), func(text string) []byte { return ed25519.Sign(stranger, []byte(text)) }), false},
		{"a key that the token brings along", l.signed(t, map[string]any{"alg": "EdDSA", "jwk": map[string]any{
			"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(stranger.Public().(ed25519.PublicKey)),
		}}, l.claims(nil), func(text string) []byte { return ed25519.Sign(stranger, []byte(text)) }), false},
	} {
		l.token = tt.token
		got, err := l.exchange(t)
		switch {
		case tt.right && (err != nil || got.subject != "1" || got.name != "ada"):
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		case !tt.right && !errors.Is(err, registry.Denied):
			t.Errorf("%s: %+v, %v; want %v", tt.name, got, err, registry.Denied)
		}
	}
}

func TestTheClaimsOfAnotherUserAreRefused(t *testing.T) {
	l := newLair(t)
	l.document["userinfo_endpoint"] = l.URL + "/userinfo"
	l.token = l.signed(t, eddsa, map[string]any{"iss": l.URL, "aud": "roadstead", "sub": "1", "nonce": "n", "exp": time.Now().Add(time.Hour).Unix()}, l.sign)
	l.info = map[string]any{"sub": "1", "preferred_username": "ada", "groups": []string{"dev"}, "iss": "elsewhere"}
	got, err := l.exchange(t)
	if err != nil || got.name != "ada" || len(got.groups) != 1 || got.issuer != l.URL {
		t.Errorf("%+v, %v; want ada of dev", got, err)
	}
	l.info["sub"] = "2"
	if got, err := l.exchange(t); !errors.Is(err, registry.Denied) {
		t.Errorf("%+v, %v; want %v", got, err, registry.Denied)
	}
}

func TestC11_AProviderThatRepeatsTheSecretIsNotRepeated(t *testing.T) {
	l := newLair(t)
	for _, answer := range []string{
		hostileSecret,
		`{"error": "invalid_grant", "error_description": "` + hostileSecret + `", "error_uri": "https://example.com/?` + hostileSecret + `"}`,
	} {
		for status, want := range map[int]registry.Code{400: registry.Denied, 401: registry.Denied, 503: registry.Unavailable} {
			l.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				fmt.Fprint(w, answer)
			}
			_, err := l.exchange(t)
			if !errors.Is(err, want) {
				t.Errorf("%d %s: %v, want %v", status, answer, err, want)
			}
			if strings.Contains(fmt.Sprintf("%+v", err), hostileSecret) {
				t.Errorf("the error repeats the secret: %v", err)
			}
		}
	}
}

func TestNothingGoesElsewhereThanToTheProvider(t *testing.T) {
	var reached atomic.Int32
	sentinel := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer sentinel.Close()

	l := newLair(t)
	l.token = l.signed(t, eddsa, l.claims(nil), l.sign)
	answers := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": "at", "token_type": "Bearer", "id_token": %q}`, l.token)
	}
	for _, tt := range []struct {
		name string
		why  string // what the error says
		lead func()
	}{
		{"the token endpoint redirects to another host", "refused it without a reason", func() {
			l.answer = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, sentinel.URL, http.StatusTemporaryRedirect)
			}
		}},
		{"the token endpoint redirects to itself", "refused it without a reason", func() {
			l.answer = func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery != "" {
					answers(w, r)
					return
				}
				http.Redirect(w, r, "/token?again", http.StatusTemporaryRedirect)
			}
		}},
		{"plain http for keys", "is not https", func() { l.document["jwks_uri"] = "http://keys.example.com/" }},
		{"plain http for tokens", "is not https", func() { l.document["token_endpoint"] = "http://token.example.com/" }},
		{"plain http for claims", "is not https", func() { l.document["userinfo_endpoint"] = "http://info.example.com/" }},
		{"plain http for browsers", "is not https", func() { l.document["authorization_endpoint"] = "http://auth.example.com/" }},
		{"no endpoint for tokens", "is not https", func() { delete(l.document, "token_endpoint") }},
		{"another issuer", "did not match", func() { l.document["issuer"] = "https://login.example.com" }},
		{"an endless document", errTooLong.Error(), func() { l.document["more"] = strings.Repeat("a", answerLimit) }},
	} {
		before := maps.Clone(l.document)
		tt.lead()
		if got, err := l.exchange(t); err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %+v, %v; want an error with %q", tt.name, got, err, tt.why)
		}
		l.document, l.answer = before, nil
	}
	if _, err := l.exchange(t); err != nil {
		t.Errorf("what was refused was not all that was wrong: %v", err)
	}

	p, err := newProvider(&OIDC{Issuer: l.URL, ClientID: "roadstead"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if resp, err := p.client.Get(sentinel.URL); err == nil {
		resp.Body.Close()
		t.Error("the client of the provider goes anywhere")
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests reached another host", n)
	}
}

func TestAProviderThatIsDownIsAskedAgainButNotByEverybody(t *testing.T) {
	l := newLair(t)
	issuer := l.document["issuer"]
	l.document["issuer"] = "http://elsewhere"
	p, err := newProvider(&OIDC{Issuer: l.URL, ClientID: "roadstead"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := p.discover(t.Context()); !errors.Is(err, registry.Unavailable) {
			t.Errorf("discover = %v, want %v", err, registry.Unavailable)
		}
	}
	if n := l.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	l.document["issuer"] = issuer
	p.asked = p.asked.Add(-providerRest)
	gone, cancel := context.WithCancel(t.Context())
	cancel() // a browser that leaves is no reason to forget the answer
	if _, err := p.discover(gone); err != nil {
		t.Errorf("discover = %v after the provider came back", err)
	}
	if _, err := p.discover(t.Context()); err != nil || l.asked.Load() != 2 {
		t.Errorf("discover = %v after %d questions, want what is known after 2", err, l.asked.Load())
	}
	// What it said is not for long.
	l.document["issuer"] = "http://elsewhere"
	p.asked = p.asked.Add(-discoveryAge)
	if _, err := p.discover(t.Context()); !errors.Is(err, registry.Unavailable) || l.asked.Load() != 3 {
		t.Errorf("discover = %v after %d questions, want %v after 3", err, l.asked.Load(), registry.Unavailable)
	}
}

func TestASettingThatIsWrongIsToldAtStart(t *testing.T) {
	for _, tt := range []struct {
		config OIDC
		ok     bool
	}{
		{OIDC{Issuer: "https://login.example.com/realms/x", ClientID: "c"}, true},
		{OIDC{Issuer: "http://127.0.0.1:5556", ClientID: "c"}, true},
		{OIDC{Issuer: "http://[::1]:5556", ClientID: "c"}, true},
		{OIDC{Issuer: "http://localhost:5556", ClientID: "c"}, true},
		{OIDC{Issuer: "http://login.example.com", ClientID: "c", Insecure: true}, true},
		{OIDC{Issuer: "http://login.example.com", ClientID: "c"}, false},
		{OIDC{Issuer: "http://127.0.0.1.example.com", ClientID: "c"}, false},
		{OIDC{Issuer: "ftp://127.0.0.1", ClientID: "c", Insecure: true}, false},
		{OIDC{Issuer: "login.example.com", ClientID: "c"}, false},
		{OIDC{Issuer: "https://user:" + hostileSecret + "@login.example.com", ClientID: "c"}, false},
		{OIDC{Issuer: "https://login.example.com?x=1", ClientID: "c"}, false},
		{OIDC{Issuer: "https://login.example.com"}, false},
		{OIDC{ClientID: "c"}, false},
		{OIDC{Issuer: "https://login.example.com", ClientID: "c", CAFile: "/nowhere"}, false},
		{OIDC{Issuer: "https://login.example.com", ClientID: "c", CAFile: "oidc.go"}, false},
		{OIDC{Issuer: "https://login.example.com", ClientID: "c", Groups: []GroupRole{{Project: "p", Role: "developer"}}}, false},
		{OIDC{Issuer: "https://login.example.com", ClientID: "c", Groups: []GroupRole{{Group: "g", Project: "p", Role: "developer"}}}, true},
		{OIDC{Issuer: "https://login.example.com", ClientID: "c", Groups: []GroupRole{{Group: "g", Project: "p", Role: "boss"}}}, false},
	} {
		_, err := newProvider(&tt.config)
		if (err == nil) != tt.ok {
			t.Errorf("%+v: %v, want ok: %v", tt.config, err, tt.ok)
		}
		if err != nil && strings.Contains(err.Error(), hostileSecret) {
			t.Errorf("the error has the password: %v", err)
		}
	}
}
