package estate

import (
	"net/http/httptest"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// robot is a robot of the system that may do to a project, or with access.SystemScope to the system,
// what pairs of a kind and an action say.
func (l *land) robot(name, project string, words ...string) registry.Principal {
	l.t.Helper()
	p := catalog.Permission{Project: project}
	for i := 0; i+1 < len(words); i += 2 {
		p.Access = append(p.Access, catalog.Access{Kind: registry.Kind(words[i]), Action: registry.Action(words[i+1])})
	}
	made, secret, err := l.access.AddRobot(l.t.Context(), "test", catalog.Robot{Name: name, Permissions: []catalog.Permission{p}})
	l.must(err)
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(made.FullName(), secret)
	who, err := l.access.Identify(r)
	l.must(err)
	return who
}

// Whoever may look at a registry has us ask it, and no address that he chooses.
func TestPingAsksWhoMayChange(t *testing.T) {
	l := open(t)
	id, err := l.AddRegistry(t.Context(), l.as("admin"), Registry{Registry: catalog.Registry{Name: "hub", Kind: DockerHub}})
	l.must(err)
	reader := l.robot("reader", access.SystemScope, "registry", "read")
	writer := l.robot("writer", access.SystemScope, "registry", "read", "registry", "update")
	is, err := l.Registry(t.Context(), reader, id)
	l.must(err)
	l.pinged = nil
	l.must(l.PingRegistry(t.Context(), reader, Registry{Registry: catalog.Registry{ID: id}}), l.PingRegistry(t.Context(), reader, is))
	l.must(l.PingRegistry(t.Context(), reader, Registry{Registry: catalog.Registry{ID: 1}})) // a built-in one
	if len(l.pinged) != 3 {
		t.Errorf("asked %q, want what is stored", l.pinged)
	}
	l.pinged = nil
	for _, change := range []func(*Registry){
		func(r *Registry) { r.URL = "http://169.254.169.254" },
		func(r *Registry) { r.Insecure = true },
		func(r *Registry) { r.AllowPrivate = true },
	} {
		next := is
		change(&next)
		l.refuses(l.PingRegistry(t.Context(), reader, next), registry.Denied, "")
		if len(l.pinged) != 0 {
			t.Fatalf("asked %q", l.pinged)
		}
		l.must(l.PingRegistry(t.Context(), writer, next))
		l.pinged = nil
	}
}

// A robot that may say who is a member makes nobody who may more than it.
func TestRobotsGiveRolesTheyHave(t *testing.T) {
	l := open(t)
	id, err := l.AddProject(t.Context(), l.as("admin"), catalog.Project{Name: "team"})
	l.must(err)
	ref := Ref{Name: "team"}
	one := l.robot("members", "team", "member", "create", "member", "update")
	for _, role := range access.Roles {
		_, err := l.AddMember(t.Context(), one, ref, catalog.Member{Name: "nobody", Role: string(role)})
		l.refuses(err, registry.Denied, "not yours to give")
	}
	guide := l.robot("guide", "team", "member", "create", "member", "update", "repository", "pull", "quota", "read",
		"member", "read", "member", "list", "robot", "read", "robot", "list", "log", "list", "tag-retention", "read", "tag-retention", "list",
		"immutable-tag", "read", "immutable-tag", "list", "cache", "read")
	_, err = l.AddMember(t.Context(), guide, ref, catalog.Member{Name: "nobody", Role: string(access.Developer)})
	l.refuses(err, registry.Denied, "artifact")
	m, err := l.AddMember(t.Context(), guide, ref, catalog.Member{Name: "nobody", Role: string(access.Guest)})
	if err != nil || m.ProjectID != id {
		t.Errorf("a guest = %+v, %v, want one of project %d", m, err, id)
	}
	l.refuses(l.SetRole(t.Context(), guide, ref, m.ID, access.ProjectAdmin), registry.Denied, "not yours to give")
	l.must(l.SetRole(t.Context(), guide, ref, m.ID, access.LimitedGuest), l.SetRole(t.Context(), l.as("admin"), ref, m.ID, access.ProjectAdmin))
	l.must(l.SetRole(t.Context(), l.as("nobody"), ref, m.ID, access.ProjectAdmin)) // whoever has it may give it
}

// Who makes a project under the name of one that has gone learns nothing of that one.
func TestNamesDoNotOutliveWhatTheyNamed(t *testing.T) {
	l := open(t)
	b := &broom{}
	l.Estate.config.Cleaner = b
	admin := l.as("admin")
	ref := Ref{Name: "team"}
	for range 2 {
		_, err := l.AddProject(t.Context(), admin, catalog.Project{Name: "team"})
		l.must(err)
		log, total, err := l.ProjectLog(t.Context(), admin, ref, catalog.AuditFilter{}, catalog.Page{Limit: 10})
		if err != nil || total != 1 || log[0].Action != registry.Create {
			t.Errorf("the log of a new project = %+v, %v, want that it was made", log, err)
		}
		runs, err := l.Retentions(t.Context(), admin, ref)
		if err != nil || len(runs) != 0 {
			t.Errorf("retentions of a new project = %+v, %v, want none", runs, err)
		}
		_, err = l.Retain(t.Context(), admin, ref, true)
		l.must(err)
		if runs, err := l.Retentions(t.Context(), admin, ref); err != nil || len(runs) != 1 {
			t.Errorf("retentions = %+v, %v, want the one", runs, err)
		}
		time.Sleep(2 * time.Millisecond) // times are kept to one
		l.must(l.DeleteProject(t.Context(), admin, ref))
		time.Sleep(2 * time.Millisecond)
	}
}
