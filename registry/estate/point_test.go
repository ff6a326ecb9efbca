package estate

import (
	"testing"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// systemRobot is a robot of the system that may do what is said in the system, in Harbor's words, and to all
// projects.
func (l *land) systemRobot(name string, system, projects []catalog.Access) registry.Principal {
	l.t.Helper()
	var permissions []catalog.Permission
	for project, all := range map[string][]catalog.Access{access.SystemScope: system, "*": projects} {
		if len(all) > 0 {
			permissions = append(permissions, catalog.Permission{Project: project, Access: all})
		}
	}
	r, secret, err := l.AddRobot(l.t.Context(), l.as("admin"), catalog.Robot{Name: name, Permissions: permissions})
	l.must(err)
	return l.with(r.FullName(), secret)
}

// Where a proxy asks is not for whoever administers the project: a project is pointed elsewhere, and so
// gets at the credentials of another registry, by those who administer registries.
func TestPointing(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	var ids [2]int64
	for i, name := range []string{"public", "paid"} {
		var err error
		ids[i], err = l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: name, URL: "https://" + name + ".example", Username: "me"}, NewPassword: "canary"})
		l.must(err)
	}
	_, err := l.AddProject(t.Context(), admin, catalog.Project{Name: "pub", Registry: ids[0]})
	l.must(err)
	_, err = l.AddMember(t.Context(), admin, Ref{Name: "pub"}, catalog.Member{Name: "nobody", Role: string(access.ProjectAdmin)})
	l.must(err)
	l.must(l.inForce(t.Context()))
	bob := l.as("nobody")
	robot := l.systemRobot("settler", nil, []catalog.Access{{Kind: "metadata", Action: registry.Update}})
	pub := Ref{Name: "pub"}
	l.must(l.ChangeProject(t.Context(), bob, pub, func(p *catalog.Project) error { p.Public = true; return nil }))
	for _, who := range []registry.Principal{bob, robot} {
		l.refuses(l.ChangeProject(t.Context(), who, pub, func(p *catalog.Project) error { p.Registry = ids[1]; return nil }), registry.Denied, "")
		l.refuses(l.ChangeProject(t.Context(), who, pub, func(p *catalog.Project) error { p.Policy.Prefix = "secret"; return nil }), registry.Denied, "")
	}
	l.refuses(l.ChangeProject(t.Context(), admin, pub, func(p *catalog.Project) error {
		p.Registry, p.Policy.Pin = ids[1], []string{"app"}
		return nil
	}), InUse, "pins")
}

// To make projects is not to say what everybody gets as docker.io, nor to use the credentials of
// registries.
func TestMakingProxies(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	paid, err := l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "paid", URL: "https://paid.example", Username: "me"}, NewPassword: "canary"})
	l.must(err)
	create := catalog.Access{Kind: Projects, Action: registry.Create}
	makes := l.systemRobot("makes", []catalog.Access{create}, nil)
	reads := l.systemRobot("reads", []catalog.Access{create, {Kind: Registries, Action: registry.Read}}, nil)
	points := l.systemRobot("points", []catalog.Access{create, {Kind: Registries, Action: registry.Read}, {Kind: Registries, Action: registry.Update}}, nil)
	before := l.all()
	for _, tt := range []struct {
		who registry.Principal
		catalog.Project
	}{
		{makes, catalog.Project{Name: "proxy", Registry: paid, Public: true}},
		{makes, catalog.Project{Name: "docker.io", Registry: paid}},
		{makes, catalog.Project{Name: "docker.io"}},
		{reads, catalog.Project{Name: "docker.io", Registry: paid}},
		{reads, catalog.Project{Name: "docker.io"}},
	} {
		_, err := l.AddProject(t.Context(), tt.who, tt.Project)
		l.refuses(err, registry.Denied, "")
	}
	if after := l.all(); after != before {
		t.Errorf("after refusals %s, want %s", after, before)
	}
	_, err = l.AddProject(t.Context(), makes, catalog.Project{Name: "hosted"})
	l.must(err)
	_, err = l.AddProject(t.Context(), reads, catalog.Project{Name: "proxy", Registry: paid})
	l.must(err)
	_, err = l.AddProject(t.Context(), points, catalog.Project{Name: "docker.io", Registry: paid})
	l.must(err)
}
