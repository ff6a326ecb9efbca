package access

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"
)

// OIDC is the provider that people log in by, of OpenID Connect Core 1.0, and what its groups may.
type OIDC struct {
	// Issuer is the provider's identifier, exactly as its discovery document has it, with or
	// without a slash at its end. It is https, or on a loopback address, or Insecure is set.
	Issuer string

	ClientID string

	// ClientSecret is empty for a public client, which PKCE alone protects.
	ClientSecret string `json:"-"`

	// CAFile has certificates in PEM that the provider may be signed by, beside the system's.
	CAFile string

	// Scopes are asked for beside openid. None: profile and email. Many providers want groups too.
	Scopes []string

	// UsernameClaim has the name that a new user gets; empty: preferred_username. It decides
	// nothing else: a user is found by issuer and subject.
	UsernameClaim string

	// GroupsClaim has the names of the groups that a user is in; empty: groups.
	GroupsClaim string

	// AdminGroup is the group whose members administer everything; empty: none does.
	AdminGroup string

	// Groups are the roles of groups in projects, beside those that the catalog has.
	Groups []GroupRole

	// Trust is how long what the provider said of a user is believed of its CLI secret; zero:
	// seven days. Nothing tells us that somebody has left, or has left a group, until the next
	// login: without an end, the secret of one who has left would pull for ever. A week is a
	// login a week for people, and machines have robots.
	Trust time.Duration

	// Insecure permits plain http to a provider that is not on a loopback address.
	Insecure bool
}

// GroupRole says which role the members of a provider's group have in a project.
type GroupRole struct {
	Group   string
	Project string
	Role    Role
}

// String is what a log may have of it, whoever writes the whole of it there: no secret.
func (o OIDC) String() string { return o.Issuer + " for client " + o.ClientID }

// check finds what can be known to be wrong without asking the provider.
func (o *OIDC) check() error {
	issuer, err := url.Parse(o.Issuer)
	switch {
	case err != nil:
		return errors.New("oidc issuer is no URL") // the error would repeat a password in it
	case issuer.Host == "" || issuer.User != nil || issuer.RawQuery != "" || issuer.Fragment != "":
		// OpenID Connect Discovery 1.0 §3.
		return fmt.Errorf("oidc issuer %q is no URL of scheme, host and path alone", issuer.Redacted())
	case o.ClientID == "":
		return errors.New("oidc: a client ID is missing")
	}
	if err := o.safe(issuer); err != nil {
		return fmt.Errorf("oidc issuer: %w", err)
	}
	for _, g := range o.Groups {
		if g.Group == "" || g.Project == "" {
			return fmt.Errorf("oidc: a role of group %q in project %q lacks a name", g.Group, g.Project)
		}
		if rankOf(g.Role) == 0 {
			return fmt.Errorf("oidc: group %q cannot be %q in project %q: take one of %q", g.Group, g.Role, g.Project, Roles)
		}
	}
	return nil
}

// safe refuses what secrets and tokens must not go to.
func (o *OIDC) safe(u *url.URL) error {
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (o.Insecure || loopback(u.Hostname())):
		return nil
	}
	return fmt.Errorf("%s://%s is not https", u.Scheme, u.Host)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (o *OIDC) scopes() []string {
	scopes := o.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email"}
	}
	if slices.Contains(scopes, "openid") {
		return scopes
	}
	return append([]string{"openid"}, scopes...)
}

func (o *OIDC) usernameClaim() string { return cmp.Or(o.UsernameClaim, "preferred_username") }

func (o *OIDC) groupsClaim() string { return cmp.Or(o.GroupsClaim, "groups") }

func (o *OIDC) trust() time.Duration { return cmp.Or(o.Trust, 7*24*time.Hour) }
