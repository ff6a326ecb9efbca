package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// right is one that a call takes.
type right struct {
	action  registry.Action
	kind    registry.Kind
	project string // "": of the system
}

// row says of a call what it takes and how it is made, so that it succeeds for whoever has that.
type row struct {
	method, pattern string
	rights          []right              // all of them, asked for in this order
	known           bool                 // beside them: somebody, whoever it is
	path            func(*plant) string  // of the request; nil: the pattern
	body            string               // of it, with %d for the number of what there is
	status          int                  // of success; zero: 200
	special         func(who string) int // or the status of each; nil: by the rights
}

// plant is a rig with something of everything in it. count makes names new.
type plant struct {
	*rig
	count      int
	production int64 // hosted and private
	mirror     int64 // a proxy, private
	registry   int64
	digest     string
}

// next is a name that nothing has yet.
func (p *plant) next() string {
	p.count++
	return fmt.Sprintf("n%d", p.count)
}

const (
	inProduction = v2 + "/projects/production"
	inRepo       = inProduction + "/repositories/web"
)

func prod(action registry.Action, kind registry.Kind) []right {
	return []right{{action, kind, "production"}}
}
func sys(action registry.Action, kind registry.Kind) []right { return []right{{action, kind, ""}} }

func fixed(path string) func(*plant) string { return func(*plant) string { return path } }

// newRobot, newUser … are the paths of things that a call may change or delete.
func newRobot(p *plant) string {
	return fmt.Sprintf("%s/robots/%d", v2, p.robot("production", p.next(), "pull").ID)
}
func newUser(p *plant) string {
	u, err := p.access.CreateUser(p.t.Context(), "test", access.NewUser{Name: p.next(), Password: password})
	p.must(err)
	return fmt.Sprintf("%s/users/%d", v2, u.ID)
}
func newMember(p *plant) string {
	m, err := p.access.AddMember(p.t.Context(), "test", catalog.Member{Project: "production", Group: true, Name: p.next(), Role: "guest"})
	p.must(err)
	return fmt.Sprintf("%s/members/%d", inProduction, m.ID)
}
func newRegistry(p *plant) string {
	path, _ := p.makes("admin", v2+"/registries", fmt.Sprintf(`{"name":%q,"type":"docker-registry","insecure":true,"url":%q}`, p.next(), p.upstream.URL()))
	return path
}
func newRule(p *plant) string {
	path, _ := p.makes("admin", inProduction+"/immutabletagrules", fmt.Sprintf(ruleJSON, p.next()))
	return strings.Replace(path, fmt.Sprint("/", p.production, "/"), "/production/", 1)
}
func withRetention(p *plant) string {
	path := fmt.Sprintf("%s/retentions/%d", v2, p.production)
	p.ask("admin", "POST", v2+"/retentions", fmt.Sprintf(retention, fmt.Sprint(p.production)))
	return path
}
func withoutRetention(p *plant) string {
	p.ask("admin", "DELETE", fmt.Sprintf("%s/retentions/%d", v2, p.production), "")
	return v2 + "/retentions"
}
func newCollection(p *plant) string {
	path, _ := p.makes("admin", v2+"/system/gc/schedule", `{"schedule":{"type":"Manual"}}`)
	return path
}

const (
	ruleJSON  = `{"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":%q}]},"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"**"}]}`
	robotJSON = `{"name":"NEW","level":"project","duration":30,"permissions":[{"kind":"project","namespace":"production","access":[{"resource":"repository","action":"pull"}]}]}`
)

var (
	readProject = prod(registry.Read, access.Settings)
	readRepo    = prod(registry.Read, registry.Repository)
	anybody     = []right(nil)
)

// rows are all calls. NEW in a body is a new name, PRODUCTION the number of the project, UPSTREAM the URL
// of a registry.
var rows = []row{
	{method: "GET", pattern: "/api/version"},
	{method: "GET", pattern: v2 + "/ping"},
	{method: "GET", pattern: v2 + "/health"},
	{method: "GET", pattern: v2 + "/systeminfo"},
	{method: "GET", pattern: v2 + "/search", path: fixed(v2 + "/search?q=web")},
	{method: "GET", pattern: v2 + "/repositories", rights: anybody},
	{method: "GET", pattern: v2 + "/projects", rights: anybody},
	{method: "GET", pattern: v2 + "/statistics", known: true},
	{method: "GET", pattern: v2 + "/systeminfo/volumes", rights: sys(registry.Read, access.Volumes)},
	{method: "GET", pattern: v2 + "/configurations", rights: sys(registry.Read, access.Configuration)},
	{method: "PUT", pattern: v2 + "/configurations", rights: sys(registry.Update, access.Configuration), body: `{"project_creation_restriction":"adminonly"}`},
	{method: "GET", pattern: v2 + "/replication/adapters", rights: sys(registry.List, access.Adapters)},
	{method: "GET", pattern: v2 + "/audit-logs", rights: sys(registry.List, access.Log)},
	{method: "GET", pattern: v2 + "/permissions", special: func(who string) int {
		return map[bool]int{true: 403, false: 200}[strings.HasPrefix(who, "robot$")]
	}, known: true},
	{method: "GET", pattern: v2 + "/users/current", special: func(who string) int {
		return map[bool]int{true: 412, false: 200}[strings.HasPrefix(who, "robot$")]
	}, known: true},

	{method: "GET", pattern: v2 + "/registries", rights: sys(registry.List, access.Registries)},
	{method: "POST", pattern: v2 + "/registries", rights: sys(registry.Create, access.Registries), body: `{"name":"NEW","type":"docker-registry","insecure":true,"url":"UPSTREAM"}`, status: 201},
	{method: "POST", pattern: v2 + "/registries/ping", rights: sys(registry.Create, access.Registries), body: `{"type":"docker-registry","insecure":true,"url":"UPSTREAM"}`},
	{method: "GET", pattern: v2 + "/registries/{id}", rights: sys(registry.Read, access.Registries), path: newRegistry},
	{method: "PUT", pattern: v2 + "/registries/{id}", rights: sys(registry.Update, access.Registries), path: newRegistry, body: `{"description":"x"}`},
	{method: "DELETE", pattern: v2 + "/registries/{id}", rights: sys(registry.Delete, access.Registries), path: newRegistry},

	{method: "HEAD", pattern: v2 + "/projects", rights: readProject, path: fixed(v2 + "/projects?project_name=production")},
	{method: "POST", pattern: v2 + "/projects", rights: sys(registry.Create, access.Settings), body: `{"project_name":"NEW"}`, status: 201},
	{method: "GET", pattern: project, rights: readProject, path: fixed(inProduction)},
	{method: "PUT", pattern: project, rights: prod(registry.Update, access.Settings), path: fixed(inProduction), body: `{"metadata":{"x":"y"}}`},
	{method: "DELETE", pattern: project, rights: sys(registry.Delete, access.Settings), path: func(p *plant) string {
		path, _ := p.makes("admin", v2+"/projects", fmt.Sprintf(`{"project_name":%q}`, p.next()))
		return path
	}, special: nil},
	{method: "GET", pattern: project + "/_deletable", rights: append(prod(registry.Read, access.Settings), prod(registry.Delete, access.Settings)...), path: fixed(inProduction + "/_deletable")},
	{method: "GET", pattern: project + "/summary", rights: readProject, path: fixed(inProduction + "/summary")},
	{method: "GET", pattern: project + "/scanner", rights: readProject, path: fixed(inProduction + "/scanner"), status: 404},
	{method: "GET", pattern: project + "/logs", rights: prod(registry.List, access.Log), path: fixed(inProduction + "/logs")},
	{method: "GET", pattern: project + "/metadatas", rights: readProject, path: fixed(inProduction + "/metadatas")},
	{method: "POST", pattern: project + "/metadatas", rights: prod(registry.Update, access.Settings), path: fixed(inProduction + "/metadatas"), body: `{"a":"b"}`},
	{method: "GET", pattern: project + "/metadatas/{name}", rights: readProject, path: fixed(inProduction + "/metadatas/public")},
	{method: "PUT", pattern: project + "/metadatas/{name}", rights: prod(registry.Update, access.Settings), path: fixed(inProduction + "/metadatas/a"), body: `{"a":"c"}`},
	{method: "DELETE", pattern: project + "/metadatas/{name}", rights: prod(registry.Update, access.Settings), path: func(p *plant) string {
		p.wants(200, "admin", "POST", inProduction+"/metadatas", `{"gone":"1"}`)
		return inProduction + "/metadatas/gone"
	}},

	{method: "GET", pattern: project + "/members", rights: prod(registry.List, access.Members), path: fixed(inProduction + "/members")},
	{method: "POST", pattern: project + "/members", rights: prod(registry.Create, access.Members), path: fixed(inProduction + "/members"), body: `{"role_id":3,"member_group":{"group_name":"NEW"}}`, status: 201},
	{method: "GET", pattern: project + "/members/{id}", rights: prod(registry.Read, access.Members), path: newMember},
	{method: "PUT", pattern: project + "/members/{id}", rights: prod(registry.Update, access.Members), path: newMember, body: `{"role_id":2}`},
	{method: "DELETE", pattern: project + "/members/{id}", rights: prod(registry.Delete, access.Members), path: newMember},

	{method: "GET", pattern: project + "/immutabletagrules", rights: prod(registry.Read, access.Immutable), path: fixed(inProduction + "/immutabletagrules")},
	{method: "POST", pattern: project + "/immutabletagrules", rights: prod(registry.Create, access.Immutable), path: fixed(inProduction + "/immutabletagrules"), body: strings.Replace(ruleJSON, "%q", `"NEW"`, 1), status: 201},
	{method: "PUT", pattern: project + "/immutabletagrules/{id}", rights: prod(registry.Update, access.Immutable), path: newRule, body: strings.Replace(ruleJSON, "%q", `"NEW"`, 1)},
	{method: "DELETE", pattern: project + "/immutabletagrules/{id}", rights: prod(registry.Delete, access.Immutable), path: newRule},

	{method: "GET", pattern: project + "/repositories", rights: prod(registry.List, registry.Repository), path: fixed(inProduction + "/repositories")},
	{method: "GET", pattern: repository, rights: readRepo, path: fixed(inRepo)},
	{method: "PUT", pattern: repository, rights: prod(registry.Update, registry.Repository), path: fixed(inRepo), body: `{"description":"x"}`},
	{method: "DELETE", pattern: repository, rights: prod(registry.Delete, registry.Repository), path: fixed(inRepo)},
	{method: "GET", pattern: repository + "/artifacts", rights: append(prod(registry.Read, registry.Repository), prod(registry.List, registry.Artifact)...), path: fixed(inRepo + "/artifacts")},
	{method: "GET", pattern: artifact, rights: append(prod(registry.Read, registry.Repository), prod(registry.Read, registry.Artifact)...), path: fixed(inRepo + "/artifacts/1.0")},
	{method: "DELETE", pattern: artifact, rights: prod(registry.Delete, registry.Artifact), path: fixed(inRepo + "/artifacts/1.0")},
	{method: "GET", pattern: artifact + "/additions/build_history", rights: readRepo, path: fixed(inRepo + "/artifacts/1.0/additions/build_history")},
	{method: "GET", pattern: artifact + "/accessories", rights: append(prod(registry.List, registry.Artifact), readRepo...), path: fixed(inRepo + "/artifacts/1.0/accessories")},
	{method: "GET", pattern: artifact + "/tags", rights: readRepo, path: fixed(inRepo + "/artifacts/1.0/tags")},
	{method: "POST", pattern: artifact + "/tags", rights: prod(registry.Create, registry.Tags), path: fixed(inRepo + "/artifacts/1.0/tags"), body: `{"name":"NEW"}`, status: 201},
	{method: "DELETE", pattern: artifact + "/tags/{tag}", rights: prod(registry.Delete, registry.Tags), path: fixed(inRepo + "/artifacts/1.0/tags/1.0")},

	{method: "GET", pattern: v2 + "/robots", rights: sys(registry.List, access.Robots)},
	{method: "GET", pattern: v2 + "/robots", rights: prod(registry.List, access.Robots), path: func(p *plant) string {
		return fmt.Sprintf("%s/robots?q=Level%%3Dproject,ProjectID%%3D%d", v2, p.production)
	}},
	{method: "POST", pattern: v2 + "/robots", rights: prod(registry.Create, access.Robots), body: robotJSON, status: 201},
	{method: "POST", pattern: v2 + "/robots", rights: sys(registry.Create, access.Robots), body: strings.Replace(robotJSON, `"project"`, `"system"`, 1), status: 201},
	{method: "GET", pattern: v2 + "/robots/{id}", rights: prod(registry.Read, access.Robots), path: newRobot},
	{method: "PUT", pattern: v2 + "/robots/{id}", rights: prod(registry.Update, access.Robots), path: newRobot, body: `{"description":"x"}`},
	{method: "PATCH", pattern: v2 + "/robots/{id}", rights: prod(registry.Update, access.Robots), path: newRobot, body: `{}`},
	{method: "DELETE", pattern: v2 + "/robots/{id}", rights: prod(registry.Delete, access.Robots), path: newRobot},

	{method: "GET", pattern: v2 + "/quotas", rights: sys(registry.List, access.Quotas)},
	{method: "GET", pattern: v2 + "/quotas/{id}", rights: sys(registry.Read, access.Quotas), path: func(p *plant) string { return fmt.Sprintf("%s/quotas/%d", v2, p.production) }},
	{method: "PUT", pattern: v2 + "/quotas/{id}", rights: sys(registry.Update, access.Quotas), path: func(p *plant) string { return fmt.Sprintf("%s/quotas/%d", v2, p.production) }, body: `{"hard":{"storage":1000}}`},

	{method: "POST", pattern: v2 + "/retentions", rights: prod(registry.Create, access.Retention), path: withoutRetention, body: strings.Replace(retention, "%s", "PRODUCTION", 1), status: 201},
	{method: "GET", pattern: v2 + "/retentions/{id}", rights: prod(registry.Read, access.Retention), path: withRetention},
	{method: "PUT", pattern: v2 + "/retentions/{id}", rights: prod(registry.Update, access.Retention), path: withRetention, body: strings.Replace(retention, "%s", "PRODUCTION", 1)},
	{method: "DELETE", pattern: v2 + "/retentions/{id}", rights: prod(registry.Delete, access.Retention), path: withRetention},
	{method: "GET", pattern: v2 + "/retentions/{id}/executions", rights: prod(registry.Read, access.Retention), path: func(p *plant) string { return withRetention(p) + "/executions" }},
	{method: "POST", pattern: v2 + "/retentions/{id}/executions", rights: prod(access.Operate, access.Retention), path: func(p *plant) string { return withRetention(p) + "/executions" }, body: `{"dry_run":true}`, status: 201},

	{method: "GET", pattern: v2 + "/system/gc/schedule", rights: sys(registry.Read, access.Collection)},
	{method: "POST", pattern: v2 + "/system/gc/schedule", rights: sys(registry.Update, access.Collection), body: `{"schedule":{"type":"Daily"}}`, status: 201},
	{method: "POST", pattern: v2 + "/system/gc/schedule", rights: sys(registry.Create, access.Collection), body: `{"schedule":{"type":"Manual"}}`, status: 201},
	{method: "PUT", pattern: v2 + "/system/gc/schedule", rights: sys(registry.Update, access.Collection), body: `{"schedule":{"type":"None"}}`},
	{method: "GET", pattern: v2 + "/system/gc", rights: sys(registry.List, access.Collection)},
	{method: "GET", pattern: v2 + "/system/gc/{id}", rights: sys(registry.List, access.Collection), path: newCollection},
	{method: "GET", pattern: v2 + "/system/gc/{id}/log", rights: sys(registry.List, access.Collection), path: func(p *plant) string { return newCollection(p) + "/log" }},
	{method: "PUT", pattern: v2 + "/system/gc/{id}", rights: sys(access.Stop, access.Collection), path: newCollection, body: `{"status":"Stopped"}`},

	{method: "GET", pattern: v2 + "/users", rights: sys(registry.List, access.Users)},
	{method: "POST", pattern: v2 + "/users", rights: sys(registry.Create, access.Users), body: `{"username":"NEW","password":"Correct-Horse-1"}`, status: 201},
	{method: "GET", pattern: v2 + "/users/search", rights: sys(access.Search, access.Users), path: fixed(v2 + "/users/search?username=a")},
	{method: "GET", pattern: v2 + "/users/{id}", rights: sys(registry.Read, access.Users), path: newUser},
	{method: "PUT", pattern: v2 + "/users/{id}", rights: sys(registry.Update, access.Users), path: newUser, body: `{"email":"NEW@example.com"}`},
	{method: "DELETE", pattern: v2 + "/users/{id}", rights: sys(registry.Delete, access.Users), path: newUser},
	{method: "PUT", pattern: v2 + "/users/{id}/password", rights: sys(registry.Update, access.Users), path: func(p *plant) string { return newUser(p) + "/password" }, body: `{"new_password":"Another-Horse-1"}`},
	{method: "PUT", pattern: v2 + "/users/{id}/sysadmin", rights: sys(registry.Update, access.Users), path: func(p *plant) string { return newUser(p) + "/sysadmin" }, body: `{"sysadmin_flag":true}`},

	{method: "GET", pattern: mine + "/projects/{project}/policy", rights: []right{{registry.Read, access.Settings, "mirror"}, {registry.Read, access.Cache, "mirror"}}, path: fixed(mine + "/projects/mirror/policy")},
	{method: "PUT", pattern: mine + "/projects/{project}/policy", rights: []right{{registry.Update, access.Settings, "mirror"}}, path: fixed(mine + "/projects/mirror/policy"), body: `{"deny":["bad/**"],"ttl":"10m"}`},
}

// actors are who calls: a role in both projects each, and who has nothing there.
var actors = []string{"", "limitedGuest", "guest", "developer", "maintainer", "projectAdmin", "admin", "robot$production+ours", "robot$staging+theirs", "stranger"}

func plantAll(t *testing.T) *plant {
	p := &plant{rig: open(t)}
	p.registry = 1
	p.makes("admin", v2+"/registries", fmt.Sprintf(`{"name":"up","type":"docker-registry","insecure":true,"url":%q}`, p.upstream.URL()))
	p.makes("admin", v2+"/projects", `{"project_name":"production"}`)
	p.makes("admin", v2+"/projects", `{"project_name":"staging"}`)
	p.makes("admin", v2+"/projects", `{"project_name":"mirror","registry_id":1}`)
	projects, err := p.db.AllProjects(t.Context())
	p.must(err)
	for _, row := range projects {
		switch row.Name {
		case "production":
			p.production = row.ID
		case "mirror":
			p.mirror = row.ID
		}
	}
	p.digest = p.artifact(registry.Repo{Project: "production", Name: "web"}, "1.0")
	for _, name := range append([]string{"stranger"}, actors[1:6]...) {
		p.must(p.access.AddUser(t.Context(), "test", access.NewUser{Name: name, Password: password}))
		for _, project := range []string{"production", "mirror"} {
			if name != "stranger" {
				p.must(p.access.SetMember(t.Context(), "test", catalog.Member{Project: project, Name: name, Role: name}))
			}
		}
	}
	p.must(p.access.SetMember(t.Context(), "test", catalog.Member{Project: "staging", Name: "stranger", Role: "projectAdmin"}))
	p.robot("production", "ours", "pull", "push", "delete")
	p.robot("staging", "theirs", "pull", "push", "delete")
	return p
}

// wanted is the status that the rights table of access implies.
func (p *plant) wanted(who string, r row) int {
	req, err := http.NewRequestWithContext(p.t.Context(), "GET", "/", nil)
	p.must(err)
	if secret := p.secrets[who]; secret != "" {
		req.SetBasicAuth(who, secret)
	} else if who != "" {
		req.SetBasicAuth(who, password)
	}
	principal, err := p.access.Identify(req)
	p.must(err)
	if r.known && who == "" {
		return 401
	}
	if r.special != nil {
		return r.special(who)
	}
	for _, right := range r.rights {
		err := p.access.Authorize(principal, right.action, registry.Resource{Kind: right.kind, Repo: registry.Repo{Project: right.project}})
		switch {
		case errors.Is(err, registry.Unauthorized):
			return 401
		case errors.Is(err, registry.Denied):
			return 403
		case errors.Is(err, registry.NameUnknown):
			return 404
		case err != nil:
			p.t.Fatal(err)
		}
	}
	if r.status == 0 {
		return 200
	}
	return r.status
}

// TestMatrix makes every call as everybody. One that has no row fails.
func TestMatrix(t *testing.T) {
	p := plantAll(t)
	for _, route := range routes {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.method == route.method && r.pattern == route.pattern }) {
			t.Errorf("%s %s has no row", route.method, route.pattern)
		}
	}
	asked := 0
	for _, r := range rows {
		for _, who := range actors {
			path := r.pattern
			if r.path != nil {
				path = r.path(p)
			}
			body := strings.NewReplacer("NEW", p.next(), "PRODUCTION", fmt.Sprint(p.production), "UPSTREAM", p.upstream.URL()).Replace(r.body)
			want := p.wanted(who, r)
			got := p.ask(who, r.method, path, body)
			if asked++; got.status != want {
				t.Errorf("%s %s as %q: %d %s, want %d", r.method, path, who, got.status, got.body, want)
			}
			if want == 401 != (got.header.Get("WWW-Authenticate") != "") {
				t.Errorf("%s %s as %q: %d with the challenge %q", r.method, path, who, got.status, got.header.Get("WWW-Authenticate"))
			}
		}
	}
	t.Logf("%d calls of %d routes", asked, len(routes))
}

// A robot that may make members and nothing else is told what it has done, and where that is.
func TestWhoMayOnlyMakeMembers(t *testing.T) {
	r := open(t)
	location, _ := r.makes("admin", v2+"/projects", `{"project_name":"team"}`)
	var words []catalog.Access
	_, known := access.PermissionWords()
	for _, w := range known {
		if w.Resource != "project" && w.Resource != "metadata" && w.Resource != "repository" {
			words = append(words, catalog.Access{Kind: registry.Kind(w.Resource), Action: registry.Action(w.Action)})
		}
	}
	made, secret, err := r.access.AddRobot(t.Context(), "test", catalog.Robot{Name: "hr", Permissions: []catalog.Permission{{Project: "team", Access: words}}})
	r.must(err, r.access.AddUser(t.Context(), "test", access.NewUser{Name: "new", Password: password}))
	r.secrets[made.FullName()] = secret
	r.wants(403, made.FullName(), "POST", v2+"/projects/team/members", `{"role_id":1,"member_user":{"username":"new"}}`)
	r.wants(404, made.FullName(), "GET", v2+"/projects/team", "")

	got := r.wants(200, made.FullName(), "GET", v2+"/projects/team/members", "")
	if len(got.list(t)) != 0 {
		t.Errorf("members = %s, want none", got.body)
	}
	r.must(r.access.SetMember(t.Context(), "test", catalog.Member{Project: "team", Name: "new", Role: "guest"}))
	if got := r.wants(200, made.FullName(), "GET", v2+"/projects/team/members", ""); !strings.Contains(got.body, `"project_id":`+strings.TrimPrefix(location, v2+"/projects/")) {
		t.Errorf("members = %s, want the number of %s", got.body, location)
	}
}

// Whoever may pull because anybody may learns neither how much a project has and may have, nor what is
// allowed and pinned in it.
func TestWhatAnybodyLearnsOfPublicProjects(t *testing.T) {
	p := plantAll(t)
	p.wants(200, "admin", "PUT", v2+"/projects/mirror", `{"metadata":{"public":"true"}}`)
	p.wants(200, "admin", "PUT", mine+"/projects/mirror/policy", `{"pin":["secret/app"]}`)
	for who, learns := range map[string]bool{"": false, "stranger": false, "guest": true, "admin": true} {
		got := p.wants(200, who, "GET", v2+"/projects/mirror/summary", "")
		if has := strings.Contains(got.body, "quota"); has != learns {
			t.Errorf("%q is told %s", who, got.body)
		}
		if got := p.ask(who, "GET", mine+"/projects/mirror/policy", ""); (got.status == 200) != learns || strings.Contains(got.body, "secret/app") != learns {
			t.Errorf("%q asks for the policy: %d %s", who, got.status, got.body)
		}
	}
}
