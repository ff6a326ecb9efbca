package estate

import (
	"net/http/httptest"
	"testing"

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
