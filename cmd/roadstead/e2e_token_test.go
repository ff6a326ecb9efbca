package main_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	tokenService = "upstream.test"
	tokenIssuer  = "tokens.test"
	tokenUser    = "puller"
	tokenSecret  = "correct-horse-battery" // looked for in the logs: it must never be there
)

// A tokenServer gives out bearer tokens as Docker's token authentication specifies, signed with
// a key whose certificate the registry trusts. It is as real as its peer: the registry checks
// every signature, audience and scope.
type tokenServer struct {
	realm   string
	cert    *certificate
	private bool // nothing for callers without the right name and password
	issued  atomic.Int64
}

func startTokenServer(t testing.TB, private bool) *tokenServer {
	t.Helper()
	s := &tokenServer{cert: newCertificate(t, t.TempDir()), private: private}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.realm = server.URL + "/token"
	return s
}

// ServeHTTP answers GET with optional Basic credentials. A caller may pull everything, or if
// the server is private and does not know him, nothing: that is a token too, only an empty one.
func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.URL.Path != "/token" || r.FormValue("service") != tokenService {
		http.Error(w, "only GET /token?service="+tokenService, http.StatusMethodNotAllowed)
		return
	}
	user, secret, given := r.BasicAuth()
	known := user == tokenUser && secret == tokenSecret
	if given && !known {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	access := []any{}
	for _, scope := range r.Form["scope"] {
		kind, rest, _ := strings.Cut(scope, ":")
		colon := strings.LastIndex(rest, ":")
		if kind == "repository" && colon > 0 && (known || !s.private) {
			access = append(access, map[string]any{"type": kind, "name": rest[:colon], "actions": []string{"pull"}})
		}
	}
	token, err := s.sign(map[string]any{
		"iss": tokenIssuer, "aud": tokenService, "sub": user, "access": access,
		"nbf": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.issued.Add(1)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

// sign makes a JSON Web Token by ES256 (RFC 7518 §3.4) that carries its certificate.
func (s *tokenServer) sign(claims map[string]any) (string, error) {
	header, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.cert.der)}})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	a, b, err := ecdsa.Sign(rand.Reader, s.cert.signer, sum[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte
	a.FillBytes(signature[:32])
	b.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature[:]), nil
}
