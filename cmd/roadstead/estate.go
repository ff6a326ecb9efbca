package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/admin"
	"roadstead/registry/api"
	"roadstead/registry/console"
	"roadstead/registry/estate"
	"roadstead/registry/hosted"
	"roadstead/registry/server"
	"roadstead/registry/upstream"
	"roadstead/rewrite"
)

// newEstate is what is administered, of this house.
func (h *House) newEstate() *estate.Estate {
	return estate.New(estate.Config{
		Catalog: h.data.Catalog, Access: h.access, InForce: h.putInForce, Scrub: h.scrub,
		Try: h.try, Ping: h.pingRegistry, CheckName: checkProjectName,
		Names:   func(project string) []string { return h.table.Load().Names(project) },
		Default: func(host string) string { return h.table.Load().Default(host) },
		Table:   func() *rewrite.Table { return h.table.Load() }, Upstream: h.upstreams.urls,
		Place:   h.placing(h.cfg.URL),
		Builtin: func(name string) bool { _, ok := builtinProject(name); return ok },
		Cleaner: h.hosted, Read: h.data.Store.Read, Hosted: h.hosted, Cached: cached{h.cache}, Cache: h.cache,
		// What is not served answers nobody either, for whatever reason.
		Down:    func(project string) bool { return h.misfit(project) || h.upstreams.down(project) },
		Offline: func() bool { return h.inForce.Load().cfg.Offline },
		Node:    h.nodes.name(), File: h.cfg.File,
	})
}

// placing finds where images are here, which the server's own URL may name.
func (h *House) placing(own string) func(rewrite.Image, ...string) (registry.Repo, error) {
	u, err := url.Parse(own)
	return func(i rewrite.Image, self ...string) (registry.Repo, error) {
		if err == nil && u.Host != "" {
			self = append(slices.Clone(self), u.Host)
		}
		return h.table.Load().Place(i, self...)
	}
}

// cached is the content of proxies, which is deleted by forgetting it.
type cached struct{ cache *cache.Cache }

// DeleteRepository forgets all that is cached of a repository.
func (c cached) DeleteRepository(ctx context.Context, repo registry.Repo) error {
	return c.cache.ForgetRepository(ctx, repo)
}

// DeleteManifest forgets what is cached under a digest.
func (c cached) DeleteManifest(ctx context.Context, repo registry.Repo, d registry.Digest) error {
	return c.cache.Forget(ctx, repo, d)
}

// DeleteTag forgets a tag, and what only it leads to.
func (c cached) DeleteTag(ctx context.Context, repo registry.Repo, tag string) error {
	return c.cache.ForgetTag(ctx, repo, tag)
}

// noteCleaning keeps what the hosted registry says of a cleaning.
func (h *House) noteCleaning(c hosted.Cleaning) {
	if err := h.estate.Note(c); err != nil {
		h.log.Error("a collection is not among those that are listed", "began", c.Began, "err", err)
	}
}

// down reports whether no endpoint of a proxy answers.
func (u *upstreams) down(project string) bool {
	u.mu.Lock()
	one, ok := u.current[project]
	u.mu.Unlock()
	if !ok {
		return false
	}
	return unreachable(one.registry)
}

// unreachable reports whether no endpoint of an upstream answers.
func unreachable(r *upstream.Registry) bool {
	return !slices.ContainsFunc(r.Stats().Endpoints, func(e upstream.EndpointStats) bool { return !e.Down })
}

// other answers what is no path of the registry API: the REST API, the console, and logins.
func (h *House) other() http.Handler {
	rest := api.New(api.Config{
		Estate: h.estate, Access: h.access, URL: h.cfg.URL, Version: thisBuild().Version, OIDC: h.cfg.OIDC.Issuer != "",
		Health: h.components, Room: h.data.Store.Free, Upstreams: h.upstreams.figures, Cache: h.figures, Stopping: h.draining.Load, Log: h.log,
	})
	logins := h.access.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.missing.error() != nil && r.URL.Path != "/service/token" && r.URL.Path != "/api/v2.0/ping" && r.URL.Path != "/api/v2.0/health" {
			h.closed(w)
			return
		}
		if r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/") {
			rest.ServeHTTP(w, r)
			return
		}
		if console.Wants(r) {
			h.console.ServeHTTP(w, r)
			return
		}
		logins.ServeHTTP(w, r)
	})
}

// newConsole is the pages that people see of this house.
func (h *House) newConsole() (*console.Console, error) {
	issuer := ""
	if u, err := url.Parse(h.cfg.OIDC.Issuer); err == nil {
		issuer = u.Host
	}
	return console.New(console.Config{
		Access: h.access, Estate: h.estate, Issuer: issuer, Version: thisBuild().Version, Log: h.log,
		Cache: h.cache.Stats, Flights: h.cache.Flights, Hosted: h.hosted.Stats, Upstreams: h.upstreams.Stats,
		Server:  func() server.Stats { return h.server.Stats() }, // which is made with these pages
		Offline: func() bool { return h.inForce.Load().cfg.Offline },
	})
}

// components are the parts of the house as the REST API shows them.
func (h *House) components(ctx context.Context) []api.Component {
	core := func(name string, err error) api.Component {
		c := api.Component{Name: name, Core: true}
		if err != nil {
			c.Down, c.Error = true, err.Error()
		}
		return c
	}
	all := []api.Component{core("core", h.stopping()), core("database", h.readable(ctx)), core("registry", h.writable())}
	for _, c := range h.health(ctx) {
		if c.Name == "storage" || c.Name == "catalog" {
			continue // which Harbor calls the other way
		}
		all = append(all, api.Component{Name: c.Name, Down: c.Status != admin.Healthy, Error: c.Error})
	}
	return all
}

func (h *House) stopping() error {
	if h.draining.Load() {
		return errors.New("it is stopping")
	}
	return nil
}
