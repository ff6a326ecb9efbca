package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
)

// Auth is how a registry asks who is there. Every request below /v2/ is then answered 401
// with a challenge unless it carries what this says.
type Auth struct {
	Basic    bool   // Basic instead of Bearer tokens
	Username string // whom the token service, or Basic, knows
	Password string
	Identity string // a refresh token that the token service takes by POST

	// Anonymous lets the token service give tokens to anybody. Credentials that are wrong are
	// refused all the same.
	Anonymous bool

	Realm   string    // zero: this registry's own URL + "/token"
	Service string    // zero: "registrytest"
	Issuer  *Registry // whose token service's tokens count; nil: this one's

	// Challenge replaces the whole WWW-Authenticate header.
	Challenge string

	// Token makes the token service's answer; nil: token, expires_in 300 and issued_at.
	Token func(token string) map[string]any

	// Uses is how many requests a token is good for; zero: any number; negative: none, as if
	// it had expired before it came.
	Uses int

	// Scoped limits tokens to the repository that they were asked for; a token for another one
	// is refused with 401.
	Scoped bool
}

// grant is a token that was given out.
type grant struct {
	scopes []string
	uses   int
}

// Require makes the registry ask for credentials, and forgets the tokens that are out.
func (r *Registry) Require(a Auth) {
	if a.Realm == "" {
		a.Realm = r.URL() + "/token"
	}
	if a.Service == "" {
		a.Service = "registrytest"
	}
	if a.Issuer == nil {
		a.Issuer = r
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth = &a
	r.tokens = map[string]*grant{}
}

// Revoke forgets the tokens that are out: each is answered with 401 from now on.
func (r *Registry) Revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens = map[string]*grant{}
}

func (r *Registry) requires() *Auth {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.auth
}

// authorized answers 401 and returns false unless the request carries what it needs.
func (r *Registry) authorized(w http.ResponseWriter, req *http.Request, name string) bool {
	a := r.requires()
	if a == nil {
		return true
	}
	scope := "repository:" + name + ":pull"
	if a.Basic {
		username, password, _ := req.BasicAuth()
		if username == a.Username && password == a.Password {
			return true
		}
	} else if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
		if a.Issuer.spend(token, scope, a.Scoped) {
			return true
		}
	}
	switch {
	case a.Challenge != "":
		w.Header().Set("WWW-Authenticate", a.Challenge)
	case a.Basic:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", a.Service))
	default:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q,scope=%q", a.Realm, a.Service, scope))
	}
	refuse(w, http.StatusUnauthorized, registry.Unauthorized)
	return false
}

func (r *Registry) spend(token, scope string, scoped bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.tokens[token]
	if g == nil || g.uses == 0 || scoped && !slices.Contains(g.scopes, scope) {
		return false
	}
	g.uses--
	return true
}

// token is the token service: GET with or without Basic, POST with a refresh token or
// password (distribution's "Docker Registry v2 authentication" pages).
func (r *Registry) token(w http.ResponseWriter, req *http.Request) {
	a := r.requires()
	if a == nil {
		refuse(w, http.StatusNotFound, registry.Unsupported)
		return
	}
	scopes, ok := r.known(a, req)
	if !ok {
		refuse(w, http.StatusUnauthorized, registry.Unauthorized)
		return
	}
	uses := a.Uses
	switch {
	case uses == 0:
		uses = -1 // counts down and never reaches zero
	case uses < 0:
		uses = 0
	}
	r.mu.Lock()
	r.issued++
	token := fmt.Sprintf("token-%d", r.issued)
	r.tokens[token] = &grant{scopes: scopes, uses: uses}
	r.mu.Unlock()
	answer := map[string]any{"token": token, "expires_in": 300, "issued_at": time.Now().UTC().Format(time.RFC3339)}
	if req.Method == http.MethodPost {
		answer = map[string]any{"access_token": token, "expires_in": 300}
	}
	if a.Token != nil {
		answer = a.Token(token)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

// known says whether the token service gives this caller a token, and for what.
func (r *Registry) known(a *Auth, req *http.Request) (scopes []string, ok bool) {
	if req.Method == http.MethodPost {
		form := req.PostFormValue
		scopes = strings.Fields(form("scope"))
		switch form("grant_type") {
		case "refresh_token":
			return scopes, a.Identity != "" && form("refresh_token") == a.Identity
		case "password":
			return scopes, a.Username != "" && form("username") == a.Username && form("password") == a.Password
		}
		return nil, false
	}
	for _, s := range req.URL.Query()["scope"] {
		scopes = append(scopes, strings.Fields(s)...)
	}
	username, password, sent := req.BasicAuth()
	if !sent {
		return scopes, a.Anonymous
	}
	return scopes, a.Username != "" && username == a.Username && password == a.Password
}
