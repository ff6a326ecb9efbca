package console

import (
	"net/http"
	"net/url"

	"roadstead/registry/estate"
)

// connection is the page that says how clients get here.
type connection struct {
	Clients  []choice
	Client   string
	Snippets []snippet
	Proxies  []estate.Project
	Private  bool // one of them is not for everybody
	Plain    bool // this server has no TLS
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
	snippets func(*url.URL, []estate.Project) []snippet
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
	page := connection{Host: at.Host, Plain: at.Scheme != "https"}
	for _, p := range all {
		if !p.Hosted() && p.Host != "" {
			page.Proxies = append(page.Proxies, p)
			page.Private = page.Private || !p.Public
		}
	}
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
	if len(page.Proxies) > 0 {
		page.Snippets = chosen.snippets(at, page.Proxies)
	}
	return v.show(http.StatusOK, "connect", v.say("connect.title"), page)
}
