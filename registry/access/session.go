package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// A working day: whoever has logged in is asked again the next one.
	sessionAge = 8 * time.Hour

	// What sessions may take of our memory, some MiB, and one person of that. The oldest makes
	// room: its browser logs in again, mostly without anybody noticing.
	maxSessions     = 10_000
	maxUserSessions = 20
)

// sessions are who is logged in by a browser. They live in memory and end with the process, or with
// other nodes they are in the catalog; what a user may is no part of them, and is looked up at each
// request.
type sessions struct {
	shared *sharedSessions // nil: there are no other nodes

	mu  sync.Mutex
	all map[[sha256.Size]byte]session // by the hash of what the browser has
}

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

// begin returns the id of a new session, 256 random bits.
func (s *sessions) begin(ctx context.Context, user int64, password string, now time.Time) (string, error) {
	next := session{user, now.Add(sessionAge), proofOf(password)}
	if s.shared != nil {
		return s.shared.begin(ctx, next)
	}
	b := make([]byte, 32)
	rand.Read(b)
	id := base64.RawURLEncoding.EncodeToString(b)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[[sha256.Size]byte]session{}
	}
	maps.DeleteFunc(s.all, func(_ [sha256.Size]byte, old session) bool { return !now.Before(old.until) })
	s.thin(maxUserSessions-1, func(old session) bool { return old.user == user })
	s.thin(maxSessions-1, func(session) bool { return true })
	s.all[sha256.Sum256([]byte(id))] = next
	return id, nil
}

// thin ends the oldest of some sessions until there are no more than n of them.
func (s *sessions) thin(n int, of func(session) bool) {
	var keys [][sha256.Size]byte
	for key, one := range s.all {
		if of(one) {
			keys = append(keys, key)
		}
	}
	if len(keys) <= n {
		return
	}
	slices.SortFunc(keys, func(a, b [sha256.Size]byte) int { return s.all[a].until.Compare(s.all[b].until) })
	for _, key := range keys[:len(keys)-n] {
		delete(s.all, key)
	}
}

// sweep ends the sessions of users who are disabled or have gone, or who have another password: one
// that is enabled again is not logged in by that.
func (s *sessions) sweep(users map[int64]*user) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.all, func(_ [sha256.Size]byte, one session) bool { return !one.of(users[one.user]) })
}

// find returns a session that has not ended. An error says that it is not known.
func (s *sessions) find(ctx context.Context, id string, now time.Time) (one session, ok bool, err error) {
	if s.shared != nil {
		return s.shared.find(ctx, id, now)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok = s.all[sha256.Sum256([]byte(id))]
	return one, ok && now.Before(one.until), nil
}

func (s *sessions) end(ctx context.Context, id string) error {
	if s.shared != nil {
		return s.shared.end(ctx, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(id)))
	return nil
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
