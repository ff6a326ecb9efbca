package api

import (
	"net/url"

	"roadstead/registry/estate"
)

// explain says what becomes of an image.
func (c *call) explain() error {
	if err := c.known(); err != nil {
		return err
	}
	var b struct {
		Image      string   `json:"image"`
		Registries string   `json:"registries"`
		NoDefault  bool     `json:"no_default"`
		Servers    []string `json:"servers"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	q := estate.Question{Image: b.Image, Registries: b.Registries, NoDefault: b.NoDefault, URL: c.access.Base(c.r), Self: append([]string{c.r.Host}, b.Servers...)}
	if u, err := url.Parse(q.URL); err == nil && u.Host != "" {
		q.Self = append(q.Self, u.Host)
	}
	all, err := c.estate.Explain(c.ctx(), c.who, q)
	if err != nil {
		return err
	}
	return c.ok(all)
}

// seenView is a client that has asked this node.
type seenView struct {
	Address     string   `json:"address"`
	Agent       string   `json:"agent"`
	User        string   `json:"user"`
	First       stamp    `json:"first_time"`
	Last        stamp    `json:"last_time"`
	Requests    int64    `json:"requests"`
	Hits        int64    `json:"hits"`
	Misses      int64    `json:"misses"`
	Stale       int64    `json:"stale"`
	Challenges  int64    `json:"challenges"`
	Errors      int64    `json:"errors"`
	LastAsked   string   `json:"last_request"`
	LastError   string   `json:"last_error"`
	LastErrorAt *stamp   `json:"last_error_time"` // null: there was none
	Projects    []string `json:"projects"`
	NS          []string `json:"ns"`
}

func viewClient(one estate.Client) seenView {
	v := seenView{
		one.Address, one.Agent, one.User, stamp(one.First), stamp(one.Last), one.Requests, one.Hits, one.Misses, one.Stale, one.Challenges, one.Errors,
		one.LastAsked, one.LastError, nil, append([]string{}, one.Projects...), append([]string{}, one.NS...),
	}
	if !one.LastErrorAt.IsZero() {
		at := stamp(one.LastErrorAt)
		v.LastErrorAt = &at
	}
	return v
}

// listClients lists who has asked this node for something.
func (c *call) listClients() error {
	all, err := c.estate.ClientsSeen(c.who, c.r.URL.Query().Get("q"))
	if err != nil {
		return err
	}
	views := []seenView{}
	for _, one := range all {
		views = append(views, viewClient(one))
	}
	return cut(c, views)
}
