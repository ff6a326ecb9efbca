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

	Quotas    registry.Kind = "quota"         // read; of the system also list, update
	Retention registry.Kind = "tag-retention" // operate: to run it
	Immutable registry.Kind = "immutable-tag"

	// Cache is what a proxy project holds for itself, beside what its upstream has: read says how
	// fresh it is, create warms it, update refreshes or pins, delete evicts. These are no pushes
	// and no deletions of the distribution API, which no proxy takes.
	Cache registry.Kind = "cache"

	// What belongs to the system alone. Settings, Robots, Quotas and Log are of it too, with no
	// project: Settings to create a project and to list all of them, and Log is the whole log.
	Users         registry.Kind = "user"
	Secrets       registry.Kind = "secret"
	Registries    registry.Kind = "registry" // endpoints of upstreams
	Adapters      registry.Kind = "replication-adapter"
	Collection    registry.Kind = "garbage-collection"
	Scrub         registry.Kind = "scrub"
	Warming       registry.Kind = "warm"
	Configuration registry.Kind = "configuration"
	Statistics    registry.Kind = "statistics" // of the whole server: also of what not everybody sees
	Volumes       registry.Kind = "system-volumes"
)

// Actions beside those of the distribution API and those of change.go.
const (
	Operate registry.Action = "operate" // run a retention
	Stop    registry.Action = "stop"    // a job of the system
	Search  registry.Action = "search"  // users by a part of their names, to make them members
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
	{Quotas, registry.Read}:              LimitedGuest,

	{Members, registry.Read}: Guest,
	{Members, registry.List}: Guest,
	{Robots, registry.Read}:  Guest,
	{Robots, registry.List}:  Guest,
	{Log, registry.List}:     Guest,

	{Retention, registry.Read}: Guest,
	{Retention, registry.List}: Guest,
	{Immutable, registry.Read}: Guest,
	{Immutable, registry.List}: Guest,
	{Cache, registry.Read}:     Guest,

	{registry.Repository, registry.Push}:   Developer,
	{registry.Repository, registry.Create}: Developer,
	{registry.Repository, registry.Update}: Developer,
	{registry.Artifact, registry.Create}:   Developer,
	{registry.Tags, registry.Create}:       Developer,

	{registry.Repository, registry.Delete}: Maintainer,
	{registry.Artifact, registry.Delete}:   Maintainer,
	{registry.Tags, registry.Delete}:       Maintainer,

	{Retention, registry.Create}: Maintainer,
	{Retention, registry.Update}: Maintainer,
	{Retention, registry.Delete}: Maintainer,
	{Retention, Operate}:         Maintainer,
	{Immutable, registry.Create}: Maintainer,
	{Immutable, registry.Update}: Maintainer,
	{Immutable, registry.Delete}: Maintainer,
	{Cache, registry.Create}:     Maintainer,
	{Cache, registry.Update}:     Maintainer,
	{Cache, registry.Delete}:     Maintainer,

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

// alters reports whether a right is to alter what is in repositories, which of a proxy only its
// upstream does. What a repository is said to be for is written down here and nowhere else.
func (r right) alters() bool {
	return r.content() && !r.looks() && r != right{registry.Repository, registry.Update}
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

// permits reports whether the permissions of a robot name a right in a project. The project may
// be "*", for whether they do in all of them.
func permits(permissions []catalog.Permission, project string, what right) bool {
	for _, p := range permissions {
		if p.Project != "*" && p.Project != project {
			continue
		}
		for _, a := range p.Access {
			if meaning(a).brings(what) {
				return true
			}
		}
	}
	return false
}

// brings reports whether a robot that has a right has another one by that.
func (r right) brings(what right) bool {
	switch r {
	case what:
		return true
	case right{registry.Repository, registry.Pull}:
		return what.looks()
	case right{registry.Artifact, registry.Delete}:
		// What Harbor deletes from a proxy project is evicted here.
		return what == right{Cache, registry.Delete}
	}
	return false
}
