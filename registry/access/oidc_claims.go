package access

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
)

const (
	// Directories have users in hundreds of groups; beyond this it is a mistake, or worse.
	maxGroups = 1000
	maxGroup  = 255
	maxEmail  = 254 // RFC 5321 §4.5.3.1.3 and its erratum 1690
)

// identity is what a provider says of a user at its login.
type identity struct {
	issuer  string
	subject string
	name    string // what the user would like to be called
	email   string // "" for none, or one that the provider has not verified
	groups  []string
	cut     bool // there were more groups than are kept
}

// profile is the claims of an ID token and of the UserInfo endpoint.
type profile map[string]json.RawMessage

// has says whether all of these claims are there.
func (c profile) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return c[name] == nil })
}

// text returns a claim that is a string, without what has no place in a name. Anything else is "".
func (c profile) text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return bare(s)
}

// list returns a claim that is a list of strings, or one. Anything else is none.
func (c profile) list(name string) []string {
	var many []string
	if json.Unmarshal(c[name], &many) == nil {
		return many
	}
	if one := c.text(name); one != "" {
		return []string{one}
	}
	return nil
}

func (c profile) email() string {
	email := c.text("email")
	// Some providers have it as a string. Without a word it is as good as the provider is.
	switch verified := string(c["email_verified"]); verified {
	case `false`, `"false"`:
		return ""
	}
	if len(email) > maxEmail || !strings.Contains(email, "@") {
		return ""
	}
	return email
}

func (o *OIDC) identity(subject string, c profile) identity {
	i := identity{issuer: o.Issuer, subject: subject, email: c.email(), name: c.text(o.usernameClaim())}
	if i.name == "" {
		i.name = c.text("preferred_username")
	}
	for _, group := range c.list(o.groupsClaim()) {
		// A name that is not plain is not made so: it could become that of another group.
		if group != "" && len(group) <= maxGroup && group == bare(group) {
			i.groups = append(i.groups, group)
		}
	}
	slices.Sort(i.groups)
	i.groups = slices.Compact(i.groups)
	if i.cut = len(i.groups) > maxGroups; i.cut {
		i.groups = i.groups[:maxGroups]
	}
	return i
}

// bare drops control characters, those that turn text round, and spaces around it.
func bare(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s))
}
