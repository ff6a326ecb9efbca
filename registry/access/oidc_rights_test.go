package access

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// may says whether a user may do something now, whoever asks for it and by what.
func (p *port) may(authorization string, action registry.Action, r registry.Resource) bool {
	p.t.Helper()
	return p.Authorize(p.who(authorization), action, r) == nil
}

func pull(repo registry.Repo) (registry.Action, registry.Resource) {
	return registry.Pull, registry.Resource{Kind: registry.Repository, Repo: repo}
}

func push(repo registry.Repo) (registry.Action, registry.Resource) {
	return registry.Push, registry.Resource{Kind: registry.Repository, Repo: repo}
}

// system is something that only administrators may do.
var system = registry.Resource{Kind: Users}

func TestGroupsAreRoles(t *testing.T) {
	t.Parallel()
	p := moor(t)
	pushing, target := push(web)
	pulling, source := pull(web)

	ada := p.browser()
	ada.login(p.URL, home, "ada", "analytical")
	secret := basic("ada", p.secret(ada))
	if !p.may(secret, pushing, target) || p.may(secret, registry.List, system) {
		t.Error("dev: want developer of production, and no administrator")
	}
	if p.may(secret, pulling, registry.Resource{Kind: registry.Repository, Repo: registry.Repo{Project: "staging", Name: "web"}}) {
		t.Error("dev: a role in one project is one in another")
	}
	grace := p.browser()
	grace.login(p.URL, home, "grace", "compiler")
	if admin := basic("grace", p.secret(grace)); !p.may(admin, registry.List, system) || !p.may(admin, pushing, target) {
		t.Error("ops: want an administrator")
	}
	if u, _ := p.user("grace"); u.Admin {
		t.Error("ops: an administrator for ever, whatever the provider says next time")
	}

	// A group of the catalog, as an administrator of a project would add it.
	member := catalog.Member{Project: "staging", Group: true, Name: "dev", Role: string(Maintainer)}
	p.must(p.SetMember(t.Context(), "test", member))
	staging := registry.Resource{Kind: registry.Tags, Repo: registry.Repo{Project: "staging", Name: "web"}}
	if !p.may(secret, registry.Delete, staging) {
		t.Error("a group that is a member has no role")
	}
	if page := ada.get(p.URL + home); !strings.Contains(page.body, "<td>staging</td><td>maintainer</td><td>group dev</td>") {
		t.Errorf("the page lacks the role: %s", page.body)
	}
	p.must(p.RemoveMember(t.Context(), "test", member))
	if p.may(secret, registry.Delete, staging) {
		t.Error("C14: a group keeps a role that was taken from it")
	}

	// A user who is called like a group is not in it.
	all := people()
	all["ops"] = person{Sub: "3", Password: "x"}
	p.issuer.has(t, all)
	ops := p.browser()
	ops.login(p.URL, home, "ops", "x")
	if p.may(basic("ops", p.secret(ops)), registry.List, system) {
		t.Error("a user is an administrator by its name")
	}

	// What the provider says at the next login counts, and at once for what was there before.
	all["ada"] = person{Sub: "1815", Password: "analytical", Email: "countess@example.com"}
	p.issuer.has(t, all)
	if !p.may(secret, pulling, source) {
		t.Error("before the next login nothing is known")
	}
	page := p.browser().login(p.URL, home, "ada", "analytical")
	if !strings.Contains(page.body, "countess@example.com") || strings.Contains(page.body, "<li>dev</li>") {
		t.Errorf("the page has what was: %s", page.body)
	}
	if p.may(secret, pulling, source) {
		t.Error("C14: who has left a group has its role")
	}
	if who := p.who(secret).Name(); who != "ada" {
		t.Errorf("the secret is %q's, want ada's still", who)
	}
	all["ada"] = person{Sub: "1815", Password: "analytical", Groups: []string{"ops"}}
	p.issuer.has(t, all)
	p.browser().login(p.URL, home, "ada", "analytical")
	if !p.may(secret, registry.List, system) {
		t.Error("who has come into a group lacks its role")
	}
}

func TestASecretForDockerLogin(t *testing.T) {
	t.Parallel()
	p := moor(t)
	b := p.browser()
	b.login(p.URL, home, "ada", "analytical")
	page := b.post(p.URL+home+"secret", nil)
	found := shownSecret.FindStringSubmatch(page.body)
	if found == nil || !strings.Contains(page.body, "docker login "+p.Listener.Addr().String()+" -u ada<") {
		t.Fatalf("the page: %s", page.body)
	}
	first := found[1]
	if again := b.get(p.URL + home); strings.Contains(again.body, first) || !strings.Contains(again.body, "Replace the secret") {
		t.Error("the secret is shown twice")
	}
	accounts, err := p.db.Accounts(t.Context())
	p.must(err)
	u, _ := p.user("ada")
	if stored := string(accounts.Secrets[u.ID]); len(stored) != 32 || strings.Contains(stored, first) {
		t.Errorf("%d bytes are stored of it, want a hash", len(stored))
	}

	// As docker does: the ping, the token service with and without a scope, and the API.
	if w, _ := p.ask(basic("ada", first)); w.Code != http.StatusOK {
		t.Errorf("docker login: %d %s", w.Code, w.Body)
	}
	w, token := p.ask(basic("ada", first), "repository:production/web:pull,push")
	action, resource := push(web)
	if w.Code != http.StatusOK || !p.may(token, action, resource) || !p.may(basic("ada", first), action, resource) {
		t.Errorf("docker push: %d %s", w.Code, w.Body)
	}
	for _, wrong := range []string{"analytical", first + "x", first[:42], "", clientSecret} {
		if w, _ := p.ask(basic("ada", wrong)); w.Code == http.StatusOK && wrong != "" {
			t.Errorf("the password %q is right", wrong)
		}
	}

	second := p.secret(b)
	if second == first || p.who(basic("ada", first)).Name() != "" || p.who(basic("ada", second)).Name() != "ada" {
		t.Error("a new secret does not replace the old one")
	}
	b.post(p.URL+home+"secret/remove", nil)
	if p.who(basic("ada", second)).Name() != "" {
		t.Error("a secret works that was removed")
	}
}

func TestC14_WhoIsDisabledIsOutAtOnce(t *testing.T) {
	t.Parallel()
	p := moor(t)
	b := p.browser()
	b.login(p.URL, home, "ada", "analytical")
	secret := p.secret(b)
	_, token := p.ask(basic("ada", secret), "repository:production/web:pull")
	action, resource := pull(web)
	if !p.may(token, action, resource) {
		t.Fatal("the token is no good from the start")
	}
	p.must(p.DisableUser(t.Context(), "test", "ada", true))
	if page := b.get(p.URL + home); strings.Contains(page.body, "ada@example.com") {
		t.Error("the session goes on")
	}
	if page := b.post(p.URL+home+"secret", nil); page.StatusCode != http.StatusUnauthorized {
		t.Errorf("a secret can be made: %s", page.Status)
	}
	if p.may(basic("ada", secret), action, resource) || p.may(token, action, resource) {
		t.Error("the secret or its token works on")
	}
	out := p.browser()
	if page := out.login(p.URL, home, "ada", "analytical"); page.StatusCode != http.StatusForbidden || !strings.Contains(page.body, "disabled here") || out.cookie(p.URL, sessionCookie) != "" {
		t.Errorf("the login: %s\n%s", page.Status, page.body)
	}
	entries, err := p.Audit(t.Context(), time.Time{}, -1)
	p.must(err)
	if last := entries[len(entries)-1]; last.Action != login || last.Outcome != registry.Refused || last.Actor != "ada" {
		t.Errorf("the audit log ends with %+v", last)
	}

	p.must(p.DisableUser(t.Context(), "test", "ada", false))
	if !p.may(basic("ada", secret), action, resource) {
		t.Error("the secret is gone after a disable and an enable")
	}
	p.must(p.DeleteUser(t.Context(), "test", "ada"))
	if page := b.get(p.URL + home); strings.Contains(page.body, "ada@example.com") {
		t.Error("the session of a user who has gone goes on")
	}
	// The same person comes again as a new user, and is not who it was.
	p.browser().login(p.URL, home, "ada", "analytical")
	if p.who(basic("ada", secret)).Name() != "" || p.may(token, action, resource) {
		t.Error("the secret or token of a deleted user is the next one's")
	}
	if page := b.get(p.URL + home); strings.Contains(page.body, "ada@example.com") {
		t.Error("the session of a deleted user is the next one's")
	}
}

// Nobody tells us that somebody has left: what the provider said last is believed for so long.
func TestC14_ASecretEndsWithoutALogin(t *testing.T) {
	t.Parallel()
	p := moor(t)
	b := p.browser()
	b.login(p.URL, home, "ada", "analytical")
	secret := basic("ada", p.secret(b))
	accounts, err := p.db.Accounts(t.Context())
	p.must(err)
	aged := func(age time.Duration) {
		old := accounts
		old.Users = append([]catalog.User(nil), accounts.Users...)
		for i := range old.Users {
			old.Users[i].IdentifiedAt = old.Users[i].IdentifiedAt.Add(-age)
		}
		p.now.Store(newSnapshot(old, projects, p.config.OIDC))
	}
	aged(7*24*time.Hour - time.Minute)
	if p.who(secret).Name() != "ada" {
		t.Error("the secret ends before seven days")
	}
	aged(7*24*time.Hour + time.Second)
	if p.who(secret).Name() != "" {
		t.Error("the secret works on after seven days without a login")
	}
	b.login(p.URL, home, "ada", "analytical")
	if p.who(secret).Name() != "ada" {
		t.Error("a login does not bring the secret back")
	}
}

func TestAnotherProvidersUsersAreOthers(t *testing.T) {
	t.Parallel()
	p := moor(t)
	b := p.browser()
	b.login(p.URL, home, "ada", "analytical")
	secret := basic("ada", p.secret(b))
	action, resource := push(web)
	if !p.may(secret, action, resource) {
		t.Fatal("ada is no developer from the start")
	}

	// The house moves to another provider, which has the same names, subjects and addresses.
	q := &port{issuer: newIssuer(t), log: p.log}
	q.house = &house{t: t, dir: p.dir, db: p.db}
	q.Access = q.again(func(c *Config) {
		c.OIDC = &OIDC{Issuer: q.issuer.url, ClientID: "roadstead", ClientSecret: clientSecret, Scopes: []string{"profile", "email", "groups"}, Groups: p.config.OIDC.Groups}
	})
	q.Server = httptest.NewServer(q.Access.Handler())
	t.Cleanup(q.Close)
	q.issuer.start(t, q.URL)
	if q.who(secret).Name() != "" {
		t.Error("the secret of a user whose provider has gone works on")
	}
	page := q.browser().login(q.URL, home, "ada", "analytical")
	if !strings.Contains(page.body, "<h1>ada-2</h1>") {
		t.Errorf("the same name from another provider: %s", page.body)
	}
	one, _ := q.user("ada")
	two, _ := q.user("ada-2")
	if one.ID == two.ID || one.Subject != two.Subject || one.Issuer != p.issuer.url || two.Issuer != q.issuer.url {
		t.Errorf("users %+v and %+v", one, two)
	}
	if u := q.now.Load().users[one.ID]; u.roles["production"] != 0 {
		t.Error("a group of a provider that has gone has a role by its name")
	}
}

func TestNobodyIsTakenOverByAName(t *testing.T) {
	t.Parallel()
	p := moor(t)
	p.member("Ada", ProjectAdmin) // whatever its case
	p.must(p.SetMember(t.Context(), "test", catalog.Member{Project: "staging", Name: "Ada", Role: string(ProjectAdmin)}))
	_, _, err := p.AddRobot(t.Context(), "test", catalog.Robot{Name: "bot", Permissions: []catalog.Permission{
		{Project: "*", Access: []catalog.Access{{Kind: registry.Repository, Action: registry.Pull}}},
	}})
	p.must(err)
	all := map[string]person{
		"ada":           {Sub: "1", Password: "x", Email: "admin@example.com"},
		"ada-2":         {Sub: "2", Password: "x"},
		"admin":         {Sub: "3", Password: "x"},
		"robot$bot":     {Sub: "4", Password: "x"},
		"Ada L\u00f6ve": {Sub: "5", Password: "x"},
		"\u0430da":      {Sub: "6", Password: "x"}, // a Cyrillic letter
		"$$$":           {Sub: "7", Password: "x"},
	}
	p.issuer.has(t, all)
	for _, tt := range []struct{ login, want string }{
		{"ada", "ada-2"},
		{"ada", "ada-2"}, // the same one again
		{"ada-2", "ada-2-2"},
		{"admin", "admin-2"},
		{"robot$bot", "robot-bot"},
		{"Ada L\u00f6ve", "ada-l-ve"},
		{"\u0430da", "da"},
		{"$$$", "user"},
	} {
		b := p.browser()
		page := b.login(p.URL, home, tt.login, "x")
		if !strings.Contains(page.body, "<h1>"+tt.want+"</h1>") {
			t.Errorf("%q is not %q: %s", tt.login, tt.want, page.body)
		}
		secret := basic(tt.want, p.secret(b))
		action, resource := pull(web)
		if p.may(secret, action, resource) || p.may(secret, registry.List, system) {
			t.Errorf("%q has rights that are another's", tt.login)
		}
	}
	if p.who(basic("Ada", password)).Name() != "Ada" {
		t.Error("a local account does not work any more")
	}
	// Even when nobody has it, the name of the first administrator is nobody's.
	p.must(p.SetAdmin(t.Context(), "test", "Ada", true), p.DeleteUser(t.Context(), "test", firstAdmin))
	all["admin"] = person{Sub: "8", Password: "x"}
	p.issuer.has(t, all)
	if page := p.browser().login(p.URL, home, "admin", "x"); !strings.Contains(page.body, "<h1>admin-3</h1>") {
		t.Errorf("the provider has made %s", page.body)
	}
}

func TestC11_NothingSecretIsWrittenAnywhere(t *testing.T) {
	t.Parallel()
	p := moor(t)
	stop := p.running()
	b := p.browser()
	b.login(p.URL, home, "ada", "analytical")
	var codes []string
	for _, at := range b.trail {
		if _, code, ok := strings.Cut(at, "code="); ok {
			codes = append(codes, strings.Split(code, "&")[0])
		}
	}
	secret := p.secret(b)
	p.ask(basic("ada", secret), "repository:production/web:pull")
	p.ask(basic("ada", secret+"x"))
	session := b.cookie(p.URL, sessionCookie)
	b.get(p.URL + callbackPath + "?code=canary-code&state=canary-state")
	b.get(p.URL + loginPath)
	p.issuer.stop()
	p.portal.provider.forget()
	b.get(p.URL + loginPath)
	pages := b.get(p.URL+home).body + b.get(p.URL+callbackPath).body
	stop()
	entries, err := p.Audit(t.Context(), time.Time{}, -1)
	p.must(err)
	if len(codes) == 0 || session == "" || len(entries) < 3 {
		t.Fatalf("%d codes, session %q, %d records: nothing was driven through", len(codes), session, len(entries))
	}
	text := p.log.String() + fmt.Sprintf("%+v", entries) + pages + fmt.Sprintf("%+v %v", p.config, p.config.OIDC)
	for _, canary := range append(codes, clientSecret, secret, session, "canary-code", "canary-state", "analytical") {
		if strings.Contains(text, canary) {
			t.Errorf("%q is written somewhere", canary)
		}
	}
}
