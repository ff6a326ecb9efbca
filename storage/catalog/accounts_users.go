package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// User is somebody who may log in.
type User struct {
	ID   int64 // set by AddUser, and never that of another again
	Name string
	Profile
	Admin    bool
	Disabled bool

	// Issuer and Subject say who the user is at an OIDC provider; both are empty for one that
	// has a password here. Groups are the names of its groups there at its last login by it, and
	// IdentifiedAt is when that was: only then does the provider say anything.
	Issuer       string
	Subject      string
	Groups       []string
	IdentifiedAt time.Time

	CreatedAt time.Time // set by AddUser
	LastLogin time.Time // coarse; zero: never
}

// Profile is what is said of a user and decides nothing.
type Profile struct {
	Email    string // where it can be reached
	RealName string // what it is called in full
	Comment  string
}

// AddUser writes a new user and returns its ID. password is a hash in PHC form, "" for a user who
// has none. ErrExists says that there is one of that name, whatever its case, or of that subject;
// it does not spoil the transaction.
func (tx *Tx) AddUser(u User, password string) (int64, error) {
	what := "add user " + u.Name
	if err := tx.absent(what, `SELECT 1 FROM users WHERE lower(name) = $1 OR (issuer = $2 AND subject = $3)`,
		folded(u.Name), orNull(u.Issuer), orNull(u.Subject)); err != nil {
		return 0, err
	}
	groups, err := json.Marshal(append([]string{}, u.Groups...))
	if err != nil {
		return 0, tx.spoil(err, "%s", what)
	}
	var id int64
	err = tx.one(`INSERT INTO users (name, email, admin, disabled, password, issuer, subject, member_of, created_at, last_login, identified_at, real_name, comment)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id`,
		[]any{u.Name, u.Email, bit(u.Admin), bit(u.Disabled), password, orNull(u.Issuer), orNull(u.Subject), string(groups),
			millis(time.Now()), millis(u.LastLogin), millis(u.IdentifiedAt), u.RealName, u.Comment}, &id)
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return 0, tx.spoil(err, "%s", what)
	}
	return id, nil
}

// orNull is NULL for nothing: users without a subject are not all the same one.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

const userColumns = `id, name, email, admin, disabled, issuer, subject, member_of, created_at, last_login, identified_at, real_name, comment`

// Users lists all users, in the order of their names, without anything secret.
func (db *DB) Users(ctx context.Context) ([]User, error) {
	return list(ctx, db, "users", `SELECT `+userColumns+` FROM users ORDER BY name`, nil, scanUser)
}

// UserFilter is what has to hold of users that are looked for, in whatever case; "" says nothing.
type UserFilter struct {
	Text     string // a part of the name or the address
	NameHas  string // a part of the name
	EmailHas string
	Name     string // the whole name
	Email    string
}

// FindUsers lists users in the order of their names: n of them after the first skip, and how many
// there are in all. n < 0 means no end.
func (db *DB) FindUsers(ctx context.Context, f UserFilter, skip, n int) (page []User, all int, err error) {
	const has = ` FROM users WHERE (lower(name) LIKE $1 ESCAPE '\' OR lower(email) LIKE $1 ESCAPE '\')
		AND lower(name) LIKE $2 ESCAPE '\' AND lower(email) LIKE $3 ESCAPE '\'
		AND ($4 = '' OR lower(name) = $4) AND ($5 = '' OR lower(email) = $5)`
	args := []any{containing(f.Text), containing(f.NameHas), containing(f.EmailHas), folded(f.Name), folded(f.Email)}
	if err := db.read.one(ctx, `SELECT COUNT(*)`+has, args, &all); err != nil {
		return nil, 0, fmt.Errorf("catalog: users: %w", db.explain(err))
	}
	page, err = list(ctx, db, "users", `SELECT `+userColumns+has+` ORDER BY name LIMIT $6 OFFSET $7`, append(args, limit(n), skip), scanUser)
	return page, all, err
}

// UserNames lists the IDs and names, and nothing else, of users whose names have some text in them,
// in whatever case: n of them, in the order of their names.
func (db *DB) UserNames(ctx context.Context, text string, n int) ([]User, error) {
	return list(ctx, db, "users", `SELECT id, name FROM users WHERE lower(name) LIKE $1 ESCAPE '\' ORDER BY name LIMIT $2`,
		[]any{containing(text), limit(n)}, func(scan func(...any) error) (u User, err error) {
			return u, scan(&u.ID, &u.Name)
		})
}

// UserByID returns a user, or ErrNotFound.
func (db *DB) UserByID(ctx context.Context, id int64) (User, error) {
	return lone(ctx, db, "user", `SELECT `+userColumns+` FROM users WHERE id = $1`, []any{id}, scanUser)
}

// UserByID returns a user, or ErrNotFound, which does not spoil the transaction.
func (tx *Tx) UserByID(id int64) (User, error) {
	return tx.user("user", `id = $1`, id)
}

// User returns the user of a name, or ErrNotFound, which does not spoil the transaction.
func (tx *Tx) User(name string) (User, error) {
	return tx.user("user "+name, `name = $1`, name)
}

// UserOf returns the user that a subject of an OIDC provider is, or ErrNotFound, which does not
// spoil the transaction.
func (tx *Tx) UserOf(issuer, subject string) (User, error) {
	return tx.user("user of a subject", `issuer = $1 AND subject = $2`, issuer, subject)
}

func (tx *Tx) user(what, where string, args ...any) (User, error) {
	return only(tx, what, `SELECT `+userColumns+` FROM users WHERE `+where, args, scanUser)
}

func scanUser(scan func(...any) error) (User, error) {
	var (
		u               User
		issuer, subject sql.NullString
		groups          string
		created, login  int64
		identified      int64
	)
	err := scan(&u.ID, &u.Name, &u.Email, &u.Admin, &u.Disabled, &issuer, &subject, &groups, &created, &login, &identified, &u.RealName, &u.Comment)
	if err == nil {
		err = json.Unmarshal([]byte(groups), &u.Groups)
	}
	u.Issuer, u.Subject = issuer.String, subject.String
	u.CreatedAt, u.LastLogin, u.IdentifiedAt = fromMillis(created), fromMillis(login), fromMillis(identified)
	return u, err
}

// CountUsers returns how many users there are, and how many administrators among them are not
// disabled.
func (tx *Tx) CountUsers() (users, admins int, err error) {
	err = tx.one(`SELECT COUNT(*), COUNT(CASE WHEN admin = 1 AND disabled = 0 THEN 1 END) FROM users`, nil, &users, &admins)
	if err != nil {
		return 0, 0, tx.spoil(err, "count users")
	}
	return users, admins, nil
}

// SetPassword writes the password of a user, a hash in PHC form. ErrNotFound here and in what
// follows says that there is no such user, and does not spoil the transaction.
func (tx *Tx) SetPassword(name, password string) error {
	return tx.alter("set password of "+name, `UPDATE users SET password = $2 WHERE name = $1`, name, password)
}

// ReplacePassword is SetPassword of a user whose password is another hash until now. ErrNotFound
// says that it is not.
func (tx *Tx) ReplacePassword(name, was, password string) error {
	return tx.alter("replace password of "+name, `UPDATE users SET password = $3 WHERE name = $1 AND password = $2`, name, was, password)
}

// SetProfile writes what is said of a user.
func (tx *Tx) SetProfile(name string, p Profile) error {
	return tx.alter("set profile of "+name, `UPDATE users SET email = $2, real_name = $3, comment = $4 WHERE name = $1`, name, p.Email, p.RealName, p.Comment)
}

// EmailTaken reports whether an address, in whatever case, is that of a user other than one of a
// number.
func (tx *Tx) EmailTaken(email string, but int64) (bool, error) {
	var n int
	if err := tx.one(`SELECT COUNT(*) FROM users WHERE lower(email) = $1 AND id <> $2`, []any{folded(email), but}, &n); err != nil {
		return false, tx.spoil(err, "look for the address %s", email)
	}
	return n > 0, nil
}

// SetSecret writes the SHA-256 of what a user gives to docker login instead of a password; nil
// for none.
func (tx *Tx) SetSecret(name string, sum []byte) error {
	var secret any // NULL, which an empty slice is not
	if sum != nil {
		secret = sum
	}
	return tx.alter("set secret of "+name, `UPDATE users SET secret = $2 WHERE name = $1`, name, secret)
}

// SetAdmin makes a user an administrator of everything, or no longer one.
func (tx *Tx) SetAdmin(name string, admin bool) error {
	return tx.alter("set admin of "+name, `UPDATE users SET admin = $2 WHERE name = $1`, name, bit(admin))
}

// SetDisabled shuts a user out and ends its sessions, or lets it in again.
func (tx *Tx) SetDisabled(name string, disabled bool) error {
	if err := tx.alter("disable user "+name, `UPDATE users SET disabled = $2 WHERE name = $1`, name, bit(disabled)); err != nil || !disabled {
		return err
	}
	return tx.endSessions(name)
}

// SetIdentity writes what the OIDC provider says of a user now.
func (tx *Tx) SetIdentity(name, email string, groups []string) error {
	list, err := json.Marshal(append([]string{}, groups...))
	if err != nil {
		return tx.spoil(err, "set identity of %s", name)
	}
	return tx.alter("set identity of "+name, `UPDATE users SET email = $2, member_of = $3, identified_at = $4 WHERE name = $1`,
		name, email, string(list), millis(time.Now()))
}

// LoggedIn notes when a user has logged in. That is no change of anything that is kept in
// memory, and a user who has gone meanwhile is none that matters.
func (tx *Tx) LoggedIn(id int64, at time.Time) error {
	if _, err := tx.exec(`UPDATE users SET last_login = $2 WHERE id = $1 AND last_login < $2`, id, millis(at)); err != nil {
		return tx.spoil(err, "note a login")
	}
	return nil
}

// DeleteUser removes a user, and with it what it is a member of.
func (tx *Tx) DeleteUser(name string) error {
	if err := tx.endSessions(name); err != nil {
		return err
	}
	if err := tx.alter("delete user "+name, `DELETE FROM users WHERE name = $1`, name); err != nil {
		return err
	}
	if _, err := tx.exec(`DELETE FROM members WHERE is_group = 0 AND name = $1`, name); err != nil {
		return tx.spoil(err, "delete what user %s is a member of", name)
	}
	return nil
}
