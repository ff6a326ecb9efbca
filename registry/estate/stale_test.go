package estate

import (
	"testing"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// What somebody else has taken away meanwhile does not come back by a change of something else.
func TestStaleChanges(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	_, err := l.AddProject(t.Context(), admin, catalog.Project{Name: "production"})
	l.must(err, l.inForce(t.Context()))
	pull, err := access.Permit("production", "pull")
	l.must(err)
	push, err := access.Permit("production", "push")
	l.must(err)
	robot, _, err := l.AddRobot(t.Context(), admin, catalog.Robot{Project: "production", Name: "ci", Permissions: []catalog.Permission{push}})
	l.must(err)
	calls := 0
	l.must(l.ChangeRobot(t.Context(), admin, robot.ID, func(r *catalog.Robot) error {
		if calls++; calls == 1 {
			l.must(l.ChangeRobot(t.Context(), admin, robot.ID, func(r *catalog.Robot) error {
				r.Permissions, r.Disabled = []catalog.Permission{pull}, true
				return nil
			}))
		}
		r.Description = "builds"
		return nil
	}))
	got, err := l.Robot(t.Context(), admin, robot.ID)
	l.must(err)
	if got.Description != "builds" || !got.Disabled || len(got.Permissions) != 1 || got.Permissions[0].Access[0] != pull.Access[0] {
		t.Errorf("robot = %+v, want it disabled and without the right to push", got)
	}

	id, err := l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "hub", Kind: DockerHub, Insecure: true}})
	l.must(err)
	calls = 0
	err = l.ChangeRegistry(t.Context(), admin, id, func(r *Registry) error {
		if calls++; calls == 1 {
			l.must(l.ChangeRegistry(t.Context(), admin, id, func(r *Registry) error { r.Insecure = false; return nil }))
		}
		r.Description = "ours"
		return nil
	})
	l.refuses(err, registry.Conflict, "somebody else")
	if r, err := l.Registry(t.Context(), admin, id); err != nil || r.Insecure || r.Description != "" {
		t.Errorf("registry = %+v, %v, want it verified as it was set", r, err)
	}
}
