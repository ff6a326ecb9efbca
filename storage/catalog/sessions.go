package catalog

import (
	"context"
	"time"
)

// Session is a browser that is signed in, at whichever node.
type Session struct {
	Hash  string // of what the browser has
	User  int64  // its ID
	Proof string // of what the user signed in by, which ends the session when it changes
	Until time.Time
}

// AddSession writes a new session. Of those of its user the newest perUser stay, and the newest most of
// all: the others make room, and so do those that are over.
func (tx *Tx) AddSession(s Session, perUser, most int) error {
	now := millis(time.Now())
	for _, step := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM sessions WHERE until <= $1`, []any{now}},
		{`INSERT INTO sessions (hash, user_id, proof, until) VALUES ($1, $2, $3, $4)`, []any{s.Hash, s.User, s.Proof, millis(s.Until)}},
		{`DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE user_id = $1 ORDER BY until DESC, hash LIMIT $2 OFFSET $3)`,
			[]any{s.User, limit(-1), perUser}},
		{`DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions ORDER BY until DESC, hash LIMIT $1 OFFSET $2)`, []any{limit(-1), most}},
	} {
		if _, err := tx.exec(step.query, step.args...); err != nil {
			return tx.spoil(err, "add a session of user %d", s.User)
		}
	}
	return nil
}

// EndSession removes a session. There may be none.
func (tx *Tx) EndSession(hash string) error {
	if _, err := tx.exec(`DELETE FROM sessions WHERE hash = $1`, hash); err != nil {
		return tx.spoil(err, "end a session")
	}
	return nil
}

// endSessions removes those of a user who may not go on: one that is let in again is not signed in by
// that.
func (tx *Tx) endSessions(name string) error {
	if _, err := tx.exec(`DELETE FROM sessions WHERE user_id IN (SELECT id FROM users WHERE name = $1)`, name); err != nil {
		return tx.spoil(err, "end the sessions of %s", name)
	}
	return nil
}

// Session returns the session of a hash, also one that is over, or ErrNotFound.
func (db *DB) Session(ctx context.Context, hash string) (Session, error) {
	return lone(ctx, db, "session", `SELECT user_id, proof, until FROM sessions WHERE hash = $1`, []any{hash},
		func(scan func(...any) error) (Session, error) {
			s, until := Session{Hash: hash}, int64(0)
			err := scan(&s.User, &s.Proof, &until)
			s.Until = fromMillis(until)
			return s, err
		})
}
