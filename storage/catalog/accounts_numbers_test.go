package catalog

import (
	"errors"
	"io/fs"
	"reflect"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"roadstead/registry"
)

func testUsersFound(t *testing.T, db *DB) {
	ids := map[string]int64{}
	update(t, db, func(tx *Tx) (err error) {
		for _, u := range []User{
			{Name: "alice", Profile: Profile{Email: "a@example.com"}}, {Name: "Bob", Profile: Profile{Email: "bob@Example.org"}}, {Name: "a_b"}, {Name: "axb"}, {Name: "percent"},
		} {
			if ids[u.Name], err = tx.AddUser(u, "hash-of-"+u.Name); err != nil {
				return err
			}
		}
		return nil
	})
	for _, test := range []struct {
		text    string
		skip, n int
		want    string
		all     int
	}{
		{"", 0, -1, "Bob a_b alice axb percent", 5},
		{"", 1, 2, "a_b alice", 5},
		{"", 9, 2, "", 5},
		{"LIC", 0, -1, "alice", 1},
		{"bob@example", 0, -1, "Bob", 1},
		{"a_b", 0, -1, "a_b", 1},
		{"%", 0, -1, "", 0},
		{`\`, 0, -1, "", 0},
		{"none", 0, -1, "", 0},
	} {
		page, all, err := db.FindUsers(t.Context(), UserFilter{Text: test.text}, test.skip, test.n)
		got := ""
		for _, u := range page {
			got += " " + u.Name
		}
		if err != nil || got != prefixed(test.want) || all != test.all {
			t.Errorf("find %q from %d, %d:%s of %d, %v; want %s of %d", test.text, test.skip, test.n, got, all, err, test.want, test.all)
		}
	}
	names, err := db.UserNames(t.Context(), "example", -1)
	if err != nil || len(names) != 0 {
		t.Errorf("a name was found by an address: %+v, %v", names, err)
	}
	names, err = db.UserNames(t.Context(), "B", 2)
	if want := []User{{ID: ids["Bob"], Name: "Bob"}, {ID: ids["a_b"], Name: "a_b"}}; err != nil || !reflect.DeepEqual(names, want) {
		t.Errorf("names = %+v, %v; want %+v", names, err, want)
	}
	if u, err := db.UserByID(t.Context(), ids["alice"]); err != nil || u.Name != "alice" {
		t.Errorf("user %d = %+v, %v", ids["alice"], u, err)
	}
	if _, err := db.UserByID(t.Context(), 999); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody: %v, want ErrNotFound", err)
	}
	refused(t, db, "nobody", ErrNotFound, func(tx *Tx) error { _, err := tx.UserByID(999); return err })
	refused(t, db, "another password", ErrNotFound, func(tx *Tx) error { return tx.ReplacePassword("alice", "other", "new") })
	grows(t, db, "password", func(tx *Tx) error { return tx.ReplacePassword("alice", "hash-of-alice", "new") })
	grows(t, db, "address", func(tx *Tx) error { return tx.SetProfile("alice", Profile{Email: "other@example.com"}) })
	if u, err := db.UserByID(t.Context(), ids["alice"]); err != nil || u.Email != "other@example.com" {
		t.Errorf("user %d = %+v, %v", ids["alice"], u, err)
	}
}

func prefixed(s string) string {
	if s == "" {
		return ""
	}
	return " " + s
}

func testMemberNumbers(t *testing.T, db *DB) {
	var bob, group, user int64
	grows(t, db, "members", func(tx *Tx) (err error) {
		if user, err = tx.AddUser(User{Name: "bob"}, ""); err != nil {
			return err
		}
		if bob, err = tx.AddMember(Member{Project: "p", Name: "bob", Role: "guest"}); err != nil {
			return err
		}
		group, err = tx.AddMember(Member{Project: "p", Group: true, Name: "bob", Role: "guest"})
		return err
	})
	refused(t, db, "a member twice", ErrExists, func(tx *Tx) error {
		_, err := tx.AddMember(Member{Project: "p", Name: "bob", Role: "developer"})
		return err
	})
	grows(t, db, "another role", func(tx *Tx) error { return tx.PutMember(Member{Project: "p", Name: "bob", Role: "developer"}) })
	for _, want := range []Member{
		{ID: bob, Project: "p", Name: "bob", Role: "developer", UserID: user}, {ID: group, Project: "p", Group: true, Name: "bob", Role: "guest"},
	} {
		if got, err := db.Member(t.Context(), "p", want.ID); err != nil || got != want {
			t.Errorf("member %d = %+v, %v; want %+v", want.ID, got, err, want)
		}
		if got, err := db.Member(t.Context(), "q", want.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("member %d of another project = %+v, %v; want ErrNotFound", want.ID, got, err)
		}
	}
	for text, want := range map[string]int{"OB": 2, "x": 0, "_": 0, "": 2} {
		if got, err := db.FindMembers(t.Context(), "p", text); err != nil || len(got) != want {
			t.Errorf("members by %q = %+v, %v; want %d", text, got, err, want)
		}
	}
	update(t, db, func(tx *Tx) error { return tx.DeleteMember(Member{Project: "p", Group: true, Name: "bob"}) })
	update(t, db, func(tx *Tx) error {
		again, err := tx.AddMember(Member{Project: "p", Group: true, Name: "bob", Role: "guest"})
		if again <= group {
			t.Errorf("another member has the number %d, and the one before had %d", again, group)
		}
		return err
	})
}

func testRobotNumbers(t *testing.T, db *DB) {
	var id int64
	update(t, db, func(tx *Tx) (err error) {
		id, err = tx.AddRobot(Robot{Project: "p", Name: "ci", Disabled: true}, []byte("sum"))
		return err
	})
	r, err := db.RobotByID(t.Context(), id)
	if err != nil || r.Name != "ci" || !r.Disabled {
		t.Fatalf("robot %d = %+v, %v", id, r, err)
	}
	want := r
	want.Description, want.Disabled, want.ExpiresAt = "builds", false, noon.Add(time.Hour)
	want.Permissions = []Permission{{"p", []Access{{registry.Repository, registry.Pull}}}}
	grows(t, db, "update", func(tx *Tx) error {
		other := want
		other.Name, other.Project = "renamed", "q"
		return tx.UpdateRobot(other)
	})
	if got, err := db.RobotByID(t.Context(), id); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("robot = %+v, %v; want %+v", got, err, want)
	}
	check := func(what, secret, password string) {
		t.Helper()
		a, err := db.Accounts(t.Context())
		if err != nil || string(a.RobotSecrets[id]) != secret || a.RobotPasswords[id] != password {
			t.Errorf("%s: secret %q and password %q, %v; want %q and %q", what, a.RobotSecrets[id], a.RobotPasswords[id], err, secret, password)
		}
	}
	check("made", "sum", "")
	grows(t, db, "chosen", func(tx *Tx) error { return tx.SetRobotSecret(id, nil, "hash") })
	check("chosen", "", "hash")
	grows(t, db, "made again", func(tx *Tx) error { return tx.SetRobotSecret(id, []byte("other"), "") })
	check("made again", "other", "")
	update(t, db, func(tx *Tx) error { return tx.SetRobotSecret(id, nil, "hash") })
	update(t, db, func(tx *Tx) error { return tx.RenewRobot("p", "ci", []byte("renewed"), time.Time{}) })
	check("renewed", "renewed", "")
	refused(t, db, "no robot", ErrNotFound, func(tx *Tx) error { return tx.UpdateRobot(Robot{ID: 999}) })
	refused(t, db, "no robot", ErrNotFound, func(tx *Tx) error { return tx.SetRobotSecret(999, nil, "") })
	refused(t, db, "no robot", ErrNotFound, func(tx *Tx) error { _, err := tx.RobotByID(999); return err })
	if _, err := db.RobotByID(t.Context(), 999); !errors.Is(err, ErrNotFound) {
		t.Errorf("no robot: %v, want ErrNotFound", err)
	}
}

// Who was a member before members had numbers is one with a number.
func TestMembersGetNumbers(t *testing.T) {
	path := t.TempDir() + "/catalog.db"
	old, err := sqlitePool(path, 1, writerSettings)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := fs.Sub(sqliteMigrations, "migrations/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, old.db, steps, goose.WithDisableGlobalRegistry(true))
	if err == nil {
		_, err = provider.UpTo(t.Context(), 4)
	}
	for _, statement := range []string{
		`INSERT INTO members (project, is_group, name, role) VALUES ('p', 1, 'bob', 'guest'), ('p', 0, 'zoe', 'guest')`,
		`INSERT INTO robots (project, name, description, secret, disabled, permissions, created_at, expires_at)
			VALUES ('p', 'ci', '', X'01', 0, '[]', 0, 0)`,
	} {
		if err == nil {
			_, err = old.db.ExecContext(t.Context(), statement)
		}
	}
	if err := errors.Join(err, old.close()); err != nil {
		t.Fatal(err)
	}
	db := openAt(t, path)
	got, err := db.Members(t.Context(), "")
	want := []Member{{ID: 1, Project: "p", Name: "zoe", Role: "guest"}, {ID: 2, Project: "p", Group: true, Name: "bob", Role: "guest"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("members = %+v, %v; want %+v", got, err, want)
	}
	if a, err := db.Accounts(t.Context()); err != nil || len(a.RobotSecrets) != 1 || len(a.RobotPasswords) != 0 {
		t.Errorf("accounts = %+v, %v; want a robot with the secret it had", a, err)
	}
}
