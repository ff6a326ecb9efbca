package access

import (
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// mayOwn is who may do what in a project of his own, as the documentation has it: l limitedGuest,
// g guest, d developer, m maintainer, p projectAdmin; u is a robot that may pull, s one that may
// push and x one that may delete. It is written out and not computed from the table it tests.
const mayOwn = `
pull   repository  lgdmp us.
list   repository  lgdmp us.
read   repository  lgdmp us.
read   artifact    lgdmp us.
list   artifact    lgdmp us.
list   tag         lgdmp us.
read   project     lgdmp us.
read   quota       lgdmp ...
read   member      .gdmp ...
list   member      .gdmp ...
read   robot       .gdmp ...
list   robot       .gdmp ...
list   log         .gdmp ...
read   tag-retention  .gdmp ...
list   tag-retention  .gdmp ...
read   immutable-tag  .gdmp ...
list   immutable-tag  .gdmp ...
read   cache       .gdmp ...
push   repository  ..dmp .s.
create repository  ..dmp ...
update repository  ..dmp ...
create artifact    ..dmp ...
create tag         ..dmp .s.
delete repository  ...mp ...
delete artifact    ...mp ..x
delete tag         ...mp ..x
create tag-retention  ...mp ...
update tag-retention  ...mp ...
delete tag-retention  ...mp ...
operate tag-retention ...mp ...
create immutable-tag  ...mp ...
update immutable-tag  ...mp ...
delete immutable-tag  ...mp ...
create cache       ...mp ...
update cache       ...mp ...
delete cache       ...mp ..x
update project     ....p ...
delete project     ....p ...
create member      ....p ...
update member      ....p ...
delete member      ....p ...
create robot       ....p ...
update robot       ....p ...
delete robot       ....p ...
update artifact    ..... ...
read   tag         lgdmp us.
update tag         ..... ...
push   tag         ..... ...
pull   blob        ..... ...
grant  secret      ..... ...
update quota       ..... ...
list   quota       ..... ...
operate immutable-tag ..... ...
read   registry    ..... ...
list   audit-log   ..... ...
read   garbage-collection ..... ...
search user        ..... ...
`

// matrix is everybody who asks, by what mayOwn calls them.
func matrix(h *house) map[string]registry.Principal {
	letters := map[string]Role{"l": LimitedGuest, "g": Guest, "d": Developer, "m": Maintainer, "p": ProjectAdmin}
	all := map[string]registry.Principal{
		"anonymous": h.who(""), "wrong": h.who(basic("nobody", "Wrong-Horse-1")), "admin": h.who(basic("admin", password)),
	}
	for letter, role := range letters {
		h.member(string(role), role)
		all[letter] = h.who(basic(string(role), password))
	}
	h.member("stranger", "")
	all["stranger"] = h.who(basic("stranger", password))
	for letter, word := range map[string]string{"u": "pull", "s": "push", "x": "delete"} {
		all[letter] = h.who(basic("robot$production+"+word, h.robot("production", word, word)))
	}
	return all
}

// robot adds a robot and returns its secret.
func (h *house) robot(project, name string, words ...string) string {
	h.t.Helper()
	scope := project
	if scope == "" {
		scope = "*"
	}
	permission, err := Permit(scope, words...)
	h.must(err)
	_, secret, err := h.AddRobot(h.t.Context(), "test", catalog.Robot{Project: project, Name: name, Permissions: []catalog.Permission{permission}})
	h.must(err)
	return secret
}

// Every role, every action, every kind, in the own and in any other project (FAULTS C3).
func TestC3_Matrix(t *testing.T) {
	h := open(t)
	all := matrix(h)
	asked := 0
	for line := range strings.Lines(strings.TrimSpace(mayOwn)) {
		fields := strings.Fields(line)
		action, kind, own := registry.Action(fields[0]), registry.Kind(fields[1]), fields[2]+fields[3]
		content := kind == "repository" || kind == "artifact" || kind == "tag"
		looks := content && (action == "pull" && kind == "repository" || action == "list" || action == "read") || kind == "project" && action == "read"

		for name, p := range all {
			for _, project := range []string{"production", "staging", "public", "docker.io", "ghcr.io", "absent"} {
				somebody := name != "anonymous" && name != "wrong"
				public := project == "public" || project == "docker.io"
				proxy := project == "docker.io" || project == "ghcr.io"
				alters := content && !looks && (kind != "repository" || action != "update") // the description is ours
				admin := name == "admin"
				mine := project == "production" && strings.Contains(own, name)
				seen := public || project == "production" && strings.Contains("lgdmpus", name) && len(name) == 1

				var want registry.Code
				switch {
				case public && looks:
				case proxy && alters && (public || admin):
					want = registry.Denied // for anybody: no right helps
				case admin, mine:
				case !somebody:
					want = registry.Unauthorized
				case seen:
					want = registry.Denied
				case looks:
					want = registry.NameUnknown
				default:
					want = registry.Denied
				}
				repo := registry.Repo{Project: project, Name: "web"}
				got := code(h.Authorize(p, action, registry.Resource{Kind: kind, Repo: repo}))
				if got != want {
					t.Errorf("%s: %s %s in %s: %q, want %q", name, action, kind, project, got, want)
				}
				asked++
			}
		}
	}
	if asked < 12*30*6 {
		t.Errorf("only %d questions were asked", asked)
	}
}

// Who has no right in a private proxy is told the same of a registry that no project stands for, to the
// message; who has one everywhere is told that there is none, and so is everybody where nothing is hidden.
func TestC19_ElsewhereIsAsAPrivateProxy(t *testing.T) {
	h := open(t)
	all := matrix(h)
	_, token := h.ask(basic("admin", password), "repository:docker.io/unknown.io/web:pull")
	all["admin with a token"] = h.who(token)
	_, token = h.ask("", "repository:docker.io/unknown.io/web:pull")
	all["anonymous with a token"] = h.who(token)
	hidden := 0
	for line := range strings.Lines(strings.TrimSpace(mayOwn)) {
		fields := strings.Fields(line)
		action, kind := registry.Action(fields[0]), registry.Kind(fields[1])
		for name, p := range all {
			got := h.Elsewhere(p, action, kind)
			if strings.HasPrefix(name, "admin") {
				if got != nil {
					t.Errorf("%s: %s %s: %v, want nil", name, action, kind, got)
				}
				continue
			}
			if want := h.Authorize(p, action, registry.Resource{Kind: kind, Repo: registry.Repo{Project: "ghcr.io", Name: "web"}}); got != want {
				t.Errorf("%s: %s %s: %v, and of a private proxy %v", name, action, kind, got, want)
			}
			hidden++
		}
	}
	_, token = h.ask(basic("robot$nodes", h.robot("", "nodes", "pull")), "repository:docker.io/unknown.io/web:pull")
	if err := h.Elsewhere(h.who(token), registry.Pull, registry.Repository); err != nil {
		t.Errorf("a robot that may pull from all projects, with a token: %v, want nil", err)
	}
	if hidden < 12*30 {
		t.Errorf("only %d questions were compared", hidden)
	}

	h.SetProjects([]Project{{Name: "production", Hosted: true}, {Name: "docker.io", Public: true}})
	for name, p := range all {
		if err := h.Elsewhere(p, registry.Pull, registry.Repository); err != nil {
			t.Errorf("%s, where no proxy is private: %v", name, err)
		}
	}
}

// No right has come to the table that the matrix does not ask for.
func TestC3_MatrixIsWhole(t *testing.T) {
	asked := map[right]bool{}
	for line := range strings.Lines(strings.TrimSpace(mayOwn)) {
		fields := strings.Fields(line)
		asked[right{registry.Kind(fields[1]), registry.Action(fields[0])}] = true
	}
	for r := range rights {
		if !asked[r] {
			t.Errorf("who may %s %s is not in the matrix", r.action, r.kind)
		}
	}
}

// ofTheSystem are the kinds and actions that the matrix of the system asks for, and some that
// nobody knows.
var (
	ofTheSystem = []registry.Kind{
		Users, Secrets, Settings, Robots, Log, Members, Quotas, Retention, Immutable, Cache, Registries, Adapters, Collection, Scrub, Warming,
		Configuration, Statistics, Volumes, registry.Repository, "audit-log", "anything",
	}
	toTheSystem = []registry.Action{
		registry.Read, registry.List, registry.Create, registry.Update, registry.Delete, registry.Pull, registry.Push, Operate, Stop, Search,
	}
)

// What belongs to no project is the administrator's. Who administers a project finds users to make
// them members, and everybody creates projects where the configuration says so.
func TestC3_MatrixOfTheSystem(t *testing.T) {
	h := open(t)
	all := matrix(h)
	for _, anyone := range []bool{false, true, false} {
		h.SetAnyoneCreates(anyone)
		for name, p := range all {
			for _, kind := range ofTheSystem {
				for _, action := range toTheSystem {
					want := registry.Denied
					switch {
					case name == "admin", name == "p" && kind == Users && action == Search:
						want = ""
					case name == "anonymous", name == "wrong":
						want = registry.Unauthorized
					case anyone && kind == Settings && action == registry.Create && !strings.Contains("usx", name):
						want = ""
					}
					if got := code(h.Authorize(p, action, registry.Resource{Kind: kind})); got != want {
						t.Errorf("%s: %s %s: %q, want %q", name, action, kind, got, want)
					}
				}
			}
		}
	}
	for name, p := range all {
		if err := h.Authorize(p, registry.List, registry.Resource{Kind: registry.Catalog}); err != nil {
			t.Errorf("%s: catalog: %v", name, err)
		}
	}
}

// A token adds nothing to what its account may, and its account nothing to what it was asked for.
func TestTokenNarrows(t *testing.T) {
	h := open(t)
	h.member("mia", Maintainer)
	_, pulls := h.ask(basic("mia", password), "repository:production/web:pull")
	_, everything := h.ask(basic("mia", password), "repository:production/web:pull,push,delete", "repository:staging/web:*")
	_, list := h.ask(basic("mia", password), "registry:catalog:*")
	for _, test := range []struct {
		name, token string
		action      registry.Action
		kind        registry.Kind
		repo        registry.Repo
		want        registry.Code
	}{
		{"pulls", pulls, registry.Pull, registry.Repository, web, ""},
		{"lists tags", pulls, registry.List, registry.Tags, web, ""},
		{"push was not asked for", pulls, registry.Push, registry.Repository, web, registry.Unauthorized},
		{"another repository was not asked for", pulls, registry.Pull, registry.Repository, registry.Repo{Project: "production", Name: "other"}, registry.Unauthorized},
		{"a public one is for anybody", pulls, registry.Pull, registry.Repository, tool, ""},
		{"pushes", everything, registry.Push, registry.Repository, web, ""},
		{"deletes", everything, registry.Delete, registry.Artifact, web, ""},
		{"asked for and not had", everything, registry.Pull, registry.Repository, registry.Repo{Project: "staging", Name: "web"}, registry.NameUnknown},
		{"no administration", everything, registry.Read, Members, registry.Repo{Project: "production"}, registry.Unauthorized},
		{"the list is no content", list, registry.Pull, registry.Repository, web, registry.Unauthorized},
		{"the list has what may be pulled", list, registry.List, registry.Repository, web, ""},
		{"and nothing else", list, registry.List, registry.Repository, registry.Repo{Project: "staging", Name: "web"}, registry.NameUnknown},
	} {
		if got := code(h.Authorize(h.who(test.token), test.action, registry.Resource{Kind: test.kind, Repo: test.repo})); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	_, admin := h.ask(basic("admin", password), "repository:production/web:*")
	if got := code(h.Authorize(h.who(admin), registry.Create, registry.Resource{Kind: Users})); got != registry.Denied {
		t.Errorf("users are administered with a token of the administrator: %q, want Denied", got)
	}
}

// Nothing in a refusal says whether a project is there that the caller may not see.
func TestC19_PrivateLooksLikeAbsent(t *testing.T) {
	h := open(t)
	for name, p := range matrix(h) {
		if name == "admin" {
			continue
		}
		for line := range strings.Lines(strings.TrimSpace(mayOwn)) {
			fields := strings.Fields(line)
			var said []string
			for _, project := range []string{"staging", "absent", "ghcr.io"} {
				err := h.Authorize(p, registry.Action(fields[0]), registry.Resource{Kind: registry.Kind(fields[1]), Repo: registry.Repo{Project: project, Name: "web"}})
				if err == nil {
					t.Fatalf("%s: %s is allowed in %s", name, line, project)
				}
				said = append(said, err.Error())
			}
			if said[0] != said[1] || said[2] != said[1] {
				t.Errorf("%s: %s in private, absent and private proxy projects: %q", name, strings.TrimSpace(line), said)
			}
		}
	}
}

// Where nothing is private nothing is hidden, and nobody is asked to log in for nothing.
func TestOpenServer(t *testing.T) {
	h := open(t)
	h.SetProjects([]Project{{Name: "docker.io", Public: true}, {Name: "quay.io", Public: true}})
	if err := h.Login(h.who("")); err != nil {
		t.Errorf("login by anybody: %v", err)
	}
	if got := code(h.Login(h.who(basic("admin", "Wrong-Horse-1")))); got != registry.Unauthorized {
		t.Errorf("login with a wrong password: %q, want Unauthorized", got)
	}
	absent := registry.Repo{Project: "absent", Name: "web"}
	if got := code(h.Authorize(h.who(""), registry.Pull, registry.Resource{Kind: registry.Repository, Repo: absent})); got != registry.NameUnknown {
		t.Errorf("pull from a project that is not there: %q, want NameUnknown", got)
	}
	if got := code(h.Authorize(h.who(""), registry.Push, registry.Resource{Kind: registry.Repository, Repo: absent})); got != registry.Denied {
		t.Errorf("push to a project that is not there: %q, want Denied", got)
	}
	for _, projects := range [][]Project{nil, {{Name: "a", Public: true, Hosted: true}}, {{Name: "docker.io", Public: true}, {Name: "ghcr.io"}}} {
		h.SetProjects(projects)
		if got := code(h.Login(h.who(""))); got != registry.Unauthorized {
			t.Errorf("login by anybody with %+v: %q, want Unauthorized", projects, got)
		}
	}
}

// The roles of a user are those of its own and of its groups, by catalog and configuration.
func TestGroups(t *testing.T) {
	h := open(t, func(c *Config) {
		c.OIDC = &OIDC{Issuer: "https://idp", ClientID: "roadstead", AdminGroup: "root", Groups: []GroupRole{{Group: "ops", Project: "staging", Role: Maintainer}}}
	})
	groups := func(names ...string) {
		t.Helper()
		h.must(h.change(t.Context(), deed{kind: Users, name: "olga"}, func(tx *catalog.Tx) error { return tx.SetIdentity("olga", "", names) }))
	}
	h.must(h.change(t.Context(), deed{kind: Users, name: "olga"}, func(tx *catalog.Tx) error {
		_, err := tx.AddUser(catalog.User{Name: "olga", Issuer: "https://idp", Subject: "7"}, "")
		return err
	}))
	h.must(h.SetMember(t.Context(), "test", catalog.Member{Project: "production", Group: true, Name: "dev", Role: string(Developer)}),
		h.SetMember(t.Context(), "test", catalog.Member{Project: "production", Name: "olga", Role: string(Guest)}))
	p := &principal{name: "olga", kind: aUser, id: h.now.Load().named["olga"].ID}
	staging := registry.Repo{Project: "staging", Name: "web"}
	check := func(what string, production, other, system registry.Code) {
		t.Helper()
		for _, test := range []struct {
			repo registry.Repo
			want registry.Code
		}{{web, production}, {staging, other}} {
			if got := code(h.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: test.repo})); got != test.want {
				t.Errorf("%s: push to %s: %q, want %q", what, test.repo, got, test.want)
			}
		}
		if got := code(h.Authorize(p, registry.Create, registry.Resource{Kind: Users})); got != system {
			t.Errorf("%s: create users: %q, want %q", what, got, system)
		}
	}
	check("no groups", registry.Denied, registry.Denied, registry.Denied)
	groups("dev")
	check("in a group that is a member", "", registry.Denied, registry.Denied)
	groups("ops", "dev")
	check("in a group of the configuration too", "", "", registry.Denied)
	groups("root")
	check("in the administrators' group", "", "", "")
	groups()
	check("in no group any more", registry.Denied, registry.Denied, registry.Denied)
}

// What is taken away is gone with the next request, whatever token is still good (FAULTS C14).
func TestC14_RevocationIsAtOnce(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	h.member("dora", Developer)
	secret := h.robot("production", "ci", "push")
	other := h.again() // another process
	type access struct {
		name          string
		authorization string
	}
	logins := func(user, password string) []access {
		_, token := h.ask(basic(user, password), "repository:production/web:pull,push")
		if token == "" {
			t.Fatalf("%s gets no token", user)
		}
		return []access{{user + " by token", token}, {user + " by Basic", basic(user, password)}}
	}
	robot := logins("robot$production+ci", secret)
	for _, test := range []struct {
		name         string
		who          []access
		revoke, undo func() error
	}{
		{"the user is disabled", logins("dora", password),
			func() error { return h.DisableUser(ctx, "test", "dora", true) }, func() error { return h.DisableUser(ctx, "test", "dora", false) }},
		{"the role is taken", logins("dora", password),
			func() error {
				return h.RemoveMember(ctx, "test", catalog.Member{Project: "production", Name: "dora"})
			},
			func() error {
				return h.SetMember(ctx, "test", catalog.Member{Project: "production", Name: "dora", Role: string(Developer)})
			}},
		{"the role is a lesser one", logins("dora", password),
			func() error {
				return h.SetMember(ctx, "test", catalog.Member{Project: "production", Name: "dora", Role: string(Guest)})
			},
			func() error {
				return h.SetMember(ctx, "test", catalog.Member{Project: "production", Name: "dora", Role: string(Developer)})
			}},
		{"the robot is disabled", robot,
			func() error { return h.DisableRobot(ctx, "test", "robot$production+ci", true) },
			func() error { return h.DisableRobot(ctx, "test", "robot$production+ci", false) }},
		{"the robot has gone", robot, func() error { return h.DeleteRobot(ctx, "test", "robot$production+ci") }, nil},
		{"the user has gone, and another of that name has come", logins("dora", password),
			func() error {
				h.must(h.DeleteUser(ctx, "test", "dora"))
				h.member("dora", "")
				return nil
			}, nil},
	} {
		check := func(when string, want bool) {
			t.Helper()
			for _, a := range []*Access{h.Access, other} {
				a.refresh(ctx) // as Run does
				for _, who := range test.who {
					p, err := a.Identify(request("/v2/", who.authorization))
					h.must(err)
					if err := a.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}); (err == nil) != want {
						t.Errorf("%s, %s: %s may push: %v, want %v (%v)", test.name, when, who.name, err == nil, want, err)
					}
				}
			}
		}
		check("before", true)
		h.must(test.revoke())
		check("after", false)
		if test.undo != nil {
			h.must(test.undo())
			check("undone", true)
		}
	}
}

// A robot has an end, and is nothing after it.
func TestRobotExpires(t *testing.T) {
	h := open(t)
	h.robot("", "ci", "pull")
	s := h.now.Load()
	r := s.called["robot$ci"]
	r.ExpiresAt = time.Now().Add(time.Hour)
	p := &principal{name: "robot$ci", kind: aRobot, id: r.ID}
	for _, test := range []struct {
		at   time.Time
		want registry.Code
	}{{time.Now(), ""}, {r.ExpiresAt, registry.Unauthorized}} {
		if got := code(s.authorize(p, right{registry.Repository, registry.Pull}, web, test.at)); got != test.want {
			t.Errorf("pull %s before its end: %q, want %q", r.ExpiresAt.Sub(test.at), got, test.want)
		}
	}
}
