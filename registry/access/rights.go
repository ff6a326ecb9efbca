package access

import (
	"slices"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Kinds of resources beside those of the distribution API, in the words that Harbor has for them.
const (
	Settings registry.Kind = "project" // read, update, delete: of the project itself
	Members  registry.Kind = "member"
	Robots   registry.Kind = "robot"
	Log      registry.Kind = "log" // the part of the audit log that is about a project

	Users   registry.Kind = "user"
	Secrets registry.Kind = "secret"
)

// Role is what a user is in a project, in the words that Harbor has for it.
type Role string

// The roles, the least of them first. Each may do all that the ones before it may.
const (
	LimitedGuest Role = "limitedGuest"
	Guest        Role = "guest"
	Developer    Role = "developer"
	Maintainer   Role = "maintainer"
	ProjectAdmin Role = "projectAdmin"
)

// Roles are all roles, the least first.
var Roles = []Role{LimitedGuest, Guest, Developer, Maintainer, ProjectAdmin}

// rank orders roles; 0 is none.
type rank int

func rankOf(role Role) rank { return rank(slices.Index(Roles, role) + 1) }

// right is an action on resources of a kind.
type right struct {
	kind   registry.Kind
	action registry.Action
}

// rights says for each right in a project the least role that has it, as in Harbor's
// rbac_role.go. What has no row is nobody's but the system administrator's.
var rights = map[right]Role{
	{registry.Repository, registry.Pull}: LimitedGuest,
	{registry.Repository, registry.List}: LimitedGuest,
	{registry.Repository, registry.Read}: LimitedGuest,
	{registry.Artifact, registry.Read}:   LimitedGuest,
	{registry.Artifact, registry.List}:   LimitedGuest,
	{registry.Tags, registry.List}:       LimitedGuest,
	{registry.Tags, registry.Read}:       LimitedGuest,
	{Settings, registry.Read}:            LimitedGuest,

	{Members, registry.Read}: Guest,
	{Members, registry.List}: Guest,
	{Robots, registry.Read}:  Guest,
	{Robots, registry.List}:  Guest,
	{Log, registry.List}:     Guest,

	{registry.Repository, registry.Push}:   Developer,
	{registry.Repository, registry.Create}: Developer,
	{registry.Repository, registry.Update}: Developer,
	{registry.Artifact, registry.Create}:   Developer,
	{registry.Tags, registry.Create}:       Developer,

	{registry.Repository, registry.Delete}: Maintainer,
	{registry.Artifact, registry.Delete}:   Maintainer,
	{registry.Tags, registry.Delete}:       Maintainer,

	{Settings, registry.Update}: ProjectAdmin,
	{Settings, registry.Delete}: ProjectAdmin,
	{Members, registry.Create}:  ProjectAdmin,
	{Members, registry.Update}:  ProjectAdmin,
	{Members, registry.Delete}:  ProjectAdmin,
	{Robots, registry.Create}:   ProjectAdmin,
	{Robots, registry.Update}:   ProjectAdmin,
	{Robots, registry.Delete}:   ProjectAdmin,
}

// ranks is rights as it is asked for on every request.
var ranks = func() map[right]rank {
	all := map[right]rank{}
	for r, role := range rights {
		all[r] = rankOf(role)
	}
	return all
}()

// has reports whether a role has a right.
func (r rank) has(what right) bool {
	least := ranks[what]
	return least > 0 && r >= least
}

// looks reports whether a right is to look at content only. These are what anybody has in a
// public project, and what comes with the right to pull.
func (r right) looks() bool {
	switch r.kind {
	case registry.Repository, registry.Artifact, registry.Tags:
		return r.action == registry.Pull || r.action == registry.List || r.action == registry.Read
	}
	return r == right{Settings, registry.Read}
}

// content reports whether a right is about what is in repositories.
func (r right) content() bool {
	return r.kind == registry.Repository || r.kind == registry.Artifact || r.kind == registry.Tags
}

// verb is the action of a token scope that a right comes with; "" for what tokens are no good
// for. They are for the distribution API.
func (r right) verb() string {
	switch {
	case !r.content():
		return ""
	case r.looks():
		return "pull"
	case r.action == registry.Delete:
		return "delete"
	}
	return "push"
}

// permits reports whether the permissions of a robot name a right in a project.
func permits(permissions []catalog.Permission, project string, what right) bool {
	for _, p := range permissions {
		if p.Project != "*" && p.Project != project {
			continue
		}
		for _, a := range p.Access {
			has := right{a.Kind, a.Action}
			if has == what || has == (right{registry.Repository, registry.Pull}) && what.looks() {
				return true
			}
		}
	}
	return false
}
