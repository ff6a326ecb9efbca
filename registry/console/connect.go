package console

import (
	"net/http"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/rewrite/clients"
)

// connection is the page that says how clients get here.
type connection struct {
	Clients   []choice
	Client    string
	Wildcards []choice // one rule for each registry, or one for all; nil: this client has no such rules
	Files     []clients.File
	Lacking   bool // there are projects, but not the one that this client needs
	Private   bool // one of them is not for everybody
	Plain     bool // this server has no TLS
	Robots    bool // whoever looks may make a robot for the cluster
	Hosted    []string
	Host      string
}

func connect(v *visit) error {
	at := v.address()
	s, err := v.config.Estate.Site(v.r.Context(), v.me, at)
	if err != nil {
		return err
	}
	page := connection{Host: at.Host, Plain: at.Scheme != "https", Private: s.Private(), Robots: v.may(registry.Create, access.Robots, "")}
	for _, p := range s.Projects {
		if p.Hosted {
			page.Hosted = append(page.Hosted, at.Host+"/"+p.Name)
		}
	}
	query := v.r.URL.Query()
	chosen, err := clients.Find(query.Get("for"))
	if err != nil {
		chosen = clients.All[0]
	}
	for _, c := range clients.All {
		page.Clients = append(page.Clients, choice{c.Name, v.say("client." + c.Name), home + "connect?for=" + c.Name, c.Name == chosen.Name})
	}
	page.Client = chosen.Name
	if !s.Caches() {
		return v.show(http.StatusOK, "connect", v.say("connect.title"), page)
	}
	if chosen.Wildcard {
		s.Wildcard = query.Get("wildcard") == "true"
		each := home + "connect?for=" + chosen.Name
		page.Wildcards = []choice{{"each", v.say("connect.each"), each, !s.Wildcard}, {"all", v.say("connect.wildcard"), each + "&wildcard=true", s.Wildcard}}
	}
	if page.Files, err = chosen.Files(s); err != nil {
		page.Lacking = true
	}
	return v.show(http.StatusOK, "connect", v.say("connect.title"), page)
}
