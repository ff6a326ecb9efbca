package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

// grows fails the test unless fn makes the generation grow.
func grows(t *testing.T, db *DB, what string, fn func(*Tx) error) {
	t.Helper()
	before, err := db.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	update(t, db, fn)
	after, err := db.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Errorf("%s: the generation stays %d, so nobody reads accounts again", what, after)
	}
}

// refused fails the test unless fn fails with want, and checks that the transaction goes on.
func refused(t *testing.T, db *DB, what string, want error, fn func(*Tx) error) {
	t.Helper()
	update(t, db, func(tx *Tx) error {
		if err := fn(tx); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		return nil
	})
}

func testUsers(t *testing.T, db *DB) {
	var alice, olga int64
	grows(t, db, "add users", func(tx *Tx) (err error) {
		if alice, err = tx.AddUser(User{Name: "alice", Profile: Profile{Email: "a@example.com"}, Admin: true}, "hash-of-alice"); err != nil {
			return err
		}
		olga, err = tx.AddUser(User{Name: "olga", Issuer: "https://idp", Subject: "7", Groups: []string{"dev", "ops"}}, "")
		return err
	})
	for what, u := range map[string]User{
		"the same name":              {Name: "alice"},
		"the same name in capitals":  {Name: "ALICE"},
		"the same subject":           {Name: "other", Issuer: "https://idp", Subject: "7"},
		"the same name of a subject": {Name: "Olga", Issuer: "https://idp", Subject: "8"},
	} {
		refused(t, db, what, ErrExists, func(tx *Tx) error { _, err := tx.AddUser(u, ""); return err })
	}
	refused(t, db, "no such user", ErrNotFound, func(tx *Tx) error { return tx.SetPassword("none", "x") })
	refused(t, db, "no such user", ErrNotFound, func(tx *Tx) error { return tx.DeleteUser("none") })
	refused(t, db, "no such user", ErrNotFound, func(tx *Tx) error { _, err := tx.User("none"); return err })
	refused(t, db, "no such subject", ErrNotFound, func(tx *Tx) error { _, err := tx.UserOf("https://idp", "8"); return err })

	grows(t, db, "password", func(tx *Tx) error { return tx.SetPassword("alice", "other-hash") })
	grows(t, db, "secret", func(tx *Tx) error { return tx.SetSecret("olga", []byte("sum")) })
	grows(t, db, "disable", func(tx *Tx) error { return tx.SetDisabled("olga", true) })
	grows(t, db, "admin", func(tx *Tx) error { return tx.SetAdmin("olga", true) })
	grows(t, db, "identity", func(tx *Tx) error { return tx.SetIdentity("olga", "o@example.com", []string{"dev"}) })
	update(t, db, func(tx *Tx) error {
		users, admins, err := tx.CountUsers()
		if users != 2 || admins != 1 {
			t.Errorf("%d users and %d administrators who are not disabled, want 2 and 1", users, admins)
		}
		u, e := tx.UserOf("https://idp", "7")
		if u.Name != "olga" {
			t.Errorf("user of subject 7 is %+v", u)
		}
		return errors.Join(err, e, tx.LoggedIn(alice, noon), tx.LoggedIn(alice, noon.Add(-time.Hour)))
	})

	users, err := db.Users(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range users {
		if time.Since(users[i].CreatedAt) > time.Minute {
			t.Errorf("%s was created at %s", users[i].Name, users[i].CreatedAt)
		}
		users[i].CreatedAt, users[i].IdentifiedAt = time.Time{}, time.Time{}
	}
	want := []User{
		{ID: alice, Name: "alice", Profile: Profile{Email: "a@example.com"}, Admin: true, Groups: []string{}, LastLogin: noon},
		{ID: olga, Name: "olga", Profile: Profile{Email: "o@example.com"}, Admin: true, Disabled: true, Issuer: "https://idp", Subject: "7", Groups: []string{"dev"}},
	}
	if !reflect.DeepEqual(users, want) {
		t.Errorf("users = %+v\nwant %+v", users, want)
	}
	accounts, err := db.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if accounts.Passwords[alice] != "other-hash" || len(accounts.Passwords) != 1 || string(accounts.Secrets[olga]) != "sum" || len(accounts.Secrets) != 1 {
		t.Errorf("passwords %v and secrets %v", accounts.Passwords, accounts.Secrets)
	}

	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutMember(Member{Project: "p", Name: "olga", Role: "guest"}), tx.PutMember(Member{Project: "p", Group: true, Name: "olga", Role: "guest"}), tx.SetSecret("olga", nil))
	})
	grows(t, db, "delete", func(tx *Tx) error { return tx.DeleteUser("olga") })
	members, err := db.Members(t.Context(), "")
	members = unnumbered(members)
	if want := []Member{{Project: "p", Group: true, Name: "olga", Role: "guest"}}; err != nil || !reflect.DeepEqual(members, want) {
		t.Errorf("members without the user = %+v, %v, want %+v", members, err, want)
	}
	update(t, db, func(tx *Tx) error {
		again, err := tx.AddUser(User{Name: "olga"}, "")
		if again <= olga {
			t.Errorf("another olga has the number %d, and the one before had %d", again, olga)
		}
		return err
	})
}

// unnumbered is members without their IDs.
func unnumbered(all []Member) []Member {
	for i := range all {
		all[i].ID, all[i].UserID = 0, 0
	}
	return all
}

func testMembers(t *testing.T, db *DB) {
	grows(t, db, "members", func(tx *Tx) error {
		return errors.Join(tx.PutMember(Member{Project: "p", Name: "bob", Role: "guest"}), tx.PutMember(Member{Project: "p", Group: true, Name: "bob", Role: "maintainer"}),
			tx.PutMember(Member{Project: "q", Name: "bob", Role: "guest"}), tx.PutMember(Member{Project: "p", Name: "bob", Role: "developer"}))
	})
	check := func(project string, want ...Member) {
		t.Helper()
		got, err := db.Members(t.Context(), project)
		got = unnumbered(got)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("members of %q = %+v, %v, want %+v", project, got, err, want)
		}
	}
	check("p", Member{Project: "p", Name: "bob", Role: "developer"}, Member{Project: "p", Group: true, Name: "bob", Role: "maintainer"})
	check("", Member{Project: "p", Name: "bob", Role: "developer"}, Member{Project: "p", Group: true, Name: "bob", Role: "maintainer"}, Member{Project: "q", Name: "bob", Role: "guest"})
	grows(t, db, "remove", func(tx *Tx) error { return tx.DeleteMember(Member{Project: "p", Name: "bob"}) })
	refused(t, db, "no member", ErrNotFound, func(tx *Tx) error { return tx.DeleteMember(Member{Project: "p", Name: "bob"}) })
	check("p", Member{Project: "p", Group: true, Name: "bob", Role: "maintainer"})

	// Whoever makes a project of that name again finds nobody in it.
	update(t, db, func(tx *Tx) error {
		_, err := tx.AddRobot(Robot{Project: "p", Name: "ci"}, []byte("sum"))
		_, err2 := tx.AddRobot(Robot{Name: "ci", Permissions: []Permission{{Project: "p"}, {Project: "pp"}, {Project: "*"}, {Project: "/"}}}, []byte("sum"))
		return errors.Join(err, err2, tx.PutProject(Project{Name: "p"}))
	})
	update(t, db, func(tx *Tx) error { return tx.DeleteProject("p") })
	check("", Member{Project: "q", Name: "bob", Role: "guest"})
	robots, err := db.Robots(t.Context())
	if err != nil || len(robots) != 1 || !reflect.DeepEqual(robots[0].Permissions, []Permission{{Project: "pp"}, {Project: "*"}, {Project: "/"}}) {
		t.Errorf("robots after a project went: %+v, %v, want the one of the system without its rights in it", robots, err)
	}
}

func testRobots(t *testing.T, db *DB) {
	permissions := []Permission{{"p", []Access{{registry.Repository, registry.Pull}}}}
	var first int64
	grows(t, db, "add robots", func(tx *Tx) (err error) {
		if first, err = tx.AddRobot(Robot{Project: "p", Name: "ci", Description: "builds", Permissions: permissions, ExpiresAt: noon}, []byte("sum")); err != nil {
			return err
		}
		_, err = tx.AddRobot(Robot{Name: "ci"}, []byte("system-sum"))
		return err
	})
	refused(t, db, "the same robot", ErrExists, func(tx *Tx) error { _, err := tx.AddRobot(Robot{Project: "p", Name: "ci"}, nil); return err })
	refused(t, db, "no such robot", ErrNotFound, func(tx *Tx) error { return tx.DisableRobot("q", "ci", true) })
	refused(t, db, "no such robot", ErrNotFound, func(tx *Tx) error { _, err := tx.Robot("q", "ci"); return err })

	robots, err := db.Robots(t.Context())
	if err != nil || len(robots) != 2 || robots[0].FullName() != "robot$ci" || robots[1].FullName() != "robot$p+ci" {
		t.Fatalf("robots = %+v, %v", robots, err)
	}
	got := robots[1]
	got.CreatedAt = time.Time{}
	if want := (Robot{ID: first, Project: "p", Name: "ci", Description: "builds", Permissions: permissions, ExpiresAt: noon}); !reflect.DeepEqual(got, want) {
		t.Errorf("robot = %+v, want %+v", got, want)
	}
	grows(t, db, "renew", func(tx *Tx) error { return tx.RenewRobot("p", "ci", []byte("new-sum"), time.Time{}) })
	grows(t, db, "disable", func(tx *Tx) error { return tx.DisableRobot("p", "ci", true) })
	accounts, err := db.Accounts(t.Context())
	if err != nil || string(accounts.RobotSecrets[first]) != "new-sum" || !accounts.Robots[1].Disabled || !accounts.Robots[1].ExpiresAt.IsZero() {
		t.Errorf("accounts = %+v, %v", accounts, err)
	}
	grows(t, db, "delete", func(tx *Tx) error { return tx.DeleteRobot("p", "ci") })
	refused(t, db, "deleted already", ErrNotFound, func(tx *Tx) error { return tx.DeleteRobot("p", "ci") })
	update(t, db, func(tx *Tx) error {
		again, err := tx.AddRobot(Robot{Project: "p", Name: "ci"}, []byte{})
		if again <= first {
			t.Errorf("another robot has the number %d, and the one before had %d", again, first)
		}
		return err
	})
}

func testSecrets(t *testing.T, db *DB) {
	grows(t, db, "put", func(tx *Tx) error {
		return errors.Join(tx.PutSecret("b", "one"), tx.PutSecret("a", "x"), tx.PutSecret("b", "two"))
	})
	if names, err := db.SecretNames(t.Context()); err != nil || !reflect.DeepEqual(names, []string{"a", "b"}) {
		t.Errorf("names = %q, %v", names, err)
	}
	if sealed, err := db.Sealed(t.Context(), "b"); err != nil || sealed != "two" {
		t.Errorf("sealed = %q, %v", sealed, err)
	}
	grows(t, db, "delete", func(tx *Tx) error { return tx.DeleteSecret("b") })
	refused(t, db, "no such secret", ErrNotFound, func(tx *Tx) error { return tx.DeleteSecret("b") })
	if _, err := db.Sealed(t.Context(), "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a secret that went: %v, want ErrNotFound", err)
	}
}

func testAudit(t *testing.T, db *DB) {
	for i, reference := range []string{"one", "two", "three"} {
		update(t, db, func(tx *Tx) error {
			return tx.AddAudit(Entry{At: noon.Add(time.Duration(i) * time.Hour), Actor: "alice", Action: registry.Push, Kind: registry.Repository,
				Resource: "p/web", Reference: reference, Remote: "192.0.2.1:9", Outcome: registry.Done, Detail: "d"})
		})
	}
	list := func(since time.Time, n int) string {
		entries, err := db.Audit(t.Context(), since, n)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			all = append(all, e.Reference)
		}
		return strings.Join(all, " ")
	}
	for _, test := range []struct {
		since time.Time
		n     int
		want  string
	}{{time.Time{}, -1, "one two three"}, {time.Time{}, 2, "two three"}, {noon.Add(time.Hour), -1, "two three"}, {noon.Add(24 * time.Hour), -1, ""}} {
		if got := list(test.since, test.n); got != test.want {
			t.Errorf("audit since %s, %d: %q, want %q", test.since, test.n, got, test.want)
		}
	}
	want := Entry{ID: 1, At: noon, Actor: "alice", Action: registry.Push, Kind: registry.Repository, Resource: "p/web", Reference: "one",
		Remote: "192.0.2.1:9", Outcome: registry.Done, Detail: "d"}
	if all, err := db.Audit(t.Context(), time.Time{}, -1); err != nil || all[0] != want {
		t.Errorf("entry = %+v, %v, want %+v", all, err, want)
	}
	for what, statement := range map[string]string{
		"changed":   `UPDATE audit SET actor = 'bob'`,
		"shortened": `DELETE FROM audit WHERE id = 1`,
	} {
		err := db.Update(t.Context(), func(tx *Tx) error { _, err := tx.exec(statement); return err })
		if err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("the audit log can be %s: %v", what, err)
		}
	}
	if got := list(time.Time{}, -1); got != "one two three" {
		t.Errorf("audit afterwards: %q", got)
	}
}

// What lists accounts for people has no column that is secret (FAULTS C4, C11).
func testListsHaveNoSecrets(t *testing.T, db *DB) {
	const canary = "canary-7Q"
	update(t, db, func(tx *Tx) error {
		_, err := tx.AddUser(User{Name: "alice"}, "$argon2id$"+canary)
		_, e := tx.AddRobot(Robot{Name: "ci"}, []byte(canary))
		return errors.Join(err, e, tx.SetSecret("alice", []byte(canary)), tx.PutSecret("hub", canary))
	})
	users, err := db.Users(t.Context())
	robots, e := db.Robots(t.Context())
	names, e2 := db.SecretNames(t.Context())
	all, e3 := json.Marshal([]any{users, robots, names})
	if err := errors.Join(err, e, e2, e3); err != nil || bytes.Contains(all, []byte(canary)) {
		t.Errorf("lists have a secret: %s, %v", all, err)
	}
	if !bytes.Contains(all, []byte("alice")) || !bytes.Contains(all, []byte("hub")) {
		t.Errorf("lists are empty: %s", all)
	}
}
