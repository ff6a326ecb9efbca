package access

import (
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func TestRobotsByNumber(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	pulls, err := Permit("production", "pull")
	h.must(err)
	pushes, err := Permit("production", "push")
	h.must(err)
	r, secret, err := h.AddRobot(ctx, "root", catalog.Robot{Project: "production", Name: "ci", Disabled: true, Permissions: []catalog.Permission{pulls}})
	h.must(err)
	if r.ID == 0 || !r.Disabled || r.CreatedAt.IsZero() {
		t.Fatalf("added %+v", r)
	}
	may := func(what, secret string, action registry.Action, want registry.Code) {
		t.Helper()
		if got := code(h.Authorize(h.who(basic(r.FullName(), secret)), action, registry.Resource{Kind: registry.Repository, Repo: web})); got != want {
			t.Errorf("%s: %s: %q, want %q", what, action, got, want)
		}
	}
	may("added as disabled", secret, registry.Pull, registry.Unauthorized)

	end := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	is, err := h.UpdateRobot(ctx, "root", r.ID, func(r *catalog.Robot) error {
		*r = catalog.Robot{ID: 7, Project: "staging", Name: "other", Description: "builds", Permissions: []catalog.Permission{pushes}, ExpiresAt: end}
		return nil
	})
	h.must(err)
	if is.ID != r.ID || is.FullName() != "robot$production+ci" || is.Description != "builds" || is.Disabled {
		t.Errorf("updated %+v", is)
	}
	if got, err := h.RobotByID(ctx, r.ID); err != nil || got.Description != "builds" || !got.ExpiresAt.Equal(end) {
		t.Errorf("robot %d = %+v, %v", r.ID, got, err)
	}
	may("updated", secret, registry.Push, "")

	made, err := h.SetRobotSecret(ctx, "root", r.ID, "")
	h.must(err)
	may("the secret before", secret, registry.Push, registry.Unauthorized)
	may("another one was made", made, registry.Push, "")
	none, err := h.SetRobotSecret(ctx, "root", r.ID, "Chosen-Secret-1")
	h.must(err)
	if none != "" || len(made) != 43 {
		t.Errorf("returned %q for one that was chosen, and %q for one that was made", none, made)
	}
	may("the secret that was made", made, registry.Push, registry.Unauthorized)
	may("another one was chosen", "Chosen-Secret-1", registry.Push, "")
	accounts, err := h.db.Accounts(ctx)
	h.must(err)
	if !strings.HasPrefix(accounts.RobotPasswords[r.ID], "$argon2id$") || len(accounts.RobotSecrets[r.ID]) != 0 {
		t.Errorf("a chosen secret is kept as %q and %x", accounts.RobotPasswords[r.ID], accounts.RobotSecrets[r.ID])
	}
	_, err = h.UpdateRobot(ctx, "root", r.ID, func(r *catalog.Robot) error { r.Disabled = true; return nil })
	h.must(err)
	may("disabled", "Chosen-Secret-1", registry.Push, registry.Unauthorized)
	_, err = h.UpdateRobot(ctx, "root", r.ID, func(r *catalog.Robot) error { r.Disabled = false; return nil })
	h.must(err)
	may("enabled", "Chosen-Secret-1", registry.Push, "")
	h.must(h.DeleteRobotByID(ctx, "root", r.ID))
	may("deleted", "Chosen-Secret-1", registry.Push, registry.Unauthorized)

	var got []string
	for _, e := range h.entries() {
		if e.Actor == "root" {
			got = append(got, strings.TrimSpace(strings.Join([]string{string(e.Action), string(e.Kind), e.Resource, e.Detail}, " ")))
		}
		if strings.Contains(e.Detail, "Chosen") || strings.Contains(e.Detail, made) {
			t.Errorf("a secret is in the audit log: %+v", e)
		}
	}
	const rights = "production:repository:pull production:repository:push production:tag:create"
	want := `create robot robot$production+ci production:repository:pull
update robot robot$production+ci until ` + end.UTC().Format(time.RFC3339) + ` enabled ` + rights + `
update robot robot$production+ci secret
update robot robot$production+ci secret
update robot robot$production+ci disabled ` + rights + `
update robot robot$production+ci enabled ` + rights + `
delete robot robot$production+ci`
	if strings.Join(got, "\n") != want {
		t.Errorf("audit log:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

// A chosen secret can be guessed, so that it is tried as seldom as a password. Those that we made are
// let in all the same.
func TestC5_AChosenSecretIsLimited(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	made := h.robot("production", "made", "pull")
	pulls, err := Permit("production", "pull")
	h.must(err)
	r, _, err := h.AddRobot(ctx, "test", catalog.Robot{Project: "production", Name: "chosen", Permissions: []catalog.Permission{pulls}})
	h.must(err)
	_, err = h.SetRobotSecret(ctx, "test", r.ID, "Chosen-Secret-1")
	h.must(err)
	for _, name := range []string{r.FullName(), "robot$production+none"} {
		var last registry.Code
		for i := range 12 {
			last = code(h.Authorize(h.who(basic(name, "Guess-1-"+strings.Repeat("x", i))), registry.Pull, registry.Resource{Kind: registry.Repository, Repo: web}))
		}
		if last != registry.TooManyRequests {
			t.Errorf("the twelfth guess at %s: %q, want TooManyRequests", name, last)
		}
	}
	for i := range 12 {
		h.who(basic("robot$production+made", "Guess-1-"+strings.Repeat("x", i)))
	}
	if got := code(h.Authorize(h.who(basic("robot$production+made", made)), registry.Pull, registry.Resource{Kind: registry.Repository, Repo: web})); got != "" {
		t.Errorf("the right secret after guesses: %q", got)
	}
}

func TestUsersByNumber(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	dora, err := h.CreateUser(ctx, "root", NewUser{Name: "dora", Profile: catalog.Profile{Email: "dora@example.com"}, Password: password})
	h.must(err)
	admin := h.now.Load().named["admin"].ID
	page, all, err := h.FindUsers(ctx, catalog.UserFilter{}, -1, 1)
	if err != nil || all != 2 || len(page) != 1 || page[0].Name != "admin" {
		t.Errorf("the first of all users: %+v of %d, %v", page, all, err)
	}
	if page, all, err = h.FindUsers(ctx, catalog.UserFilter{Text: "OR"}, 0, -1); err != nil || all != 1 || page[0].ID != dora.ID {
		t.Errorf("users by %q: %+v of %d, %v", "OR", page, all, err)
	}
	if names, err := h.SearchUsers(ctx, "do", 5); err != nil || len(names) != 1 || names[0].ID != dora.ID || names[0].Email != "" {
		t.Errorf("search: %+v, %v", names, err)
	}
	h.must(h.SetProfile(ctx, "dora", dora.ID, func(p *catalog.Profile) { p.Email = "d@example.com" }))
	if u, err := h.UserByID(ctx, dora.ID); err != nil || u.Email != "d@example.com" {
		t.Errorf("user %d = %+v, %v", dora.ID, u, err)
	}
	knows := func(what, password string, want registry.Code) {
		t.Helper()
		if got := code(h.Login(h.who(basic("dora", password)))); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	h.must(h.ChangePassword(ctx, dora.ID, password, "Second-Horse-2", "192.0.2.7:1"))
	knows("the old password", password, registry.Unauthorized)
	knows("its own new password", "Second-Horse-2", "")
	h.must(h.ResetPassword(ctx, "root", dora.ID, "Third-Horse-3"))
	knows("a password of the administrator's", "Third-Horse-3", "")
	h.must(h.SetAdminByID(ctx, "root", dora.ID, true), h.SetAdminByID(ctx, "root", admin, false))
	for what, err := range map[string]error{
		"no administrator": h.SetAdminByID(ctx, "root", dora.ID, false),
		"disabled":         h.DisableUser(ctx, "root", "dora", true),
		"deleted":          h.DeleteUserByID(ctx, "root", dora.ID),
	} {
		if code(err) != registry.Denied || !strings.Contains(err.Error(), "last administrator") {
			t.Errorf("the last administrator %s: %v", what, err)
		}
	}
	h.must(h.DisableUser(ctx, "root", "admin", true), h.DisableUser(ctx, "root", "admin", false), h.DeleteUserByID(ctx, "root", admin))
	if _, err := h.UserByID(ctx, admin); code(err) != registry.NameUnknown {
		t.Errorf("who was deleted: %v", err)
	}
	var got []string
	for _, e := range h.entries()[1:] {
		got = append(got, strings.TrimSpace(strings.Join([]string{e.Actor, string(e.Action), e.Resource, e.Detail}, " ")))
	}
	want := `root create dora
dora update dora profile
dora update dora password
root update dora password
root update dora admin
root update admin no admin
root disable admin
root enable admin
root delete admin`
	if strings.Join(got, "\n") != want {
		t.Errorf("audit log:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

// To guess the old password is limited as logins are, and who has another's browser gets no further.
func TestC5_TheOldPasswordIsLimited(t *testing.T) {
	h := open(t)
	h.member("dora", "")
	id := h.now.Load().named["dora"].ID
	var last registry.Code
	for i := range 12 {
		last = code(h.ChangePassword(t.Context(), id, "Guess-1-"+strings.Repeat("x", i), "Second-Horse-2", "192.0.2.7:1"))
		if i == 0 && last != registry.Denied {
			t.Errorf("a wrong old password: %q, want Denied", last)
		}
	}
	if last != registry.TooManyRequests {
		t.Errorf("the twelfth guess: %q, want TooManyRequests", last)
	}
}

func TestMembersByNumber(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.member("dora", "")
	dora := h.now.Load().named["dora"].ID
	m, err := h.AddMember(ctx, "root", catalog.Member{Project: "production", Name: "dora", Role: string(Guest)})
	h.must(err)
	group, err := h.AddMember(ctx, "root", catalog.Member{Project: "production", Group: true, Name: "Dorset", Role: string(Developer)})
	h.must(err)
	if m.ID == 0 || m.UserID != dora || group.UserID != 0 || group.ID == m.ID {
		t.Errorf("added %+v and %+v", m, group)
	}
	if found, err := h.FindMembers(ctx, "production", "DOR"); err != nil || len(found) != 2 || found[0] != m || found[1] != group {
		t.Errorf("found %+v, %v", found, err)
	}
	if got, err := h.MemberByID(ctx, "production", m.ID); err != nil || got != m {
		t.Errorf("member %d = %+v, %v", m.ID, got, err)
	}
	h.must(h.SetRole(ctx, "root", "production", m.ID, Developer))
	if got := code(h.Authorize(h.who(basic("dora", password)), registry.Push, registry.Resource{Kind: registry.Repository, Repo: web})); got != "" {
		t.Errorf("push with another role: %q", got)
	}
	h.must(h.DeleteMember(ctx, "root", "production", m.ID), h.DeleteMember(ctx, "root", "production", group.ID))
	again, err := h.AddMember(ctx, "root", catalog.Member{Project: "production", Name: "dora", Role: string(Guest)})
	h.must(err)
	if again.ID <= group.ID {
		t.Errorf("another member has the number %d, after %d", again.ID, group.ID)
	}
}

func TestNumbersAreRefused(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.member("dora", Developer)
	h.must(h.change(ctx, deed{kind: Users, name: "olga"}, func(tx *catalog.Tx) error {
		_, err := tx.AddUser(catalog.User{Name: "olga", Issuer: "https://idp", Subject: "7"}, "")
		return err
	}))
	dora, olga := h.now.Load().named["dora"].ID, h.now.Load().named["olga"].ID
	pulls, err := Permit("production", "pull")
	h.must(err)
	r, _, err := h.AddRobot(ctx, "test", catalog.Robot{Project: "production", Name: "ci", Permissions: []catalog.Permission{pulls}})
	h.must(err)
	members, err := h.Members(ctx, "production")
	h.must(err)
	m := members[0]
	update := func(id int64, change func(*catalog.Robot) error) func() error {
		return func() error { _, err := h.UpdateRobot(ctx, "test", id, change); return err }
	}
	secret := func(id int64, secret string) func() error {
		return func() error { _, err := h.SetRobotSecret(ctx, "test", id, secret); return err }
	}
	before := h.now.Load().generation
	for _, test := range []struct {
		name string
		do   func() error
		want registry.Code
		says string
	}{
		{"no robot", func() error { _, err := h.RobotByID(ctx, 99); return err }, registry.NameUnknown, "no robot with the number 99"},
		{"no robot updated", update(99, func(*catalog.Robot) error { return nil }), registry.NameUnknown, "99"},
		{"no robot's secret", secret(99, ""), registry.NameUnknown, "99"},
		{"no robot deleted", func() error { return h.DeleteRobotByID(ctx, "test", 99) }, registry.NameUnknown, "99"},
		{"a robot that reaches elsewhere", update(r.ID, func(r *catalog.Robot) error { r.Permissions[0].Project = "staging"; return nil }), Invalid, "robot of the system"},
		{"a robot that reaches the system", update(r.ID, func(r *catalog.Robot) error {
			r.Permissions = []catalog.Permission{{Project: SystemScope, Access: []catalog.Access{{Kind: Registries, Action: registry.List}}}}
			return nil
		}), Invalid, "robot of the system"},
		{"a robot that may nothing", update(r.ID, func(r *catalog.Robot) error { r.Permissions = nil; return nil }), Invalid, "permission"},
		{"a robot that ends in the past", update(r.ID, func(r *catalog.Robot) error { r.ExpiresAt = time.Now().Add(-time.Hour); return nil }), Invalid, "expired"},
		{"a short secret", secret(r.ID, "Short1"), Invalid, "8 to 128"},
		{"a secret without a digit", secret(r.ID, "Chosen-Secret"), Invalid, "digit"},
		{"a secret that everybody tries", secret(r.ID, "Harbor12345"), Invalid, "tries first"},

		{"no user", func() error { _, err := h.UserByID(ctx, 99); return err }, registry.NameUnknown, "no user with the number 99"},
		{"no user deleted", func() error { return h.DeleteUserByID(ctx, "test", 99) }, registry.NameUnknown, "99"},
		{"the password of nobody", func() error { return h.ResetPassword(ctx, "test", 99, password) }, registry.NameUnknown, "99"},
		{"its own password, of nobody", func() error { return h.ChangePassword(ctx, 99, password, "Second-Horse-2", "") }, registry.NameUnknown, "99"},
		{"a password without the old one", func() error { return h.ChangePassword(ctx, dora, "", "Second-Horse-2", "") }, registry.Denied, "old password"},
		{"a weak password", func() error { return h.ChangePassword(ctx, dora, password, "weak", "") }, Invalid, "8 to 128"},
		{"the same password", func() error { return h.ChangePassword(ctx, dora, password, password, "") }, Invalid, "take another"},
		{"the password of a provider's user", func() error { return h.ResetPassword(ctx, "test", olga, password) }, Invalid, "OIDC provider"},
		{"its own password, of a provider's user", func() error { return h.ChangePassword(ctx, olga, password, "Second-Horse-2", "") }, Invalid, "OIDC provider"},
		{"the address of a provider's user", func() error {
			return h.SetProfile(ctx, "test", olga, func(p *catalog.Profile) { p.Email = "o@example.com" })
		}, Invalid, "OIDC provider"},
		{"an address of two lines", func() error { return h.SetProfile(ctx, "test", dora, func(p *catalog.Profile) { p.Email = "a\nb" }) }, Invalid, "address"},

		{"a member twice", func() error {
			_, err := h.AddMember(ctx, "test", catalog.Member{Project: "production", Name: "dora", Role: "guest"})
			return err
		}, registry.Conflict, "already"},
		{"a member that is nobody", func() error {
			_, err := h.AddMember(ctx, "test", catalog.Member{Project: "production", Name: "eve", Role: "guest"})
			return err
		}, registry.NameUnknown, "no user eve"},
		{"a member of another project", func() error { _, err := h.MemberByID(ctx, "staging", m.ID); return err }, registry.NameUnknown, "no member with the number"},
		{"the role of a member of another project", func() error { return h.SetRole(ctx, "test", "staging", m.ID, ProjectAdmin) }, registry.NameUnknown, "no member"},
		{"a member of another project deleted", func() error { return h.DeleteMember(ctx, "test", "staging", m.ID) }, registry.NameUnknown, "no member"},
		{"a member of no project", func() error { _, err := h.MemberByID(ctx, "none", m.ID); return err }, registry.NameUnknown, "no project none"},
		{"members of no project", func() error { _, err := h.FindMembers(ctx, "none", ""); return err }, registry.NameUnknown, "no project none"},
		{"a role that there is not", func() error { return h.SetRole(ctx, "test", "production", m.ID, "god") }, Invalid, "limitedGuest"},
	} {
		err := test.do()
		if got := code(err); got != test.want {
			t.Errorf("%s: %q (%v), want %q", test.name, got, err, test.want)
		} else if !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want it to say %q", test.name, err, test.says)
		}
	}
	h.must(h.reload(ctx))
	if after := h.now.Load().generation; after != before {
		t.Errorf("what was refused has changed something: generation %d, was %d", after, before)
	}
	// What has expired can be changed without getting another end.
	h.must(h.db.Update(ctx, func(tx *catalog.Tx) error {
		r.ExpiresAt = time.Now().Add(-time.Hour)
		return tx.UpdateRobot(r)
	}))
	if _, err := h.UpdateRobot(ctx, "test", r.ID, func(r *catalog.Robot) error { r.Description = "old"; return nil }); err != nil {
		t.Errorf("what has expired is described: %v", err)
	}
	// Another secret alone would be of no use.
	if _, _, err := h.RenewRobot(ctx, "test", r.FullName(), End{}); code(err) != Invalid || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("what has expired is renewed: %v", err)
	}
	if _, _, err := h.RenewRobot(ctx, "test", r.FullName(), End{true, time.Now().Add(time.Hour)}); err != nil {
		t.Errorf("what has expired is renewed, with another end: %v", err)
	}
}

// What another room changes is changed and recorded together, or neither.
func TestAudited(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	put := func(tx *catalog.Tx) error { return tx.PutProject(catalog.Project{Name: "shop"}) }
	h.must(h.Audited(ctx, "dora", registry.Create, Settings, "shop", "hosted", put))
	last := h.entries()
	if e := last[len(last)-1]; e.Actor != "dora" || e.Action != registry.Create || e.Kind != Settings || e.Resource != "shop" || e.Detail != "hosted" || e.Outcome != registry.Done {
		t.Errorf("recorded %+v", e)
	}
	for _, test := range []struct {
		name string
		fn   func(*catalog.Tx) error
		want registry.Code
		says string
	}{
		{"not there", func(tx *catalog.Tx) error { return tx.DeleteProject("none") }, registry.NameUnknown, "there is no project shop"},
		{"there already", func(*catalog.Tx) error { return catalog.ErrExists }, registry.Conflict, "there is a project shop already"},
		{"refused by the caller", func(*catalog.Tx) error { return invalid("no") }, Invalid, "no"},
		{"halfway", func(tx *catalog.Tx) error { h.must(tx.DeleteProject("shop")); return invalid("no") }, Invalid, "no"},
	} {
		if err := h.Audited(ctx, "dora", registry.Update, Settings, "shop", "", test.fn); code(err) != test.want || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q that says %q", test.name, err, test.want, test.says)
		}
	}
	if now := h.entries(); len(now) != len(last) {
		t.Errorf("what was not done is recorded: %+v", now[len(last):])
	}
	if all, err := h.db.Projects(ctx); err != nil || len(all) != 1 {
		t.Errorf("projects = %+v, %v", all, err)
	}
}
