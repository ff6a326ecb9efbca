package access

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// held is a role that a user has in a project, and why.
type held struct {
	Project string
	Role    Role
	Group   string // whose members have it; "" for one that is the user's own
}

// visitor returns which user of a provider is logged in by this browser. Whoever has a password here
// needs none of these pages.
func (p *portal) visitor(r *http.Request) (*user, bool, error) {
	u, _, ok, err := p.access.visitor(r)
	return u, ok && u.Issuer != "", err
}

// show is the page of an account.
func (p *portal) show(w http.ResponseWriter, r *http.Request) error {
	u, ok, err := p.visitor(r)
	if err != nil {
		return err
	}
	if !ok {
		p.render(w, http.StatusOK, "welcome.html", view{Title: "Roadstead"})
		return nil
	}
	return p.account(w, r, u, "")
}

// account shows an account, and a secret that was made just now or "".
func (p *portal) account(w http.ResponseWriter, r *http.Request, u *user, secret string) error {
	roles, err := p.roles(r, u)
	if err != nil {
		return err
	}
	p.render(w, http.StatusOK, "account.html", view{
		Title: "Account", Host: host(p.access.base(r)), User: u.User, Admin: u.admin, Roles: roles,
		Secret: secret, HasOne: secret != "" || u.secret != nil, Until: u.trusted.UTC(),
	})
	return nil
}

// roles lists where the roles of a user come from. Decisions are made by the highest of each project.
func (p *portal) roles(r *http.Request, u *user) ([]held, error) {
	members, err := p.access.catalog.Members(r.Context(), "")
	if err != nil {
		return nil, err
	}
	var roles []held
	for _, m := range members {
		switch {
		case !m.Group && m.Name == u.Name:
			roles = append(roles, held{m.Project, Role(m.Role), ""})
		case m.Group && slices.Contains(u.groups, m.Name):
			roles = append(roles, held{m.Project, Role(m.Role), m.Name})
		}
	}
	for _, g := range p.provider.config.Groups {
		if slices.Contains(u.groups, g.Group) {
			roles = append(roles, held{g.Project, g.Role, g.Group})
		}
	}
	slices.SortFunc(roles, func(a, b held) int {
		return strings.Compare(a.Project+"\x00"+a.Group, b.Project+"\x00"+b.Group)
	})
	return roles, nil
}

// renew makes a secret for docker login and shows it, in the answer to the request that made it
// and never again.
func (p *portal) renew(w http.ResponseWriter, r *http.Request) error {
	u, ok, err := p.visitor(r)
	if err != nil {
		return err
	}
	if !ok {
		return needed
	}
	secret := newSecret()
	if err := p.access.putSecret(r, u, sumOf(secret)); err != nil {
		return fmt.Errorf("make a secret of %s: %w", u.Name, err)
	}
	return p.account(w, r, u, secret)
}

func (p *portal) remove(w http.ResponseWriter, r *http.Request) error {
	u, ok, err := p.visitor(r)
	if err != nil {
		return err
	}
	if !ok {
		return needed
	}
	if err := p.access.putSecret(r, u, nil); err != nil {
		return fmt.Errorf("remove the secret of %s: %w", u.Name, err)
	}
	http.Redirect(w, r, home, http.StatusSeeOther)
	return nil
}

// logout ends the session here. The provider's own goes on: it is for more than this registry.
func (p *portal) logout(w http.ResponseWriter, r *http.Request) error {
	if err := p.access.SignOut(w, r); err != nil {
		return err
	}
	http.Redirect(w, r, home, http.StatusSeeOther)
	return nil
}

// host is what docker login is told.
func host(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Host
}
