package estate

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/accesstest"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

const password = "Correct-Horse-1"

// land is an Estate with what is around it.
type land struct {
	*Estate
	t      testing.TB
	db     *catalog.DB
	access *access.Access

	pinged []string // "URL user:password" of each ping
	down   error    // what a ping finds
	forced int      // times that something was put in force

	unservable error // why nothing could be served after a change
}

// open makes an Estate with the administrator "admin", the user "nobody", and the configured
// projects docker.io, which is built in, and quay.io.
func open(t testing.TB) *land {
	t.Helper()
	dir := t.TempDir()
	l := &land{t: t}
	var err error
	if l.db, err = catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(dir, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.db.Close() })
	if l.access, err = accesstest.Open(t.Context(), access.Config{Catalog: l.db, Directory: filepath.Join(dir, "keys"), AdminPassword: password}); err != nil {
		t.Fatal(err)
	}
	l.must(l.access.AddUser(t.Context(), "test", access.NewUser{Name: "nobody", Password: password}))
	l.must(l.db.Durable(t.Context(), func(tx *catalog.Tx) error {
		for _, name := range []string{"docker.io", "quay.io"} {
			id, err := tx.AddRegistry(catalog.Registry{Name: name + " (built-in)", Kind: "docker-registry", URL: "https://" + name, Configured: true})
			if err != nil {
				return err
			}
			if err := tx.PutProject(catalog.Project{Name: name, Registry: id, Configured: true, Public: true}); err != nil {
				return err
			}
		}
		return nil
	}))
	l.Estate = New(Config{
		Catalog: l.db, Access: l.access, InForce: l.inForce, File: "roadstead.yaml",
		Try: func(*catalog.Tx) error { return l.unservable },
		Ping: func(_ context.Context, r catalog.Registry, password string) error {
			l.pinged = append(l.pinged, r.URL+" "+r.Username+":"+password)
			return l.down
		},
		Builtin:   func(name string) bool { return name == "docker.io" },
		CheckName: registry.CheckProject,
	})
	l.must(l.inForce(t.Context()))
	return l
}

func (l *land) must(errs ...error) {
	l.t.Helper()
	for _, err := range errs {
		if err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *land) inForce(ctx context.Context) error {
	l.forced++
	rows, err := l.db.AllProjects(ctx)
	var all []access.Project
	for _, p := range rows {
		all = append(all, access.Project{Name: p.Name, Public: p.Public, Hosted: p.Hosted()})
	}
	l.access.SetProjects(all)
	return err
}

// as is who logs in.
func (l *land) as(user string) registry.Principal {
	l.t.Helper()
	return l.with(user, password)
}

// with is as with a password of one's own.
func (l *land) with(user, password string) registry.Principal {
	l.t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	p, err := l.access.Identify(r)
	l.must(err)
	return p
}

// wants an error of a code whose text has a word.
func (l *land) refuses(err error, code registry.Code, word string) {
	l.t.Helper()
	fault, ok := errors.AsType[*registry.Fault](err)
	if !ok || fault.Code != code || !strings.Contains(fault.Message, word) {
		l.t.Errorf("got %v, want %s that says %q", err, code, word)
	}
}

func TestRegistries(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	hub := Registry{Registry: catalog.Registry{Name: "hub", Kind: DockerHub, Username: "me"}, NewPassword: "canary-1"}
	id, err := l.AddRegistry(t.Context(), admin, hub)
	l.must(err)
	if want := "https://hub.docker.com me:canary-1"; len(l.pinged) != 1 || l.pinged[0] != want {
		t.Errorf("pinged %q, want %q", l.pinged, want)
	}
	got, err := l.Registry(t.Context(), admin, id)
	if err != nil || got.Password != "" || got.NewPassword != "" || !got.HasPassword || got.URL != "https://hub.docker.com" {
		t.Errorf("registry = %+v, %v, want it without its password", got, err)
	}
	if before := l.forced; before < 2 {
		t.Errorf("put in force %d times", before)
	}

	// Its password stays as long as it goes where it was for.
	l.must(l.ChangeRegistry(t.Context(), admin, id, func(r *Registry) error { r.Description = "ours"; return nil }))
	l.must(l.PingRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{ID: id}}))
	if last := l.pinged[len(l.pinged)-1]; last != "https://hub.docker.com me:canary-1" {
		t.Errorf("pinged %q, want the stored password", last)
	}
	elsewhere := func(r *Registry) error { r.URL = "https://evil.example"; return nil }
	l.refuses(l.ChangeRegistry(t.Context(), admin, id, elsewhere), access.Invalid, "password again")
	l.must(l.PingRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{ID: id, Kind: DockerRegistry, URL: "https://evil.example", Username: "me"}}))
	if last := l.pinged[len(l.pinged)-1]; last != "https://evil.example me:" {
		t.Errorf("pinged %q, want no password that is for another place", last)
	}
	l.must(l.ChangeRegistry(t.Context(), admin, id, func(r *Registry) error { r.Username = ""; return nil }))
	if got, err := l.Registry(t.Context(), admin, id); err != nil || got.HasPassword {
		t.Errorf("without its user = %+v, %v, want no password either", got, err)
	}

	l.down = errors.New("upstream hub does not answer")
	_, err = l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "down", URL: "https://down.example"}})
	l.refuses(err, Unhealthy, "does not answer")
	l.down = nil
	_, err = l.AddRegistry(t.Context(), admin, hub)
	l.refuses(err, registry.Conflict, "hub")
	l.must(l.DeleteRegistry(t.Context(), admin, id))
	_, err = l.Registry(t.Context(), admin, id)
	l.refuses(err, registry.NameUnknown, "no registry")
}

func TestRegistriesThatCannotBe(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	for name, tt := range map[string]struct {
		r    Registry
		word string
	}{
		"no name":               {Registry{Registry: catalog.Registry{URL: "https://a.example"}}, "name"},
		"control characters":    {Registry{Registry: catalog.Registry{Name: "a\nb", URL: "https://a.example"}}, "control"},
		"a name of ours":        {Registry{Registry: catalog.Registry{Name: "a (configured)", URL: "https://a.example"}}, "another name"},
		"a kind nobody knows":   {Registry{Registry: catalog.Registry{Name: "a", Kind: "x", URL: "https://a.example"}}, "docker-registry"},
		"no URL":                {Registry{Registry: catalog.Registry{Name: "a"}}, "https://quay.io"},
		"a file":                {Registry{Registry: catalog.Registry{Name: "a", URL: "file:///etc/passwd"}}, "https://quay.io"},
		"a password in the URL": {Registry{Registry: catalog.Registry{Name: "a", URL: "https://u:p@a.example"}}, "beside it"},
		"a password of nobody":  {Registry{Registry: catalog.Registry{Name: "a", URL: "https://a.example"}, NewPassword: "x"}, "user name"},
		"a CA that is none":     {Registry{Registry: catalog.Registry{Name: "a", URL: "https://a.example", CA: "x"}}, "PEM"},
		"no host":               {Registry{Registry: catalog.Registry{Name: "a", URL: "https://:5000"}}, "https://quay.io"},
		"a CA of nonsense":      {Registry{Registry: catalog.Registry{Name: "a", URL: "https://a.example", CA: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}, "PEM"},
		"a private key as CA":   {Registry{Registry: catalog.Registry{Name: "a", URL: "https://a.example", CA: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}}, "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			_, err := l.AddRegistry(t.Context(), admin, tt.r)
			l.refuses(err, access.Invalid, tt.word)
			if len(l.pinged) > 0 {
				t.Errorf("pinged %q", l.pinged)
			}
		})
	}
}

func TestProjects(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	reg, err := l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "hub", Kind: DockerHub}})
	l.must(err)
	ttl := time.Hour
	id, err := l.AddProject(t.Context(), admin, catalog.Project{Name: "hub.proxy", Registry: reg, Policy: catalog.Policy{TTL: &ttl}})
	l.must(err)
	hosted, err := l.AddProject(t.Context(), admin, catalog.Project{Name: "production", Quota: 1 << 30, Immutable: []string{"**:v*"}})
	l.must(err)
	got, err := l.Project(t.Context(), admin, Ref{ID: id})
	if err != nil || got.Name != "hub.proxy" || got.RegistryName != "hub" || *got.Policy.TTL != ttl {
		t.Errorf("proxy = %+v, %v", got, err)
	}
	l.refuses(l.DeleteRegistry(t.Context(), admin, reg), InUse, "in use")

	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "production"})
	l.refuses(err, registry.Conflict, "production")
	for word, p := range map[string]catalog.Project{
		"Upper":       {Name: "Upper"},
		"no registry": {Name: "a", Registry: 999},
		"quota":       {Name: "a", Registry: reg, Quota: 1},
		"rules":       {Name: "a", Registry: reg, Immutable: []string{"v*"}},
		"bytes":       {Name: "a", Quota: -5},
		"patterns":    {Name: "a", Immutable: slices.Repeat([]string{"v*"}, maxGlobs+1)},
	} {
		_, err := l.AddProject(t.Context(), admin, p)
		l.refuses(err, access.Invalid, word)
	}

	l.must(l.ChangeProject(t.Context(), admin, Ref{Name: "production"}, func(p *catalog.Project) error {
		p.Public, p.Quota, p.Name, p.ID = true, 5, "another", 77
		return nil
	}))
	if got, err := l.Project(t.Context(), admin, Ref{Name: "production"}); err != nil || !got.Public || got.Quota != 5 || got.ID != hosted {
		t.Errorf("production = %+v, %v, want it public with its own number", got, err)
	}
	l.refuses(l.ChangeProject(t.Context(), admin, Ref{ID: hosted}, func(p *catalog.Project) error { p.Registry = reg; return nil }), access.Invalid, "kind")
	l.must(l.DeleteProject(t.Context(), admin, Ref{ID: hosted}), l.DeleteProject(t.Context(), admin, Ref{ID: id}), l.DeleteRegistry(t.Context(), admin, reg))
}

// Whatever is changed, what could not be served then is not written.
func TestTried(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	reg, err := l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "hub", Kind: DockerHub}})
	l.must(err)
	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "a", Registry: reg})
	l.must(err)
	before, forced := l.all(), l.forced
	l.unservable = &registry.Fault{Code: registry.Conflict, Message: "two would mean one"}
	_, err = l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "other", URL: "https://a.example"}})
	l.refuses(err, registry.Conflict, "two")
	l.refuses(l.ChangeRegistry(t.Context(), admin, reg, func(r *Registry) error { r.Description = "ours"; return nil }), registry.Conflict, "two")
	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "b", Registry: reg})
	l.refuses(err, registry.Conflict, "two")
	l.refuses(l.ChangeProject(t.Context(), admin, Ref{Name: "a"}, func(p *catalog.Project) error { p.Public = true; return nil }), registry.Conflict, "two")
	l.refuses(l.DeleteProject(t.Context(), admin, Ref{Name: "a"}), registry.Conflict, "two")
	if after := l.all(); after != before || l.forced != forced {
		t.Errorf("after refusals %s, put in force %d times, want %s", after, l.forced-forced, before)
	}
}

// all is what the catalog has.
func (l *land) all() string {
	l.t.Helper()
	projects, err := l.db.AllProjects(l.t.Context())
	l.must(err)
	registries, err := l.db.Registries(l.t.Context())
	l.must(err)
	return fmt.Sprintf("%+v %+v", projects, registries)
}

// What a project has is no reason to say anything of a second one but that there is a first; what a
// built-in one has cached is no start for one that people push to.
func TestProjectsWithContent(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	_, err := l.AddProject(t.Context(), admin, catalog.Project{Name: "production"})
	l.must(err)
	for _, project := range []string{"production", "docker.io"} {
		l.must(l.db.Durable(t.Context(), func(tx *catalog.Tx) error {
			return tx.AddBlob(registry.Repo{Project: project, Name: "app"}, digest.FromString(project), 6)
		}))
	}
	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "production"})
	l.refuses(err, registry.Conflict, "production")
	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "docker.io"})
	l.refuses(err, access.Invalid, "nobody has pushed")
}

// What the configuration declares is changed there, and what is built in makes way.
func TestDeclared(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	all, err := l.Registries(t.Context(), admin)
	if err != nil || len(all) != 2 {
		t.Fatalf("registries = %+v, %v", all, err)
	}
	nothing := func(*catalog.Project) error { return nil }
	l.refuses(l.ChangeProject(t.Context(), admin, Ref{Name: "quay.io"}, nothing), registry.Denied, "roadstead.yaml")
	l.refuses(l.DeleteProject(t.Context(), admin, Ref{Name: "quay.io"}), registry.Denied, "roadstead.yaml")
	l.refuses(l.DeleteRegistry(t.Context(), admin, all[0].ID), registry.Denied, "roadstead.yaml")
	reg, err := l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "mine", URL: "https://mirror.example"}})
	l.must(err)
	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "quay.io", Registry: reg})
	l.refuses(err, registry.Conflict, "quay.io")
	id, err := l.AddProject(t.Context(), admin, catalog.Project{Name: "docker.io", Registry: reg})
	l.must(err)
	got, err := l.Project(t.Context(), admin, Ref{Name: "docker.io"})
	if err != nil || got.Configured || got.ID != id || got.RegistryName != "mine" {
		t.Errorf("docker.io = %+v, %v, want that of mine", got, err)
	}
	if all, err = l.Registries(t.Context(), admin); err != nil || len(all) != 2 {
		t.Errorf("registries = %+v, %v, want that of the built-in one gone", all, err)
	}
}

// Who may not is told no more than that.
func TestRights(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	id, err := l.AddProject(t.Context(), admin, catalog.Project{Name: "secret"})
	l.must(err)
	for _, who := range []string{"", "nobody"} {
		p := l.as(who)
		want := registry.Denied
		if who == "" {
			want = registry.Unauthorized
		}
		_, err := l.Registries(t.Context(), p)
		l.refuses(err, want, "")
		_, err = l.AddRegistry(t.Context(), p, Registry{Registry: catalog.Registry{Name: "a", URL: "https://a.example"}})
		l.refuses(err, want, "")
		l.refuses(l.PingRegistry(t.Context(), p, Registry{Registry: catalog.Registry{URL: "http://169.254.169.254"}}), want, "")
		_, err = l.AddProject(t.Context(), p, catalog.Project{Name: "a"})
		l.refuses(err, want, "")
		if len(l.pinged) > 0 {
			t.Errorf("%q made us ask %q", who, l.pinged)
		}
		for _, ref := range []Ref{{ID: id}, {Name: "secret"}, {ID: 999}, {Name: "none"}} {
			_, there := l.Project(t.Context(), p, ref)
			_, absent := l.Project(t.Context(), p, Ref{Name: "never"})
			if there == nil || absent == nil || there.Error() != absent.Error() {
				t.Errorf("%q asks for %+v: %v; for what is not there: %v", who, ref, there, absent)
			}
		}
		all, err := l.Projects(t.Context(), p)
		if err != nil || len(all) != 2 {
			t.Errorf("%q sees %d projects, %v, want the two public ones", who, len(all), err)
		}
		l.refuses(l.ChangeProject(t.Context(), p, Ref{Name: "quay.io"}, func(*catalog.Project) error { return nil }), want, "")
	}
}

// Nothing that is administered is without its record, and none has a secret in it.
func TestAudit(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	id, err := l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "hub", Kind: DockerHub, Username: "me"}, NewPassword: "canary-2"})
	l.must(err)
	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "a", Registry: id})
	l.must(err)
	l.must(l.DeleteProject(t.Context(), admin, Ref{Name: "a"}), l.DeleteRegistry(t.Context(), admin, id))
	log, err := l.db.Audit(t.Context(), time.Time{}, -1)
	l.must(err)
	var got []string
	for _, e := range log {
		if e.Actor == "admin" {
			got = append(got, string(e.Action)+" "+string(e.Kind)+" "+e.Resource)
		}
		if strings.Contains(e.Detail+e.Reference+e.Resource, "canary") {
			t.Errorf("the audit log has a secret: %+v", e)
		}
	}
	want := []string{"create registry hub", "create project a", "delete project a", "delete registry hub"}
	if !slices.Equal(got, want) {
		t.Errorf("audit log %q, want %q", got, want)
	}
}
