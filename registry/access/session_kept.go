package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// sessions are who is logged in by a browser. They are in the catalog: a restart ends none, and whichever node
// of a cluster a balancer sends a browser to knows them. What a user may is no part of them, and is looked up
// at each request.
//
// An id has a part that only the nodes of a cluster can make, so that one that is made up costs no question.
// Where there is one node, which has no secret, anybody can make it: that question is to a file.
type sessions struct {
	catalog *catalog.DB
	key     []byte // of what only nodes can make

	mu    sync.Mutex
	known map[string]knownSession // by hash
}

// knownSession is a session as the catalog had it a moment ago.
type knownSession struct {
	session
	at time.Time
}

const (
	// sessionTrust is for how long nobody asks again. It is how late a node learns that somebody has
	// signed out at another one; a page and all that belongs to it is one question.
	sessionTrust = 2 * time.Second

	idRandom = 32 // bytes of an id that nobody can guess
	idTag    = 16 // and of what only nodes can make
)

func newSessions(db *catalog.DB, secret string) *sessions {
	return &sessions{catalog: db, key: derived(secret, "sessions"), known: map[string]knownSession{}}
}

// newID makes an id.
func (s *sessions) newID() string {
	b := make([]byte, idRandom, idRandom+idTag)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(append(b, s.tag(b)...))
}

func (s *sessions) tag(random []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write(random)
	return mac.Sum(nil)[:idTag]
}

// hash is what the catalog knows an id by; false for one that no node has made.
func (s *sessions) hash(id string) (string, bool) {
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(b) != idRandom+idTag || !hmac.Equal(b[idRandom:], s.tag(b[:idRandom])) {
		return "", false
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:]), true
}

// begin returns the id of a new session, of a user who has signed in by that password, as it is kept.
func (s *sessions) begin(ctx context.Context, user int64, password string, now time.Time) (id string, err error) {
	one := session{user, now.Add(sessionAge), proofOf(password)}
	id = s.newID()
	hash, _ := s.hash(id)
	err = s.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		return tx.AddSession(catalog.Session{Hash: hash, User: one.user, Proof: one.proof, Until: one.until}, maxUserSessions, maxSessions)
	})
	if err != nil {
		return "", unanswered(err)
	}
	return id, nil
}

// find returns a session that has not ended. An error says that it is not known.
func (s *sessions) find(ctx context.Context, id string, now time.Time) (session, bool, error) {
	hash, ok := s.hash(id)
	if !ok {
		return session{}, false, nil
	}
	s.mu.Lock()
	known, ok := s.known[hash]
	s.mu.Unlock()
	if ok && now.Sub(known.at) < sessionTrust {
		return known.session, now.Before(known.until), nil
	}
	row, err := s.catalog.Session(ctx, hash)
	if err != nil {
		s.forget(hash)
		if errors.Is(err, catalog.ErrNotFound) {
			err = nil
		}
		return session{}, false, unanswered(err)
	}
	one := session{user: row.User, until: row.Until, proof: row.Proof}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxSessions {
		maps.DeleteFunc(s.known, func(_ string, old knownSession) bool { return now.Sub(old.at) >= sessionTrust })
	}
	s.known[hash] = knownSession{one, now} // as of before the question
	return one, now.Before(one.until), nil
}

// end ends a session, if there is one.
func (s *sessions) end(ctx context.Context, id string) error {
	hash, ok := s.hash(id)
	if !ok {
		return nil
	}
	err := s.catalog.Durable(ctx, func(tx *catalog.Tx) error { return tx.EndSession(hash) })
	s.forget(hash)
	return unanswered(err)
}

// sweep has those of users asked for again who are disabled or have gone, or who have another password: one
// that is enabled again is not logged in by what was known.
func (s *sessions) sweep(users map[int64]*user) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.known, func(_ string, one knownSession) bool { return !one.of(users[one.user]) })
}

func (s *sessions) forget(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, hash)
}

// unanswered says of sessions that cannot be asked for what people can do about it. Nobody is let in
// by what was known of them before.
func unanswered(err error) error {
	if !errors.Is(err, catalog.ErrUnavailable) {
		return err
	}
	return registry.Because(registry.Unavailable, fmt.Errorf("sessions: %w", err), "session.away",
		"the database does not answer, so it cannot be told who you are: try again in a moment")
}
