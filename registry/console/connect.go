package console

import (
	"net/http"
	"slices"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
)

// connection is the page that says how clients get here.
type connection struct {
	Clients  []choice
	Client   string
	Snippets []snippet
	Private  bool // one of them is not for everybody
	Plain    bool // this server has no TLS
	Robots   bool // whoever looks may make a robot for the cluster
	Hosted   []string
	Host     string
}

// snippet is what to write into a file, or to type.
type snippet struct {
	File string // "": it is typed
	Hint string // key of what to know of it; "" for nothing
	Text string
}

// clients are those that there are snippets for, the ones of clusters first.
var clients = []struct {
	name     string
	snippets func(site) []snippet
}{
	{"rke2", rke2Snippets}, {"containerd", containerdSnippets}, {"docker", dockerSnippets},
	{"podman", podmanSnippets}, {"buildkit", buildkitSnippets},
}

func connect(v *visit) error {
	all, err := v.config.Estate.Projects(v.r.Context(), v.me)
	if err != nil {
		return err
	}
	at := v.address()
	page := connection{Host: at.Host, Plain: at.Scheme != "https", Robots: v.may(registry.Create, access.Robots, "")}
	s := site{at: at, all: slices.DeleteFunc(slices.Clone(all), func(p estate.Project) bool { return p.Hosted() })}
	for _, p := range all {
		if p.Hosted() {
			page.Hosted = append(page.Hosted, at.Host+"/"+p.Name)
		}
	}
	s.mirrors, page.Private = mirrors(s.all), s.private()
	chosen := clients[0]
	for _, c := range clients {
		if c.name == v.r.URL.Query().Get("for") {
			chosen = c
		}
	}
	for _, c := range clients {
		page.Clients = append(page.Clients, choice{c.name, v.say("client." + c.name), home + "connect?for=" + c.name, c.name == chosen.name})
	}
	page.Client = chosen.name
	if len(s.mirrors) > 0 {
		page.Snippets = chosen.snippets(s)
	}
	return v.show(http.StatusOK, "connect", v.say("connect.title"), page)
}
