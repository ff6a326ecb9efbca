package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What administration refuses, and says so that somebody can do better.
func TestAdministrationRefuses(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.member("dora", Developer)
	h.robot("production", "ci", "pull")
	pulls, err := Permit("production", "pull")
	h.must(err)
	everywhere, err := Permit("*", "pull")
	h.must(err)
	robot := func(r catalog.Robot) func() error {
		return func() error { _, _, err := h.AddRobot(ctx, "test", r); return err }
	}
	user := func(name, pass string) func() error {
		return func() error { return h.AddUser(ctx, "test", NewUser{Name: name, Password: pass}) }
	}
	member := func(m catalog.Member) func() error { return func() error { return h.SetMember(ctx, "test", m) } }
	before := h.now.Load().generation
	for _, test := range []struct {
		name string
		do   func() error
		want registry.Code
		says string
	}{
		{"a user twice", user("dora", password), registry.Conflict, "already"},
		{"a user twice, in capitals", user("DORA", password), registry.Conflict, "already"},
		{"a user without a name", user("", password), Invalid, "letters"},
		{"a user who looks like a robot", user("robot$ci", password), Invalid, "letters"},
		{"a user with a colon", user("a:b", password), Invalid, "letters"},
		{"a user with a line", user("a\nb", password), Invalid, "letters"},
		{"a user with a dot first", user(".a", password), Invalid, "letters"},
		{"a user in other letters", user("аdmin", password), Invalid, "letters"},
		{"a user with a very long name", user(strings.Repeat("a", 256), password), Invalid, "255"},
		{"a user with an address of two lines", func() error {
			return h.AddUser(ctx, "test", NewUser{Name: "eve", Profile: catalog.Profile{Email: "a\nb"}, Password: password})
		}, Invalid, "address"},
		{"a short password", user("eve", "Short1"), Invalid, "8 to 128"},
		{"a long password", user("eve", "A1"+strings.Repeat("a", 127)), Invalid, "8 to 128"},
		{"a password without a digit", user("eve", "Correct-Horse"), Invalid, "digit"},
		{"a password that everybody knows", user("eve", "Harbor12345"), Invalid, "tries first"},
		{"a password of nobody", func() error { return h.SetPassword(ctx, "test", "eve", password) }, registry.NameUnknown, "no user eve"},
		{"a weak password", func() error { return h.SetPassword(ctx, "test", "dora", "dora") }, Invalid, "8 to 128"},
		{"nobody as administrator", func() error { return h.SetAdmin(ctx, "test", "eve", true) }, registry.NameUnknown, "no user eve"},
		{"nobody disabled", func() error { return h.DisableUser(ctx, "test", "eve", true) }, registry.NameUnknown, "no user eve"},
		{"nobody deleted", func() error { return h.DeleteUser(ctx, "test", "eve") }, registry.NameUnknown, "no user eve"},
		{"the last administrator deleted", func() error { return h.DeleteUser(ctx, "test", "admin") }, registry.Denied, "last administrator"},
		{"the last administrator disabled", func() error { return h.DisableUser(ctx, "test", "admin", true) }, registry.Denied, "last administrator"},
		{"the last administrator none any more", func() error { return h.SetAdmin(ctx, "test", "admin", false) }, registry.Denied, "last administrator"},

		{"a robot twice", robot(catalog.Robot{Project: "production", Name: "ci", Permissions: []catalog.Permission{pulls}}), registry.Conflict, "already"},
		{"a robot of no project", robot(catalog.Robot{Project: "none", Name: "ci", Permissions: []catalog.Permission{pulls}}), registry.NameUnknown, "no project none"},
		{"a robot of a traversal", robot(catalog.Robot{Project: "../x", Name: "ci", Permissions: []catalog.Permission{pulls}}), Invalid, "no project"},
		{"a robot that reaches elsewhere", robot(catalog.Robot{Project: "staging", Name: "ci", Permissions: []catalog.Permission{pulls}}), Invalid, "robot of the system"},
		{"a robot that reaches everywhere", robot(catalog.Robot{Project: "staging", Name: "ci", Permissions: []catalog.Permission{everywhere}}), Invalid, "robot of the system"},
		{"a robot in capitals", robot(catalog.Robot{Project: "production", Name: "CI", Permissions: []catalog.Permission{pulls}}), Invalid, "lower-case"},
		{"a robot with a plus", robot(catalog.Robot{Name: "a+b", Permissions: []catalog.Permission{everywhere}}), Invalid, "lower-case"},
		{"a robot that may nothing", robot(catalog.Robot{Project: "production", Name: "idle"}), Invalid, "permission"},
		{"a robot that may fly", robot(catalog.Robot{Project: "production", Name: "fly", Permissions: []catalog.Permission{{Project: "production", Access: []catalog.Access{{Kind: "sky", Action: "fly"}}}}}), Invalid, "nothing that a robot may do"},
		{"a robot that has expired", robot(catalog.Robot{Project: "production", Name: "old", Permissions: []catalog.Permission{pulls}, ExpiresAt: time.Now().Add(-time.Hour)}), Invalid, "expired"},
		{"a robot of two lines", robot(catalog.Robot{Project: "production", Name: "lines", Description: "a\nb", Permissions: []catalog.Permission{pulls}}), Invalid, "control characters"},
		{"no robot renewed", func() error { _, _, err := h.RenewRobot(ctx, "test", "robot$none", End{}); return err }, registry.NameUnknown, "no robot robot$none"},
		{"no robot disabled", func() error { return h.DisableRobot(ctx, "test", "robot$production+none", true) }, registry.NameUnknown, "no robot"},
		{"no robot deleted", func() error { return h.DeleteRobot(ctx, "test", "ci") }, Invalid, "robot$name"},
		{"no permission", func() error { _, err := Permit("p"); return err }, Invalid, "pull, push, delete or warm"},
		{"a permission that there is not", func() error { _, err := Permit("p", "fly"); return err }, Invalid, "pull, push, delete or warm"},

		{"a member of no project", member(catalog.Member{Project: "none", Name: "dora", Role: "guest"}), registry.NameUnknown, "no project none"},
		{"a member that is nobody", member(catalog.Member{Project: "staging", Name: "eve", Role: "guest"}), registry.NameUnknown, "no user eve"},
		{"a role that there is not", member(catalog.Member{Project: "staging", Name: "dora", Role: "god"}), Invalid, "limitedGuest, guest, developer, maintainer, projectAdmin"},
		{"a group without a name", member(catalog.Member{Project: "staging", Group: true, Role: "guest"}), Invalid, "group"},
		{"a group of two lines", member(catalog.Member{Project: "staging", Group: true, Name: "a\nb", Role: "guest"}), Invalid, "group"},
		{"a member who is none removed", func() error {
			return h.RemoveMember(ctx, "test", catalog.Member{Project: "staging", Name: "dora"})
		}, registry.NameUnknown, "no member"},
		{"the members of no project", func() error { _, err := h.Members(ctx, "none"); return err }, registry.NameUnknown, "no project none"},

		{"a secret without a name", func() error { return h.PutSecret(ctx, "test", "", "x") }, Invalid, "name of a secret"},
		{"a secret of a path", func() error { return h.PutSecret(ctx, "test", "../x", "x") }, Invalid, "name of a secret"},
		{"no secret", func() error { return h.PutSecret(ctx, "test", "hub", "") }, Invalid, "0 bytes"},
		{"a very long secret", func() error { return h.PutSecret(ctx, "test", "hub", strings.Repeat("x", maxSecret+1)) }, Invalid, "bytes"},
		{"a secret that is not there", func() error { _, err := h.Secret(ctx, "hub"); return err }, registry.NameUnknown, "roadstead secret set hub"},
		{"a secret that is not there deleted", func() error { return h.DeleteSecret(ctx, "test", "hub") }, registry.NameUnknown, "no secret hub"},
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
	// With another administrator, the first may go.
	h.must(h.SetAdmin(ctx, "test", "dora", true), h.DisableUser(ctx, "test", "admin", true), h.DeleteUser(ctx, "test", "admin"))
}

// What is administered is in force and in the audit log, with who did it.
func TestAdministrationIsAudited(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.must(h.AddUser(ctx, "root", NewUser{Name: "dora", Password: password}),
		h.SetPassword(ctx, "root", "dora", "Another-Horse-2"),
		h.SetAdmin(ctx, "root", "dora", true), h.SetAdmin(ctx, "root", "dora", false),
		h.SetMember(ctx, "root", catalog.Member{Project: "production", Name: "dora", Role: "guest"}),
		h.RemoveMember(ctx, "root", catalog.Member{Project: "production", Name: "dora"}))
	h.robot("production", "ci", "pull")
	end := time.Now().Add(time.Hour)
	_, _, err := h.RenewRobot(ctx, "root", "robot$production+ci", End{true, end})
	h.must(err)
	_, kept, err := h.RenewRobot(ctx, "root", "robot$production+ci", End{})
	h.must(err)
	if !kept.Equal(end.Truncate(time.Millisecond)) {
		t.Errorf("renewed without an end: it ends at %s, and did at %s", kept, end)
	}
	_, gone, err := h.RenewRobot(ctx, "root", "robot$production+ci", End{Change: true})
	h.must(err)
	if all, err := h.Robots(ctx); err != nil || !gone.IsZero() || !all[0].ExpiresAt.IsZero() {
		t.Errorf("its end was taken away: %s, %+v, %v", gone, all, err)
	}
	h.must(h.DisableRobot(ctx, "root", "robot$production+ci", true), h.DisableRobot(ctx, "root", "robot$production+ci", false),
		h.DeleteRobot(ctx, "root", "robot$production+ci"), h.PutSecret(ctx, "root", "hub", "x"), h.DeleteSecret(ctx, "root", "hub"),
		h.DisableUser(ctx, "root", "dora", true), h.DisableUser(ctx, "root", "dora", false), h.DeleteUser(ctx, "root", "dora"))
	var got []string
	for _, e := range h.entries() {
		got = append(got, strings.TrimSpace(strings.Join([]string{e.Actor, string(e.Action), string(e.Kind), e.Resource, e.Detail}, " ")))
	}
	want := `first start create user admin admin
root create user dora
root update user dora password
root update user dora admin
root update user dora no admin
root update member production user dora guest
root delete member production user dora
test create robot robot$production+ci production:repository:pull
root update robot robot$production+ci secret, until ` + end.UTC().Format(time.RFC3339) + `
root update robot robot$production+ci secret
root update robot robot$production+ci secret, without an end
root disable robot robot$production+ci
root enable robot robot$production+ci
root delete robot robot$production+ci
root update secret hub
root delete secret hub
root disable user dora
root enable user dora
root delete user dora`
	if strings.Join(got, "\n") != want {
		t.Errorf("audit log:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

// entries are all of the audit log.
func (h *house) entries() []catalog.Entry {
	h.t.Helper()
	all, err := h.Audit(h.t.Context(), time.Time{}, -1)
	h.must(err)
	return all
}

// A secret is of no use without its key, nor under another name; what is wrong with it is told,
// with what to do.
func TestVault(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.must(h.PutSecret(ctx, "test", "hub", "Value-of-hub"), h.PutSecret(ctx, "test", "quay", "Value-of-quay"))
	if value, err := h.Secret(ctx, "hub"); err != nil || value != "Value-of-hub" {
		t.Fatalf("secret %q, %v", value, err)
	}
	if value, err := h.again().Secret(ctx, "hub"); err != nil || value != "Value-of-hub" {
		t.Errorf("after a restart: %q, %v", value, err)
	}
	if names, err := h.Secrets(ctx); err != nil || strings.Join(names, " ") != "hub quay" {
		t.Errorf("names %q, %v", names, err)
	}
	hub, err := h.db.Sealed(ctx, "hub")
	h.must(err)
	quay, err := h.db.Sealed(ctx, "quay")
	h.must(err)
	if strings.Contains(hub, "Value") || !strings.HasPrefix(hub, "v1.1.") || hub == quay {
		t.Errorf("sealed: %q", hub)
	}
	h.must(h.PutSecret(ctx, "test", "hub", "Value-of-hub"))
	if again, _ := h.db.Sealed(ctx, "hub"); again == hub {
		t.Error("the same secret is sealed alike twice")
	}

	path := filepath.Join(h.dir, "keys", "vault-1.key")
	key, err := os.ReadFile(path)
	h.must(err)
	put := func(sealed string) {
		t.Helper()
		h.must(h.db.Update(ctx, func(tx *catalog.Tx) error { return tx.PutSecret("hub", sealed) }))
	}
	for _, test := range []struct {
		name, sealed string
		key          []byte // nil: none
		says         string
	}{
		{"moved to another name", quay, key, "does not open"},
		{"the key has gone", hub, nil, "is missing"},
		{"another key", hub, []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), "another key"},
		{"a damaged key", hub, []byte("nonsense"), "no key"},
		{"cut short", hub[:20], key, "secret set hub"},
		{"changed", hub[:len(hub)-6] + "AAAAA=", key, "secret set hub"},
		{"of a newer program", "v2.1.AAAA", key, "newer program"},
		{"nonsense", "nonsense", key, "newer program"},
	} {
		put(test.sealed)
		h.must(os.RemoveAll(path))
		if test.key != nil {
			h.must(os.WriteFile(path, test.key, 0o600))
		}
		value, err := h.again().Secret(ctx, "hub")
		if err == nil || value != "" || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %q, %v; want an error that says %q", test.name, value, err, test.says)
		}
	}
	// With the next key beside it the old one still opens, and the new one seals.
	h.must(os.WriteFile(path, key, 0o600), os.WriteFile(filepath.Join(h.dir, "keys", "vault-2.key"), []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), 0o600))
	put(hub)
	a := h.again()
	if value, err := a.Secret(ctx, "hub"); err != nil || value != "Value-of-hub" {
		t.Errorf("with a second key: %q, %v", value, err)
	}
	h.must(a.PutSecret(ctx, "test", "hub", "Other-value"))
	if sealed, _ := h.db.Sealed(ctx, "hub"); !strings.HasPrefix(sealed, "v1.2.") {
		t.Errorf("sealed with the second key: %q", sealed)
	}
	if value, err := h.Secret(ctx, "hub"); err != nil || value != "Other-value" {
		t.Errorf("at a process that has not looked since: %q, %v", value, err)
	}
}
