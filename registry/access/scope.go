package access

import (
	"slices"
	"strings"

	"roadstead/registry"
)

// scope is what a client asks a token for: "repository:production/web:pull,push" (distribution,
// "Token Scope Documentation").
type scope struct {
	kind  string // "repository", or "registry" with the name "catalog"
	name  string
	verbs []string
}

// maxScopes is how many scopes of a request are looked at. A client that mounts asks for three;
// more than this would not fit into a token that is accepted.
const maxScopes = 32

// parseScopes reads the scope parameters of a request, each of which may have several scopes.
// What is no scope is left out.
func parseScopes(params []string) []scope {
	var all []scope
	for _, param := range params {
		for text := range strings.FieldsSeq(param) {
			if s, ok := parseScope(text); ok && len(all) < maxScopes {
				all = append(all, s)
			}
		}
	}
	return all
}

// parseScope reads one scope. The name may have colons in it, for a host and its port.
func parseScope(text string) (scope, bool) {
	kind, rest, ok := strings.Cut(text, ":")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i < 0 {
		return scope{}, false
	}
	kind, _, _ = strings.Cut(kind, "(") // a class, "repository(plugin)", which changes nothing here
	s := scope{kind: kind, name: rest[:i]}
	for verb := range strings.SplitSeq(rest[i+1:], ",") {
		switch verb {
		case "*":
			s.verbs = []string{"pull", "push", "delete"}
		case "pull", "push", "delete":
			if !slices.Contains(s.verbs, verb) {
				s.verbs = append(s.verbs, verb)
			}
		}
	}
	return s, len(s.verbs) > 0 && len(s.name) <= registry.MaxName
}

// grant is one scope of a token, in the words of distribution's token specification.
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"` // canonical
	Actions []string `json:"actions"`
}

// grants are what a token is good for, if its account is.
type grants struct {
	catalog bool // the names of repositories
	verbs   map[registry.Repo][]string
}

func newGrants(access []grant) *grants {
	g := &grants{verbs: map[registry.Repo][]string{}}
	for _, entry := range access {
		switch {
		case entry.Type == "repository":
			repo := registry.SplitRepo(entry.Name)
			g.verbs[repo] = append(g.verbs[repo], entry.Actions...)
		case entry.Type == "registry" && entry.Name == "catalog":
			g.catalog = true
		}
	}
	return g
}

// cover reports whether a token is good for a right in a repository.
func (g *grants) cover(repo registry.Repo, what right) bool {
	if g.catalog && what == (right{registry.Repository, registry.List}) {
		return true
	}
	verb := what.verb()
	return verb != "" && slices.Contains(g.verbs[repo], verb)
}

// grant says which of what is asked for p may have: the rest is left out without a word, as
// clients ask for more than they need (RKE2 §3.5). host and ns are as for Route.
func (a *Access) grant(p *principal, host, ns string, asked []scope) []grant {
	granted := []grant{} // "access" is a list even without anything in it
	size := 0
	for _, s := range asked {
		entry := grant{Type: s.kind, Name: s.name}
		switch {
		case s.kind == "registry" && s.name == "catalog":
			entry.Actions = []string{"*"}
		case s.kind == "repository":
			repo, ok := a.repository(host, ns, s.name)
			if !ok {
				continue
			}
			entry.Name = repo.String()
			for _, verb := range s.verbs {
				if slices.ContainsFunc(meant[verb], func(r right) bool {
					return a.Authorize(p, r.action, registry.Resource{Kind: r.kind, Repo: repo}) == nil
				}) {
					entry.Actions = append(entry.Actions, verb)
				}
			}
		}
		if size += len(entry.Name) + 64; len(entry.Actions) > 0 && size <= maxAccess {
			granted = append(granted, entry)
		}
	}
	return granted
}

// maxAccess bounds the scopes in a token, in bytes, so that it stays one that is accepted.
const maxAccess = 4 << 10

// meant are the rights that an action of a scope is about; one of them is enough to have it.
var meant = map[string][]right{
	"pull":   {{registry.Repository, registry.Pull}},
	"push":   {{registry.Repository, registry.Push}},
	"delete": {{registry.Artifact, registry.Delete}, {registry.Tags, registry.Delete}},
}

// repository says what repository the name of a scope means. Clients make scopes of the name that
// they were given, while challenges have the canonical one: both are the same here.
func (a *Access) repository(host, ns, name string) (registry.Repo, bool) {
	if registry.CheckName(name) != nil {
		return registry.Repo{}, false
	}
	repo, err := a.config.Route(host, ns, name)
	return repo, err == nil && repo.Name != ""
}
