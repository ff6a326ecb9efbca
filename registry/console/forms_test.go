package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func TestRegistryForms(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	form := url.Values{"name": {"quay"}, "kind": {"quay"}, "url": {"https://quay.io"}, "username": {"me"}, "password": {"Secret-of-quay-1"}}
	with := func(name, value string) url.Values {
		other := url.Values{}
		for k, values := range form {
			other[k] = values
		}
		other.Set(name, value)
		return other
	}
	for _, tt := range []struct{ name, field, value string }{
		{"name", "name", ""},
		{"kind", "kind", "tape"},
		{"url", "url", "gopher://quay.io"},
		{"username", "username", ""},
		{"ca", "ca", "no certificate"},
	} {
		p := b.post("/c/registries", with(tt.field, tt.value))
		p.has(t, http.StatusUnprocessableEntity, `id="`+tt.name+`-wrong"`)
		if strings.Contains(p.body, "Secret-of-quay-1") {
			t.Errorf("%s: the password is sent back", tt.name)
		}
	}
	v.down = errors.New("dial tcp: nobody is there")
	b.post("/c/registries", form).has(t, http.StatusUnprocessableEntity, "Dial tcp: nobody is there.", `value="https://quay.io"`)
	b.post("/c/registries/test", form).has(t, http.StatusOK, "Dial tcp: nobody is there.", "<html")
	b.headers["X-Part"] = "1"
	if p := b.post("/c/registries/test", form); strings.Contains(p.body, "<html") || !strings.Contains(p.body, "nobody is there") {
		t.Errorf("a part of the page is %s", p.body)
	}
	v.down, b.headers = nil, map[string]string{}
	b.post("/c/registries/test", form).has(t, http.StatusOK, "It answers")
	b.post("/c/registries", form).leads(t, "/c/registries?done=registry.created")
	b.get("/c/registries?done=registry.created").has(t, http.StatusOK, "The registry is there.", "quay")
	b.post("/c/registries", form).has(t, http.StatusConflict)
	b.get("/c/registries/3").has(t, http.StatusOK, `value="me"`, "One is stored")
	b.post("/c/registries/3", with("url", "https://elsewhere.example")).leads(t, "/c/registries?done=registry.changed")
	moved := with("url", "https://another.example")
	moved.Set("password", "")
	b.post("/c/registries/3", moved).has(t, http.StatusUnprocessableEntity, `id="password-wrong"`)
	b.post("/c/registries/2", form).has(t, http.StatusForbidden, "roadstead.yaml")
	b.post("/c/registries/1/delete", nil).has(t, http.StatusConflict, "Still in use")
	b.post("/c/registries/3/delete", nil).leads(t, "/c/registries?done=registry.deleted")
	v.as("gina").post("/c/registries", form).has(t, http.StatusForbidden)
	v.as("").post("/c/registries", form).leads(t, "/c/signin")
}

func TestProjectForms(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	b.post("/c/projects", url.Values{"name": {"Bad Name"}, "registry": {"1"}}).has(t, http.StatusUnprocessableEntity, `id="name-wrong"`)
	b.post("/c/projects", url.Values{"name": {"mine"}}).has(t, http.StatusUnprocessableEntity, `id="registry-wrong"`)
	b.post("/c/projects", url.Values{"name": {"mine"}, "registry": {"99"}}).has(t, http.StatusUnprocessableEntity, `id="registry-wrong"`)
	b.post("/c/projects", url.Values{"name": {"own"}, "kind": {"hosted"}, "quota": {"much"}}).has(t, http.StatusUnprocessableEntity, `id="quota-wrong"`)
	b.post("/c/projects", url.Values{"name": {"shop"}, "kind": {"hosted"}}).has(t, http.StatusConflict)
	b.post("/c/projects", url.Values{"name": {"mine"}, "registry": {"1"}, "public": {"on"}}).leads(t, "/c/projects/mine?done=project.created")
	b.get("/c/audit?resource=mine").has(t, http.StatusOK, `<span class="dim nowrap">192.0.2.1:1234`) // where it came from
	b.get("/c/projects/mine").has(t, http.StatusOK, "Nothing is cached yet", "docker pull mirror.example.com/mine/")
	b.post("/c/projects", url.Values{"name": {"own"}, "kind": {"hosted"}, "quota": {"2.5 GiB"}}).leads(t, "/c/projects/own?done=project.created")
	b.get("/c/projects/own/settings").has(t, http.StatusOK, `value="2560 MiB"`)

	for field, value := range map[string]string{"ttl": "soon", "stale_for": "-1h", "keep": "x", "allow": "[", "deny": "[", "pin": "["} {
		b.post("/c/projects/mine/settings", url.Values{field: {value}}).has(t, http.StatusUnprocessableEntity, `id="`+field+`-wrong"`, `aria-invalid="true"`)
	}
	b.post("/c/projects/mine/settings", url.Values{"public": {"on"}, "ttl": {"30m"}, "keep": {"14d"}, "stale_for": {""}, "allow": {"library/**\r\n\r\n  team/* "}, "pin": {""}, "deny": {""}}).
		leads(t, "/c/projects/mine/settings?done=project.changed")
	b.get("/c/projects/mine/settings").has(t, http.StatusOK, `value="30m"`, `value="14d"`, "library/**\nteam/*</textarea>")
	b.post("/c/projects/own/settings", url.Values{"quota": {""}, "newest": {"ten"}}).has(t, http.StatusUnprocessableEntity, `id="newest-wrong"`)
	b.post("/c/projects/own/settings", url.Values{"quota": {"1 TB"}, "newest": {"10"}, "pulled": {"30d"}, "immutable": {"**:v*"}}).leads(t, "/c/projects/own/settings?done=project.changed")
	b.get("/c/projects/own/settings").has(t, http.StatusOK, `value="10"`, `value="30d"`, "**:v*")
	b.post("/c/projects/own/retention", url.Values{"do": {"dry"}}).leads(t, "/c/projects/own/settings?done=retention.started")
	b.get("/c/projects/own/settings").has(t, http.StatusOK, "trial")
	b.post("/c/projects/declared/settings", url.Values{"ttl": {"1h"}}).has(t, http.StatusForbidden, "roadstead.yaml")

	b.post("/c/projects/own/delete", url.Values{"typed": {"other"}}).has(t, http.StatusUnprocessableEntity, `id="typed-wrong"`)
	b.post("/c/projects/own/delete", url.Values{"typed": {"own"}}).leads(t, "/c/projects?done=project.deleted")
	v.image(registry.Repo{Project: "shop", Name: "app"}, "v1", plainConfig, `{}`)
	b.post("/c/projects/shop/delete", url.Values{"typed": {"shop"}}).has(t, http.StatusConflict, "Still in use")
}

// Whoever administers a project says what it keeps, and not how much room it has.
func TestAProjectAdminSetsNoQuota(t *testing.T) {
	v := open(t)
	admin := v.as("admin")
	admin.post("/c/projects/shop/members", url.Values{"name": {"nobody"}, "role": {"projectAdmin"}}).leads(t, "/c/projects/shop/members?done=member.created")
	b := v.as("nobody")
	if p := b.get("/c/projects/shop/settings"); p.status != http.StatusOK || strings.Contains(p.body, `name="quota"`) {
		t.Errorf("%d; a project admin is offered a quota:\n%s", p.status, p.body)
	}
	b.post("/c/projects/shop/settings", url.Values{"quota": {"1 PiB"}, "newest": {"3"}}).leads(t, "/c/projects/shop/settings?done=project.changed")
	rows, err := v.db.AllProjects(t.Context())
	v.must(err)
	for _, p := range rows {
		if p.Name == "shop" && (p.Quota != 0 || p.Retention.Newest != 3) {
			t.Errorf("the project is %+v", p)
		}
	}
}

// Rules of retention that the form has no words for are shown, and stay when it is saved.
func TestRulesStay(t *testing.T) {
	v := open(t)
	rules := []catalog.Rule{
		{Repositories: catalog.Selector{Glob: "web/<b>"}, Tags: catalog.Selector{Glob: "dev-*", Except: true}, Untagged: true, Newest: 1200, Pulled: 48 * time.Hour},
		{Tags: catalog.Selector{Except: true}, LastPulled: 2, Pushed: time.Hour}, {},
	}
	v.must(v.db.Durable(t.Context(), func(tx *catalog.Tx) error {
		p, err := tx.AnyProject("shop")
		p.Retention = catalog.Retention{Newest: 9, Rules: rules}
		return errors.Join(err, tx.PutProject(p))
	}))
	b := v.as("admin")
	for _, text := range []string{"web/&lt;b&gt;", "all but dev-*, and what has no tag", "the 1,200 pushed last or what was pulled within 2d", "the 2 pulled last or what was pushed within 1h", "everything"} {
		b.get("/c/projects/shop/settings").has(t, http.StatusOK, text)
	}
	b.post("/c/projects/shop/settings", url.Values{"newest": {"3"}, "pulled": {""}}).leads(t, "/c/projects/shop/settings?done=project.changed")
	rows, err := v.db.AllProjects(t.Context())
	v.must(err)
	for _, p := range rows {
		if want := (catalog.Retention{Newest: 3, Rules: rules}); p.Name == "shop" && !p.Retention.Equal(want) {
			t.Errorf("after the form was saved it is %+v, want %+v", p.Retention, want)
		}
	}
}

// Where anyone may create projects, whoever is no administrator is offered those that people push to.
func TestAnyoneCreatesHostedProjects(t *testing.T) {
	v := open(t)
	v.access.SetAnyoneCreates(true)
	gina := v.as("gina")
	form := gina.get("/c/projects/new")
	form.has(t, http.StatusOK, `name="kind" value="hosted"`)
	if strings.Contains(form.body, "/c/registries/new") || strings.Contains(form.body, "?kind=hosted") {
		t.Errorf("the form leads to what is not hers:\n%s", form.body)
	}
	gina.post("/c/projects", url.Values{"kind": {"hosted"}, "name": {"hers"}}).leads(t, "/c/projects/hers?done=project.created")
	gina.post("/c/projects", url.Values{"kind": {"proxy"}, "name": {"mirror"}, "registry": {"1"}}).has(t, http.StatusForbidden)
	v.as("admin").get("/c/projects/new").has(t, http.StatusOK, `name="kind" value="proxy"`, "?kind=hosted")
}

func TestMemberForms(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	b.post("/c/projects/shop/members", url.Values{"name": {"whoever"}, "role": {"guest"}}).has(t, http.StatusNotFound, `id="name-wrong"`)
	b.post("/c/projects/shop/members", url.Values{"name": {"gina"}, "role": {"guest"}}).has(t, http.StatusConflict, `id="name-wrong"`)
	b.post("/c/projects/shop/members", url.Values{"name": {"nobody"}, "role": {"king"}}).has(t, http.StatusUnprocessableEntity)
	b.post("/c/projects/shop/members", url.Values{"name": {"nobody"}, "role": {"developer"}}).leads(t, "/c/projects/shop/members?done=member.created")
	members, err := v.access.Members(t.Context(), "shop")
	v.must(err)
	id := itoa(members[1].ID)
	b.post("/c/projects/shop/members/"+id, url.Values{"role": {"maintainer"}}).leads(t, "/c/projects/shop/members?done=member.changed")
	b.post("/c/projects/hub/members/"+id, url.Values{"role": {"maintainer"}}).has(t, http.StatusNotFound)
	b.get("/c/projects/shop/members/"+id+"/delete").has(t, http.StatusOK, "Remove nobody?")
	v.as("gina").post("/c/projects/shop/members/"+id+"/delete", nil).has(t, http.StatusForbidden)
	b.post("/c/projects/shop/members/"+id+"/delete", nil).leads(t, "/c/projects/shop/members?done=member.deleted")
}

// A secret is in the answer to the request that made it, and on no other page.
func TestRobotForms(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	b.post("/c/projects/shop/robots", url.Values{"name": {""}}).has(t, http.StatusUnprocessableEntity, `id="name-wrong"`)
	b.post("/c/projects/shop/robots", url.Values{"name": {"Bad Name"}}).has(t, http.StatusUnprocessableEntity, `id="name-wrong"`)
	b.post("/c/projects/shop/robots", url.Values{"name": {"ci"}, "days": {"0"}}).has(t, http.StatusUnprocessableEntity, `id="days-wrong"`)
	p := b.post("/c/projects/shop/robots", url.Values{"name": {"ci"}, "days": {"90"}, "push": {"on"}})
	p.has(t, http.StatusOK, "The secret of robot$shop&#43;ci", "in 90 days")
	secret := func(p page) string {
		_, rest, _ := strings.Cut(p.body, "<pre><code>")
		text, _, _ := strings.Cut(rest, "<")
		return text
	}
	first := secret(p)
	works := func(secret string, want bool) {
		t.Helper()
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth("robot$shop+ci", secret)
		_, _, err := v.access.Caller(r)
		if (err == nil) != want {
			t.Errorf("the secret %q: %v", secret, err)
		}
	}
	works(first, true)
	if strings.Contains(b.get("/c/projects/shop/robots").body, first) {
		t.Error("the secret is shown again")
	}
	robots, err := v.access.Robots(t.Context())
	v.must(err)
	at := "/c/projects/shop/robots/" + itoa(robots[0].ID)
	second := secret(b.post(at, url.Values{"do": {"renew"}}))
	works(first, false)
	works(second, true)
	b.post(at, url.Values{"do": {"disable"}}).leads(t, "/c/projects/shop/robots?done=robot.changed")
	works(second, false)
	b.post(at, url.Values{"do": {"enable"}}).leads(t, "/c/projects/shop/robots?done=robot.changed")
	b.post(at, url.Values{"do": {"dance"}}).has(t, http.StatusUnprocessableEntity)
	b.post("/c/projects/hub/robots/"+itoa(robots[0].ID), url.Values{"do": {"renew"}}).has(t, http.StatusNotFound)
	v.as("gina").post(at, url.Values{"do": {"renew"}}).has(t, http.StatusForbidden)
	b.post(at+"/delete", nil).leads(t, "/c/projects/shop/robots?done=robot.deleted")
	works(second, false)
}

// A robot of no project is what all nodes of a cluster sign in as.
func TestRobotFormsOfTheSystem(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	b.get("/c/robots").has(t, http.StatusOK, "There is no robot yet", "<label for=\"in-0\">")
	b.post("/c/robots", url.Values{"name": {"nodes"}, "in": {"some"}}).has(t, http.StatusUnprocessableEntity, `id="in-wrong"`, `value="nodes"`)
	b.post("/c/robots", url.Values{"name": {"nodes"}, "in": {"all"}, "project": {"shop"}}).has(t, http.StatusUnprocessableEntity, `id="in-wrong"`)
	b.post("/c/robots", url.Values{"name": {"nodes"}, "in": {"some"}, "project": {"shop", "hub"}}).has(t, http.StatusOK, "The secret of robot$nodes", "<code>shop</code>", "<code>hub</code>")
	b.post("/c/robots", url.Values{"name": {"copier"}, "in": {"all"}, "push": {"on"}}).has(t, http.StatusOK, "The secret of robot$copier", "all projects")
	v.as("gina").post("/c/robots", url.Values{"name": {"mine"}}).has(t, http.StatusForbidden)
	robots, err := v.access.Robots(t.Context())
	v.must(err)
	for _, r := range robots {
		var in []string
		for _, p := range r.Permissions {
			in = append(in, p.Project)
		}
		slices.Sort(in)
		if want := map[string]string{"nodes": "hub shop", "copier": "*"}[r.Name]; r.Project != "" || strings.Join(in, " ") != want {
			t.Errorf("robot %q of project %q may in %q, want in %q", r.Name, r.Project, in, want)
		}
		b.get("/c/robots/"+itoa(r.ID)+"/delete").has(t, http.StatusOK, "robot$"+r.Name)
		b.post("/c/robots/"+itoa(r.ID)+"/delete", nil).leads(t, "/c/robots?done=robot.deleted")
	}
}

func TestUserForms(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	b.post("/c/users", url.Values{"name": {"new"}, "password": {"short"}}).has(t, http.StatusUnprocessableEntity, `role="alert"`)
	b.post("/c/users", url.Values{"name": {"gina"}, "password": {password}}).has(t, http.StatusConflict)
	b.post("/c/users", url.Values{"name": {"new"}, "email": {"new@example.com"}, "password": {password}}).leads(t, "/c/users?done=user.created")
	v.as("new").get("/c/").has(t, http.StatusOK)
	b.post("/c/users/4", url.Values{"do": {"admin"}}).leads(t, "/c/users/4?done=user.changed")
	v.as("new").get("/c/users").has(t, http.StatusOK)
	b.post("/c/users/4", url.Values{"do": {"no-admin"}}).leads(t, "/c/users/4?done=user.changed")
	b.post("/c/users/1", url.Values{"do": {"no-admin"}}).has(t, http.StatusForbidden, "last administrator", `name="do"`)
	b.post("/c/users/4", url.Values{"do": {"password"}, "password": {"x"}}).has(t, http.StatusUnprocessableEntity, `id="password-wrong"`)
	b.post("/c/users/4", url.Values{"do": {"password"}, "password": {"Other-Horse-22"}}).leads(t, "/c/users/4?done=user.changed")
	b.post("/c/users/4/delete", nil).leads(t, "/c/users?done=user.deleted")
	b.get("/c/users/4").has(t, http.StatusNotFound)

	g := v.as("gina")
	for _, path := range []string{"/c/users", "/c/users/1", "/c/users/1/delete"} {
		g.post(path, url.Values{"do": {"admin"}, "name": {"evil"}, "password": {password}}).has(t, http.StatusForbidden)
	}
	other := v.as("gina")
	g.post("/c/account/password", url.Values{"old": {"wrong"}, "password": {"Other-Horse-22"}}).has(t, http.StatusForbidden, `id="old-wrong"`)
	g.post("/c/account/password", url.Values{"old": {password}, "password": {"x"}}).has(t, http.StatusUnprocessableEntity, `id="password-wrong"`)
	g.post("/c/account/password", url.Values{"old": {password}, "password": {"Other-Horse-22"}}).leads(t, "/c/account?done=password.changed")
	g.get("/c/account").has(t, http.StatusOK)
	other.get("/c/account").leads(t, "/c/signin?next=%2Fc%2Faccount")
}

func TestRemovals(t *testing.T) {
	v := open(t)
	repo := registry.Repo{Project: "shop", Name: "team/app"}
	d := v.image(repo, "v1", plainConfig, `{}`)
	v.image(registry.Repo{Project: "hub", Name: "library/busybox"}, "latest", plainConfig, `{}`)
	b := v.as("admin")
	b.get("/c/remove/shop/team/app?ref=v1").has(t, http.StatusOK, "Remove tag v1?", `name="ref" value="v1"`)
	b.get("/c/remove/shop/team/app?ref="+d.String()).has(t, http.StatusOK, "Delete "+d.String())
	b.get("/c/remove/hub/library/busybox").has(t, http.StatusOK, "nothing changes at the upstream")
	if len(v.deleted) > 0 {
		t.Fatalf("looking deleted %v", v.deleted)
	}
	b.post("/c/remove/shop/team/app", url.Values{"ref": {"v1"}}).leads(t, "/c/repositories/shop/team/app?done=artifact.deleted")
	b.post("/c/remove/shop/team/app", url.Values{"ref": {d.String()}}).leads(t, "/c/repositories/shop/team/app?done=artifact.deleted")
	b.post("/c/remove/shop/team/app", nil).leads(t, "/c/projects/shop?done=repository.deleted")
	b.post("/c/remove/hub/library/busybox", nil).leads(t, "/c/projects/hub?done=repository.deleted")
	v.as("gina").post("/c/remove/shop/team/app", nil).has(t, http.StatusForbidden)
	v.as("nobody").post("/c/remove/shop/team/app", nil).has(t, http.StatusNotFound)
	want := "shop/team/app:v1 shop/team/app@" + d.String() + " shop/team/app hub/library/busybox"
	if got := strings.Join(v.deleted, " "); got != want {
		t.Errorf("deleted %s, want %s", got, want)
	}
}

func TestJobs(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	b.get("/c/jobs").has(t, http.StatusOK, "No collection has run")
	b.post("/c/jobs", url.Values{"do": {"dry"}}).leads(t, "/c/jobs?done=job.started")
	b.get("/c/jobs").has(t, http.StatusOK, "Running", "trial", "/c/jobs/1/stop")
	b.post("/c/jobs/1/stop", nil).leads(t, "/c/jobs?done=job.stopped")
	b.post("/c/jobs/7/stop", nil).has(t, http.StatusNotFound)
	v.as("gina").post("/c/jobs", nil).has(t, http.StatusForbidden)
}

func TestTasks(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	b.get("/c/jobs").has(t, http.StatusOK, "Scrub now", "Evict now", "Fetch it")
	b.post("/c/tasks", url.Values{"do": {"scrub"}}).leads(t, "/c/jobs?done=task.started")
	running := func() bool { return strings.Contains(b.get("/c/jobs").body, "1 MiB / 4 MiB") }
	for end := time.Now().Add(10 * time.Second); !running() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	b.get("/c/jobs").has(t, http.StatusOK, "Running", "1 MiB / 4 MiB", "/c/tasks/1/stop", "admin")
	b.post("/c/tasks", url.Values{"do": {"scrub"}}).has(t, http.StatusConflict, "Job 1 does just that already")
	v.as("gina").post("/c/tasks/1/stop", nil).has(t, http.StatusNotFound)
	b.post("/c/tasks/1/stop", nil).leads(t, "/c/jobs?done=task.stopped")
	b.post("/c/tasks/9/stop", nil).has(t, http.StatusNotFound)
	b.post("/c/tasks", url.Values{"do": {"warm"}, "image": {"shop/web:1"}}).has(t, http.StatusUnprocessableEntity, `value="shop/web:1"`, "is no proxy")
	b.post("/c/tasks", url.Values{"do": {"warm"}, "image": {"nowhere/web"}}).has(t, http.StatusNotFound, `value="nowhere/web"`)
	b.post("/c/tasks", url.Values{"do": {"dance"}}).has(t, http.StatusUnprocessableEntity)
	v.as("gina").post("/c/tasks", url.Values{"do": {"scrub"}}).has(t, http.StatusForbidden)
}

func TestSplitImage(t *testing.T) {
	for image, want := range map[string][2]string{
		"docker.io/library/busybox":           {"docker.io/library/busybox", "latest"},
		"docker.io/library/busybox:1.36":      {"docker.io/library/busybox", "1.36"},
		"quay.io/a/b@sha256:abc":              {"quay.io/a/b", "sha256:abc"},
		"busybox":                             {"busybox/", "latest"}, // a project, and no repository
		"":                                    {"", "latest"},
		"host:5000/docker.io/library/busybox": {"host:5000/docker.io/library/busybox", "latest"},
	} {
		repo, reference := splitImage(image)
		if repo.String() != want[0] || reference != want[1] {
			t.Errorf("%q is %q and %q, want %q", image, repo, reference, want)
		}
	}
}

func TestPins(t *testing.T) {
	v := open(t)
	v.image(registry.Repo{Project: "hub", Name: "library/busybox"}, "1.36", plainConfig, `{}`)
	b := v.as("admin")
	at, ref := "/c/artifacts/hub/library/busybox?ref=1.36", url.Values{"ref": {"1.36"}, "do": {"pin"}}
	b.get(at).has(t, http.StatusOK, `value="pin"`)
	b.post("/c/pin/hub/library/busybox", ref).leads(t, at+"&done=tag.pinned")
	b.get(at).has(t, http.StatusOK, `value="unpin"`)
	b.get("/c/projects/hub/settings").has(t, http.StatusOK, "library/busybox:1.36</textarea>")
	b.post("/c/pin/hub/library/busybox", ref).leads(t, at+"&done=tag.pinned") // again is harmless
	ref.Set("do", "unpin")
	b.post("/c/pin/hub/library/busybox", ref).leads(t, at+"&done=tag.unpinned")
	b.get(at).has(t, http.StatusOK, `value="pin"`)
	v.as("gina").post("/c/pin/hub/library/busybox", ref).has(t, http.StatusForbidden)
	b.post("/c/pin/hub/library/busybox", url.Values{"ref": {"not/a tag"}}).has(t, http.StatusUnprocessableEntity)
	b.post("/c/pin/declared/library/busybox", ref).has(t, http.StatusForbidden, "roadstead.yaml")
}
