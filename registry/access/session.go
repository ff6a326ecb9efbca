package access

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"
)

const (
	// A working day: whoever has logged in is asked again the next one.
	sessionAge = 8 * time.Hour

	// What sessions may take of the catalog and of our memory, some MiB, and one person of that. The
	// oldest makes room: its browser logs in again, mostly without anybody noticing.
	maxSessions     = 10_000
	maxUserSessions = 20
)

type session struct {
	user  int64 // the ID of the catalog, which is never that of another
	until time.Time

	// proof is of the password that the user had at the beginning; see proofOf. With another one the
	// session is over: whoever changes a password wants others out.
	proof string
}

// proofOf is what a session has of the hash of a password; "" where there is none, as for users of an
// OIDC provider. It is in another table than accounts, where hashes have no business.
func proofOf(password string) string {
	if password == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(password))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// of reports whether a session goes on while its user is like that.
func (one session) of(u *user) bool {
	return u != nil && !u.Disabled && proofOf(u.password) == one.proof
}

// cookies are how a browser keeps what is its own. Over https their names begin with "__Host-",
// which no other host may set and which never leaves in the clear (RFC 6265bis §4.1.3.2).
type cookies struct {
	secure bool
}

func (c cookies) name(name string) string {
	if c.secure {
		return "__Host-" + name
	}
	return name
}

func (c cookies) read(r *http.Request, name string) string {
	cookie, err := r.Cookie(c.name(name))
	if err != nil {
		return ""
	}
	return cookie.Value
}

// write keeps a value for so long, or removes it when age is zero.
func (c cookies) write(w http.ResponseWriter, name, value string, age time.Duration) {
	cookie := &http.Cookie{
		Name: c.name(name), Value: value, Path: "/", MaxAge: int(age.Seconds()),
		HttpOnly: true, Secure: c.secure,
		// Lax and not Strict: the provider sends the browser back from another site.
		SameSite: http.SameSiteLaxMode,
	}
	if age == 0 {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}
