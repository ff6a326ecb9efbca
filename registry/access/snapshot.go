package access

import (
	"slices"
	"time"

	"roadstead/storage/catalog"
)

// snapshot is all that decisions are made by, at one time. It is never changed.
type snapshot struct {
	generation int64
	projects   map[string]Project
	open       bool // everything is for everybody: nothing is private, and nothing can be pushed to
	secluded   bool // a proxy is private

	anyoneCreates bool // projects

	users  map[int64]*user
	named  map[string]*user
	robots map[int64]*robot
	called map[string]*robot // by full name
	chosen bool              // there is a robot with a secret that somebody chose
}

type user struct {
	catalog.User
	password string // argon2id in PHC form; "" for none
	secret   []byte // SHA-256 of what docker login is given; nil for none
	admin    bool
	roles    map[string]rank // by project

	// groups are those of the provider that there is now: another's say nothing of ours, even by
	// the same names. trusted is when the secret stops to work, for want of a newer word from it.
	groups  []string
	trusted time.Time
}

type robot struct {
	catalog.Robot
	secret   []byte // SHA-256 of a secret that we made; nil for one that somebody chose
	password string // argon2id in PHC form of one that somebody chose
}

func newSnapshot(accounts catalog.Accounts, projects []Project, oidc *OIDC) *snapshot {
	s := &snapshot{
		generation: accounts.Generation, projects: map[string]Project{}, open: len(projects) > 0,
		users: map[int64]*user{}, named: map[string]*user{}, robots: map[int64]*robot{}, called: map[string]*robot{},
	}
	for _, p := range projects {
		s.projects[p.Name] = p
		s.open = s.open && p.Public && !p.Hosted
		s.secluded = s.secluded || !p.Public && !p.Hosted
	}
	groups := map[string][]catalog.Member{}
	for _, u := range accounts.Users {
		u := &user{User: u, password: accounts.Passwords[u.ID], secret: accounts.Secrets[u.ID], admin: u.Admin, roles: map[string]rank{}}
		s.users[u.ID], s.named[u.Name] = u, u
	}
	for _, m := range accounts.Members {
		if m.Group {
			groups[m.Name] = append(groups[m.Name], m)
		} else if u := s.named[m.Name]; u != nil {
			u.raise(m)
		}
	}
	if oidc != nil {
		for _, g := range oidc.Groups {
			groups[g.Group] = append(groups[g.Group], catalog.Member{Project: g.Project, Role: string(g.Role)})
		}
	}
	for _, u := range s.users {
		if oidc == nil || u.Issuer != oidc.Issuer {
			continue
		}
		u.groups, u.trusted = u.Groups, u.IdentifiedAt.Add(oidc.trust())
		for _, group := range u.groups {
			for _, m := range groups[group] {
				u.raise(m)
			}
		}
		if oidc.AdminGroup != "" && slices.Contains(u.groups, oidc.AdminGroup) {
			u.admin = true
		}
	}
	for _, r := range accounts.Robots {
		r := &robot{Robot: r, secret: accounts.RobotSecrets[r.ID], password: accounts.RobotPasswords[r.ID]}
		s.chosen = s.chosen || r.password != ""
		s.robots[r.ID], s.called[r.FullName()] = r, r
	}
	return s
}

// raise gives a user a role, unless it has a higher one.
func (u *user) raise(m catalog.Member) {
	u.roles[m.Project] = max(u.roles[m.Project], rankOf(Role(m.Role)))
}

// stale reports whether a user is one of a provider that has said nothing of it for too long, or is
// no longer ours.
func (u *user) stale(now time.Time) bool { return u.Issuer != "" && !now.Before(u.trusted) }

// usable reports whether a robot may do anything now.
func (r *robot) usable(now time.Time) bool {
	return !r.Disabled && (r.ExpiresAt.IsZero() || now.Before(r.ExpiresAt))
}
