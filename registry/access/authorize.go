package access

import (
	"time"

	"roadstead/registry"
)

// Authorize returns nil when p may do what it asks. Otherwise it is Unauthorized, when other
// credentials could help, NameUnknown, when nothing may be said of whether there is such a
// project, or Denied. Whoever sends wrong credentials too often gets TooManyRequests instead of
// Unauthorized. While accounts are not known all but what is for everybody is Unavailable. Nothing but
// memory is looked at.
func (a *Access) Authorize(p registry.Principal, action registry.Action, r registry.Resource) error {
	s, what := a.now.Load(), right{r.Kind, action}
	if a.unsure() && !s.everybody(what, r.Repo.Project) {
		return errUnsure
	}
	return s.authorize(of(p), what, r.Repo, time.Now())
}

// Elsewhere returns nil when p may be told that no project here stands for a registry, which it has named by
// ns, and what Authorize says of a private proxy to whom it is none of their business otherwise.
//
// A client that is told goes on to that registry at once, and so it should be told if at all possible: one
// that is answered 401 tries with tokens, for nothing. But it cannot be told 404 of what is not here and 401,
// which it needs for its credentials to be of use, of what is here and private (FAULTS C19, B8). So everybody
// is told where no proxy is private, which says nothing of hosted projects, as no ns leads to one; and where
// one is, whoever has said who they are, 404 as of one that is not theirs.
func (a *Access) Elsewhere(p registry.Principal, action registry.Action, kind registry.Kind) error {
	s := a.now.Load()
	if s.secluded && a.unsure() {
		return errUnsure
	}
	return s.elsewhere(of(p), right{kind, action}, time.Now())
}

func (s *snapshot) elsewhere(p *principal, what right, now time.Time) error {
	if !s.secluded {
		return nil
	}
	st, refusal := s.stand(p, now)
	switch {
	case refusal != nil:
		return refusal
	case !st.known:
		return needed
	case st.may(what, ""):
		return nil // in all projects. Which its token is for does not matter: it is for none that is not here
	case what.looks():
		return unknown
	}
	return denied
}

// Login says whether the ping of the API is answered 200 (nil) or is Unauthorized: clients ask
// for a token only after a ping that was refused (RKE2 §3.4).
func (a *Access) Login(p registry.Principal) error {
	if a.unsure() {
		return of(p).refusal // nobody is asked for credentials that could not be looked at
	}
	return a.now.Load().login(of(p), time.Now())
}

func (s *snapshot) login(p *principal, now time.Time) error {
	_, refusal := s.stand(p, now)
	if refusal == nil && p.kind == anybody && p.grants == nil && !s.open {
		refusal = needed
	}
	return refusal
}

// stand is what an account is worth now.
type standing struct {
	known bool // it is somebody
	user  *user
	robot *robot
}

// stand looks the account of a principal up. An error says that it is worth nothing, and why.
func (s *snapshot) stand(p *principal, now time.Time) (standing, error) {
	if p.refusal != nil {
		return standing{}, p.refusal
	}
	switch p.kind {
	case aUser:
		if u := s.users[p.id]; u != nil && !u.Disabled {
			return standing{known: true, user: u}, nil
		}
		return standing{}, unfit.refusal
	case aRobot:
		if r := s.robots[p.id]; r != nil && r.usable(now) {
			return standing{known: true, robot: r}, nil
		}
		return standing{}, unfit.refusal
	}
	return standing{}, nil
}

// may reports whether an account has a right in a project, which need not exist.
func (st standing) may(what right, project string) bool {
	switch {
	case st.user != nil:
		return st.user.admin || st.user.roles[project].has(what)
	case st.robot != nil:
		return (st.robot.Project == "" || st.robot.Project == project) && permits(st.robot.Permissions, project, what)
	}
	return false
}

// admin reports whether an account may do everything.
func (st standing) admin() bool { return st.user != nil && st.user.admin }

// authorize is where everything is decided. It depends on its arguments only.
func (s *snapshot) authorize(p *principal, what right, repo registry.Repo, now time.Time) error {
	st, refusal := s.stand(p, now)
	if repo.Project == "" {
		return s.system(p, st, refusal, what)
	}
	project, there := s.projects[repo.Project]
	public := there && project.Public && what.looks()
	switch {
	case public:
		return nil // whoever it is, and whatever a token says: anybody may
	case st.may(what, repo.Project):
		if there && !project.Hosted && what.alters() {
			return proxy(repo.Project)
		}
		if p.grants != nil && !p.grants.cover(repo, what) {
			return narrow
		}
		return nil
	}

	// It may not. Whether the project is there is nothing that a refusal may depend on, unless
	// the caller may know that anyway (FAULTS B8, C19).
	seen := there && (project.Public || st.may(right{registry.Repository, registry.Pull}, repo.Project))
	switch {
	case seen && !project.Hosted && what.alters():
		return proxy(repo.Project) // no credentials would help
	case refusal != nil:
		return refusal
	case st.known && seen:
		return registry.Because(registry.Denied, nil, "right", "the right to %s is not yours in project %s: ask an administrator of it for a role that has it", what, repo.Project)
	case st.known && !what.looks(), s.open && !what.looks():
		return denied
	case st.known, s.open:
		return unknown
	}
	return needed
}

// system decides about what belongs to no project.
func (s *snapshot) system(p *principal, st standing, refusal error, what right) error {
	switch {
	case what == right{registry.Catalog, registry.List}:
		// Anybody: each name in it is decided about for itself.
		if p.grants != nil && !p.grants.catalog {
			return narrow
		}
		return nil
	case refusal != nil:
		return refusal
	case !st.known:
		return needed
	case p.grants != nil: // tokens are for the distribution API
		return denied
	case st.admin(), st.robot != nil && permitsSystem(st.robot.Robot, what):
		return nil
	case what == right{Settings, registry.Create} && st.user != nil && s.anyoneCreates:
		return nil
	case what == right{Users, Search} && st.user != nil && st.user.leads():
		return nil
	}
	return denied
}

// AnyoneMayCreate reports whether every user may create projects.
func (a *Access) AnyoneMayCreate() bool { return a.now.Load().anyoneCreates }

// leads reports whether a user administers a project, and so says who its members are.
func (u *user) leads() bool {
	for _, r := range u.roles {
		if r == rankOf(ProjectAdmin) {
			return true
		}
	}
	return false
}

// String is how a right is called in messages.
func (r right) String() string { return string(r.action) + " a " + string(r.kind) }

// The refusals that do not depend on what was asked for.
var (
	needed  error = &registry.Fault{Code: registry.Unauthorized, Message: "log in first: this is not for everybody"}
	narrow  error = &registry.Fault{Code: registry.Unauthorized, Message: "the token was not asked for this: ask for one with the scope of the challenge"}
	denied  error = registry.Because(registry.Denied, nil, "denied", "this is not allowed: ask an administrator of the project for the right to it")
	unknown error = &registry.Fault{Code: registry.NameUnknown}
)

func proxy(project string) error {
	return registry.Because(registry.Denied, nil, "proxy", "project %s is a proxy cache: it cannot be pushed to or deleted from", project)
}
