package api

import (
	"net/url"
	"strconv"

	"roadstead/rewrite/clients"
)

// clientView is what to write into the files of a client.
type clientView struct {
	Client   string     `json:"client"`
	Wildcard bool       `json:"wildcard"`
	Files    []fileView `json:"files"`
}

type fileView struct {
	Path  string   `json:"path"` // "": it is typed
	Text  string   `json:"text"`
	Notes []string `json:"notes"`
}

// readClient says how a client is told of this server, of the projects that whoever asks may see. No
// secret is in it: there is a place for one where it is needed.
func (c *call) readClient() error {
	client, err := clients.Find(c.item("client"))
	if err != nil {
		return unknown("%v", err)
	}
	at, err := url.Parse(c.access.Base(c.r))
	if err != nil || at.Host == "" {
		return invalid("how clients reach this server cannot be told from the request; set url in its configuration")
	}
	s, err := c.estate.Site(c.ctx(), c.who, at)
	if err != nil {
		return err
	}
	if text := c.r.URL.Query().Get("wildcard"); text != "" {
		if s.Wildcard, err = strconv.ParseBool(text); err != nil {
			return invalid("wildcard is true or false")
		}
	}
	files, err := client.Files(s)
	if err != nil {
		return invalid("%v", err)
	}
	view := clientView{client.Name, s.Wildcard, []fileView{}}
	for _, f := range files {
		notes := []string{}
		for _, n := range f.Notes {
			notes = append(notes, n.English())
		}
		view.Files = append(view.Files, fileView{f.Path, f.Text, notes})
	}
	return c.ok(view)
}
