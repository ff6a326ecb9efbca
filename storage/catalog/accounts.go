package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Accounts is who there is and what everybody may, with what their secrets are compared with:
// all that whoever decides about requests keeps in memory.
type Accounts struct {
	Generation int64 // at least as old as the rest
	Users      []User
	Robots     []Robot
	Members    []Member

	Passwords    map[int64]string // of users, by their ID: argon2id in PHC form
	Secrets      map[int64][]byte // of users, by their ID: SHA-256 of what they give to docker login
	RobotSecrets map[int64][]byte // of robots, by their ID: SHA-256; or else

	RobotPasswords map[int64]string // argon2id in PHC form
}

// Accounts reads all accounts. Nothing else reads what secrets are compared with, and what lists
// accounts for people cannot.
func (db *DB) Accounts(ctx context.Context) (Accounts, error) {
	a := Accounts{Passwords: map[int64]string{}, Secrets: map[int64][]byte{}, RobotSecrets: map[int64][]byte{}, RobotPasswords: map[int64]string{}}
	// The generation comes first: a change that is made meanwhile is then one that came later,
	// and makes whoever compares generations read again.
	var err error
	if a.Generation, err = db.Generation(ctx); err != nil {
		return Accounts{}, err
	}
	if a.Users, err = db.Users(ctx); err != nil {
		return Accounts{}, err
	}
	if a.Robots, err = db.Robots(ctx); err != nil {
		return Accounts{}, err
	}
	if a.Members, err = db.Members(ctx, ""); err != nil {
		return Accounts{}, err
	}
	err = db.read.each(ctx, `SELECT id, password, secret FROM users`, nil, func(rows *sql.Rows) error {
		var (
			id       int64
			password string
			secret   []byte
		)
		err := rows.Scan(&id, &password, &secret)
		if password != "" {
			a.Passwords[id] = password
		}
		if secret != nil {
			a.Secrets[id] = secret
		}
		return err
	})
	if err == nil {
		err = db.read.each(ctx, `SELECT id, secret, password FROM robots`, nil, func(rows *sql.Rows) error {
			var (
				id       int64
				secret   []byte
				password string
			)
			err := rows.Scan(&id, &secret, &password)
			if password != "" {
				a.RobotPasswords[id] = password
			} else {
				a.RobotSecrets[id] = secret
			}
			return err
		})
	}
	if err != nil {
		return Accounts{}, fmt.Errorf("catalog: accounts: %w", db.explain(err))
	}
	return a, nil
}

// alter runs a statement that changes an account, and returns ErrNotFound when it changed none:
// that does not spoil the transaction.
func (tx *Tx) alter(what, query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		return fmt.Errorf("catalog: %s: %w", what, ErrNotFound)
	}
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return tx.spoil(err, "%s", what)
	}
	return nil
}

// absent returns ErrExists when a query finds a row: that does not spoil the transaction.
func (tx *Tx) absent(what, query string, args ...any) error {
	var there bool
	if err := tx.one(`SELECT EXISTS (`+query+`)`, args, &there); err != nil {
		return tx.spoil(err, "%s", what)
	}
	if there {
		return fmt.Errorf("catalog: %s: %w", what, ErrExists)
	}
	return nil
}

// lone reads the only row of a query, or returns ErrNotFound.
func lone[T any](ctx context.Context, db *DB, what, query string, args []any, scan func(func(...any) error) (T, error)) (T, error) {
	x, err := scan(func(dest ...any) error { return db.read.one(ctx, query, args, dest...) })
	if err == nil {
		return x, nil
	}
	var none T
	if errors.Is(err, sql.ErrNoRows) {
		return none, fmt.Errorf("catalog: %s: %w", what, ErrNotFound)
	}
	return none, fmt.Errorf("catalog: %s: %w", what, db.explain(err))
}

// containing is a pattern of LIKE with \ to escape by: whatever has text in it, in lower case already
// or folded.
func containing(text string) string { return "%" + escapeLike(folded(text)) + "%" }

// folded is what lower() makes of a column: only ASCII has two cases for it. Names are compared with
// it, and PostgreSQL would fold a parameter by the rules of the database, which are others.
func folded(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, text)
}
