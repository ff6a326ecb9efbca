package access

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"path"
	"strings"
	"time"
)

// flowAge is how long somebody may take to log in at the provider.
const flowAge = 10 * time.Minute

// errFlow is a login that this browser has not begun, or too long ago, or at a server alone that has
// been started again since.
var errFlow = errors.New("no login is under way in this browser")

// flow is a login under way. Its browser keeps it, sealed: whoever only asks for logins takes none
// of our memory, and the answer of the provider is worth nothing to another browser.
type flow struct {
	State    string    // comes back with the answer (RFC 6749 §10.12)
	Nonce    string    // comes back in the ID token
	Verifier string    // of PKCE (RFC 7636)
	Redirect string    // what the provider was told to send the browser back to
	Next     string    // the local path that the browser wanted
	Until    time.Time // and no longer
}

// sealer seals flows with a key that is made at start and kept nowhere else, or that all nodes of a
// cluster have: the browser may come back to another one.
type sealer struct {
	aead cipher.AEAD
}

func newSealer(secret string) sealer {
	if secret != "" {
		return sealer{gcm(derived(secret, "logins under way"))}
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return sealer{gcm(key)}
}

func (s sealer) seal(f flow) (string, error) {
	plain, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, nil)), nil
}

// open returns the flow that was sealed, or errFlow.
func (s sealer) open(sealed string, now time.Time) (flow, error) {
	var f flow
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err == nil {
		b, err = s.aead.Open(nil, nil, b, nil)
	}
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil || !now.Before(f.Until) {
		return flow{}, errFlow
	}
	return f, nil
}

// local returns next if LocalPath takes it, and home otherwise.
func local(next string) string { return LocalPath(next, home) }

// LocalPath returns next if it is a path of this server, with or without a query, and otherwise
// something else, for anything that a browser could take for another place or that would send it
// round in circles. Whoever sends a browser on after a login asks it.
func LocalPath(next, otherwise string) string {
	if len(next) > 2048 || !strings.HasPrefix(next, "/") || strings.Contains(next, `\`) {
		return otherwise
	}
	// Browsers drop tabs and line ends from an address before they read it: "/\t/host" is "//host".
	if strings.ContainsFunc(next, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return otherwise
	}
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil {
		return otherwise
	}
	// A path of "/.//host" is one of this server; what comes of it on the way need not be.
	clean := path.Clean(u.Path)
	if clean != "/" && strings.HasSuffix(u.Path, "/") {
		clean += "/"
	}
	if clean != u.Path || strings.HasPrefix(clean, loginPath) || strings.HasPrefix(clean, callbackPath) {
		return otherwise
	}
	return (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}).String()
}
