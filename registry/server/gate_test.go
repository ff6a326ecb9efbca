package server

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"roadstead/registry"
)

// gate is an Access with the projects "public", "hub" (a public cache), "private" and "team",
// and with users that are told apart by Basic credentials whose password is their name:
//
//	dev    may pull from and push to private, and delete nothing
//	boss   may do everything there
//	guest  may pull from there
//	alien  has no right to anything that is not public
//	root   may do everything everywhere
type gate struct {
	open bool  // GET /v2/ needs no credentials
	busy error // what Identify says
	told bool  // what Elsewhere says to everybody

	mu     sync.Mutex
	events []registry.Event
}

func (g *gate) Identify(r *http.Request) (registry.Principal, error) {
	if g.busy != nil {
		return nil, g.busy
	}
	user, password, ok := r.BasicAuth()
	if !ok || user != password {
		return named(""), nil
	}
	return named(user), nil
}

func (g *gate) Authorize(p registry.Principal, a registry.Action, r registry.Resource) error {
	reads := a == registry.Pull || a == registry.List
	rights := map[string]string{
		"dev": "private:pull private:list private:push", "guest": "private:pull private:list",
		"scoped": "private:pull private:push", // dev with a token for that, who may pull from team as well
		"boss":   "private:pull private:list private:push private:delete",
	}
	known := slices.Contains([]string{"public", "hub", "private", "team"}, r.Repo.Project)
	switch public := r.Repo.Project == "public" || r.Repo.Project == "hub"; {
	case p.Name() == "root", public && reads, public && p.Name() == "boss":
		return nil
	case slices.Contains(strings.Fields(rights[p.Name()]), r.Repo.Project+":"+string(a)):
		return nil
	case p.Name() == "", p.Name() == "scoped" && r.Repo.Project == "team":
		return registry.Unauthorized
	case reads && known:
		return &registry.Fault{Code: registry.NameUnknown, Message: "there is such a project, but not for you"}
	case reads:
		return &registry.Fault{Code: registry.NameUnknown, Message: "there is no such project"}
	case known:
		return &registry.Fault{Code: registry.Denied, Message: p.Name() + " may not do that in " + r.Repo.Project}
	}
	return &registry.Fault{Code: registry.Denied, Message: "no project is called " + r.Repo.Project}
}

// Elsewhere is as for a project that is not there: "private" can be named by ns as well.
func (g *gate) Elsewhere(p registry.Principal, a registry.Action, k registry.Kind) error {
	if g.told {
		return nil
	}
	return g.Authorize(p, a, registry.Resource{Kind: k, Repo: registry.Repo{Project: "elsewhere"}})
}

func (g *gate) Challenge(_ *http.Request, scopes ...string) string {
	return `Bearer realm="https://x/service/token",service="x",scope="` + strings.Join(scopes, " ") + `"`
}

func (g *gate) Login(p registry.Principal) error {
	if g.open || p.Name() != "" {
		return nil
	}
	return registry.Unauthorized
}

func (g *gate) Record(e registry.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
}

// records returns what was recorded since the last call, as text.
func (g *gate) records() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []string
	for _, e := range g.events {
		if !strings.Contains(e.Remote, ":") {
			list = append(list, "no remote: "+e.Remote)
		}
		list = append(list, strings.Join([]string{e.Principal.Name(), string(e.Action), string(e.Resource.Kind), e.Resource.Repo.String(), e.Reference, string(e.Outcome)}, " "))
	}
	g.events = nil
	return list
}

// allow is an Access that lets everybody do everything.
type allow struct{ gate }

func (*allow) Authorize(registry.Principal, registry.Action, registry.Resource) error { return nil }
func (*allow) Elsewhere(registry.Principal, registry.Action, registry.Kind) error     { return nil }
func (*allow) Login(registry.Principal) error                                         { return nil }
