package access

import (
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// SystemScope is the project of what a robot may do in no project: the namespace that Harbor has
// for it, and the name of no project.
const SystemScope = "/"

// Word is a permission in the words of Harbor's API. They are kept as they came, so that a client
// that compares finds what it sent.
type Word struct {
	Resource string `json:"resource"`
	Action   string `json:"action"`
	Effect   string `json:"effect,omitempty"` // "allow" or empty
}

// aliases are words of Harbor for a right in a project that has another name here.
var aliases = map[right]right{
	{"metadata", registry.Read}:          {Settings, registry.Read},
	{"metadata", registry.List}:          {Settings, registry.Read},
	{"metadata", registry.Create}:        {Settings, registry.Update},
	{"metadata", registry.Update}:        {Settings, registry.Update},
	{"metadata", registry.Delete}:        {Settings, registry.Update},
	{"accessory", registry.List}:         {registry.Artifact, registry.List},
	{"artifact-addition", registry.Read}: {registry.Artifact, registry.Read},
}

// meaning is the right that a permission names.
func meaning(a catalog.Access) right {
	is := right{a.Kind, a.Action}
	if other, ok := aliases[is]; ok {
		return other
	}
	return is
}

// systemWords are what a robot may do to the system. To change accounts, secrets and the
// configuration is not among it: whoever may do that makes itself an administrator.
var systemWords = func() map[right]right {
	all := map[right]right{
		{"audit-log", registry.List}:      {Log, registry.List},
		{registry.Catalog, registry.Read}: {registry.Catalog, registry.List},
	}
	for kind, actions := range map[registry.Kind][]registry.Action{
		Settings:      {registry.Create, registry.List},
		Registries:    {registry.Read, registry.List, registry.Create, registry.Update, registry.Delete},
		Adapters:      {registry.List},
		Quotas:        {registry.Read, registry.List, registry.Update},
		Robots:        {registry.Read, registry.List},
		Users:         {registry.Read, registry.List},
		Configuration: {registry.Read},
		Statistics:    {registry.Read},
		Volumes:       {registry.Read},
		Collection:    {registry.Read, registry.List, registry.Create, registry.Update, Stop},
		Scrub:         {registry.Read, registry.List, registry.Create, Stop},
		Warming:       {registry.Read, registry.List, registry.Create, Stop},
	} {
		for _, action := range actions {
			all[right{kind, action}] = right{kind, action}
		}
	}
	return all
}()

// idle are resources of Harbor that there is nothing of here: scans, labels, replications, groups. Robots
// in scripts and states of Terraform have permissions on them, which are taken and kept, and are
// good for nothing. They are not among PermissionWords.
var idle = []registry.Kind{
	"artifact-label", "export-cve", "helm-chart", "helm-chart-version", "helm-chart-version-label", "jobservice-monitor", "label", "ldap-user",
	"notification-policy", "preheat-instance", "preheat-policy", "purge-audit", "replication", "replication-policy",
	"sbom", "scan", "scan-all", "scanner", "security-hub", "user-group",
}

// actions are all that there are.
var actions = []registry.Action{
	registry.Create, registry.Read, registry.Update, registry.Delete, registry.List, registry.Pull, registry.Push, Operate, Stop,
}

// permitted reports whether a robot can be given something: in projects, or in the system.
func permitted(a catalog.Access, system bool) bool {
	if slices.Contains(idle, a.Kind) {
		return slices.Contains(actions, a.Action)
	}
	if system {
		_, ok := systemWords[right{a.Kind, a.Action}]
		return ok
	}
	_, ok := rights[meaning(a)]
	return ok
}

// permitsSystem reports whether a robot has a right in the system.
func permitsSystem(r catalog.Robot, what right) bool {
	if r.Project != "" {
		return false
	}
	for _, p := range r.Permissions {
		if p.Project != SystemScope {
			continue
		}
		for _, a := range p.Access {
			if systemWords[right{a.Kind, a.Action}] == what {
				return true
			}
		}
	}
	return false
}

// PermissionWords are all permissions that mean something here, of robots in the system and in
// projects, in their order. Harbor's API lists its own at /permissions.
func PermissionWords() (system, project []Word) {
	add := func(words *[]Word, r right) {
		*words = append(*words, Word{Resource: string(r.kind), Action: string(r.action)})
	}
	for r := range systemWords {
		add(&system, r)
	}
	for r := range rights {
		add(&project, r)
	}
	for r := range aliases {
		add(&project, r)
	}
	order := func(a, b Word) int { return strings.Compare(a.Resource+":"+a.Action, b.Resource+":"+b.Action) }
	slices.SortFunc(system, order)
	slices.SortFunc(project, order)
	return system, project
}

// PermissionOf makes a permission of what Harbor's API has for one: kind "project" with the name of
// one or "*" for its namespace, or "system" with "/". What is not known is refused, and named.
func PermissionOf(kind, namespace string, words []Word) (catalog.Permission, error) {
	p := catalog.Permission{Project: namespace}
	switch {
	case kind == "system" && (namespace == SystemScope || namespace == ""):
		p.Project = SystemScope
	case kind == "system":
		return p, invalid("%q is no namespace of a permission in the system: that is %q", registry.Clip(namespace), SystemScope)
	case kind != "project":
		return p, invalid("%q is no kind of a permission: take project or system", registry.Clip(kind))
	case namespace != "*" && registry.CheckProject(namespace) != nil:
		return p, invalid("%q is no project that a permission could be for: name one, or * for all of them", registry.Clip(namespace))
	}
	for _, w := range words {
		a := catalog.Access{Kind: registry.Kind(w.Resource), Action: registry.Action(w.Action)}
		switch {
		case w.Effect != "" && w.Effect != "allow":
			return p, invalid("the effect %q of %s %s is not known: permissions allow, and what they do not name is denied", registry.Clip(w.Effect), registry.Clip(w.Action), registry.Clip(w.Resource))
		case !permitted(a, kind == "system"):
			return p, notPermitted(a, kind == "system")
		case !slices.Contains(p.Access, a):
			p.Access = append(p.Access, a)
		}
	}
	if len(p.Access) == 0 {
		return p, invalid("a permission that allows nothing is of no use: name a resource and an action in its access")
	}
	return p, nil
}

func notPermitted(a catalog.Access, system bool) error {
	where := "projects"
	if system {
		where = "the system"
	}
	return invalid("action %q on resource %q is nothing that a robot may do in %s: /api/v2.0/permissions lists what is",
		registry.Clip(string(a.Action)), registry.Clip(string(a.Kind)), where)
}

// WordsOf is PermissionOf the other way.
func WordsOf(p catalog.Permission) (kind, namespace string, words []Word) {
	kind = "project"
	if p.Project == SystemScope {
		kind = "system"
	}
	words = []Word{} // a list even without anything in it
	for _, a := range p.Access {
		words = append(words, Word{Resource: string(a.Kind), Action: string(a.Action), Effect: "allow"})
	}
	return kind, p.Project, words
}

// MayGive returns nil when somebody may give a robot these permissions: whoever does has all of
// them. Otherwise a robot that may make robots would make one that may more.
func (a *Access) MayGive(p registry.Principal, permissions []catalog.Permission) error {
	var (
		s  = a.now.Load()
		me = of(p)
	)
	st, err := s.stand(me, time.Now())
	if err != nil {
		return err
	}
	for _, permission := range permissions {
		for _, access := range permission.Access {
			what := meaning(access)
			has := me.grants == nil && st.may(what, permission.Project)
			if permission.Project == SystemScope {
				what = systemWords[right{access.Kind, access.Action}]
				has = s.system(me, st, nil, what) == nil
			}
			if !has && !slices.Contains(idle, access.Kind) {
				return &registry.Fault{Code: registry.Denied, Message: "the right to " + what.String() + " in " + permission.Project + " is not yours to give to a robot"}
			}
		}
	}
	return nil
}

// MayGiveRole returns nil when somebody may give a role in a project: whoever does has all the rights
// that are the role's. Otherwise a robot that may say who is a member would make an administrator.
func (a *Access) MayGiveRole(p registry.Principal, project string, role Role) error {
	me := of(p)
	st, err := a.now.Load().stand(me, time.Now())
	if err != nil {
		return err
	}
	var missing []string
	for what, least := range ranks {
		if least <= rankOf(role) && (me.grants != nil || !st.may(what, project)) {
			missing = append(missing, what.String())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return registry.Because(registry.Denied, nil, "role.give", "the role %s in %s is not yours to give: you have no right to %s", role, project, slices.Min(missing))
}
