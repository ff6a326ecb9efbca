package main

import (
	"context"
	"net/url"
	"strings"

	"roadstead/registry"
	"roadstead/rewrite"
	"roadstead/rewrite/registries"
	"roadstead/storage/catalog"
)

// view is what a command that only looks sees of a house: the configuration and, if a server or
// "adopt" has made one, the catalog. It may be looked at beside a running server.
type view struct {
	cfg     Config // with the proxies that somebody has made
	holding holding
	table   *rewrite.Table
	data    *Data // nil: there is no catalog yet
}

// look opens a view.
func (s onDirectory) look(ctx context.Context) (v view, err error) {
	if v.cfg, err = s.load(); err != nil {
		return view{}, err
	}
	declared := v.cfg
	hosted := v.cfg.hosted()
	if hasCatalog(v.cfg.Storage) {
		if v.data, err = shareData(ctx, v.cfg.Storage); err != nil {
			return view{}, err
		}
		if v.holding, err = readHolding(ctx, v.data.Catalog); err != nil {
			v.Close()
			return view{}, err
		}
		sealed := func(r catalog.Registry) (Secret, error) { return "", nil } // nothing is asked
		v.holding = v.holding.fit(v.cfg, sealed, tryUpstream)
		if v.cfg, err = v.holding.over(v.cfg, sealed); err != nil {
			v.Close()
			return view{}, err
		}
		hosted = append(v.holding.beside(declared), onlyNew(hosted, v.holding)...)
	}
	if v.table, err = newTable(v.cfg, hosted); err != nil {
		v.Close()
		return view{}, err
	}
	return v, nil
}

// onlyNew are the hosted projects of a configuration that no server has written down yet.
func onlyNew(declared []catalog.Project, h holding) []catalog.Project {
	var all []catalog.Project
	for _, p := range declared {
		if !h.has(p.Name) {
			all = append(all, p)
		}
	}
	return all
}

// Close closes what look has opened.
func (v view) Close() error {
	if v.data == nil {
		return nil
	}
	return v.data.Close()
}

// known reports whether there is anything that says which projects there are: else all is built in.
func (v view) known() bool { return v.data != nil || v.cfg.File != "" }

// selves are the hosts by which clients know the server: that of the configuration, and those of a
// command line, which may be URLs.
func selves(cfg Config, server []string) []string {
	var all []string
	for _, text := range append([]string{cfg.URL}, server...) {
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			text = u.Host
		}
		if text != "" {
			all = append(all, strings.ToLower(text))
		}
	}
	return all
}

// mostNames bounds the names of a registry that examples are looked for among.
const mostNames = 200

// names are repositories that are here of a registry, as images call them.
func (v view) names(ctx context.Context) func(host string) []string {
	return func(host string) []string {
		if v.data == nil {
			return nil
		}
		place, err := v.table.Place(rewrite.Image{Host: host, Name: "team/app"})
		if err != nil {
			return nil
		}
		all, err := v.data.Catalog.Repositories(ctx, place.Project+"/", mostNames)
		if err != nil {
			return nil // there will be made up ones
		}
		var names []string
		for _, full := range all {
			if repo := registry.SplitRepo(full); repo.Project == place.Project {
				names = append(names, repo.Name)
			}
		}
		return names
	}
}

// house is the view as lint sees it. server are hosts that it goes by beside those of the
// configuration.
func (v view) house(ctx context.Context, server []string) registries.House {
	h := registries.House{Self: selves(v.cfg, server), Names: v.names(ctx)}
	if v.known() {
		h.Table = v.table
	}
	return h
}
