package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/hosted"
	"roadstead/storage/catalog"
)

// keysFolder is where in a data directory the keys are that sign tokens and seal secrets, unless there is
// a cluster, which has them in its catalog.
const keysFolder = "keys"

// openAccess opens the accounts of a data directory.
func openAccess(ctx context.Context, cfg Config, data *Data, log *slog.Logger, announce func(user, password string), route func(host, ns, name string) (registry.Repo, error)) (*access.Access, error) {
	c := access.Config{
		Catalog:       data.Catalog,
		Directory:     filepath.Join(cfg.Storage.Directory, keysFolder),
		URL:           cfg.URL,
		AdminPassword: string(cfg.AdminPassword),
		Announce:      announce,
		Route:         route,
		Later:         data.away != nil,
		Log:           log,
	}
	if cfg.Cluster.Listen != "" {
		c.Secret = string(cfg.Cluster.Secret)
	}
	if name := cfg.OIDC.ClientSecretName; name != "" && cfg.OIDC.Issuer != "" {
		// The vault has to be open to know it. What is opened for that runs nothing.
		vault, err := access.Open(ctx, c)
		if err != nil {
			return nil, err
		}
		secret, err := vault.Secret(ctx, name)
		if err != nil {
			log.Error("nobody can sign in at the OIDC provider: store its secret with \"roadstead secret set\" and start again", "secret", name, "err", err)
			return vault, nil
		}
		cfg.OIDC.ClientSecret = Secret(secret)
	}
	c.OIDC = oidcConfig(cfg.OIDC)
	return access.Open(ctx, c)
}

// oidcConfig says the configuration in the words of access; nil for none.
func oidcConfig(o OIDC) *access.OIDC {
	if o.Issuer == "" {
		return nil
	}
	c := &access.OIDC{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: string(o.ClientSecret), CAFile: o.CAFile, Scopes: o.Scopes,
		UsernameClaim: o.UsernameClaim, GroupsClaim: o.GroupsClaim, AdminGroup: o.AdminGroup, Trust: o.Trust,
	}
	for _, g := range o.Groups {
		c.Groups = append(c.Groups, access.GroupRole{Group: g.Group, Project: g.Project, Role: access.Role(g.Role)})
	}
	return c
}

// accessProjects are all projects, as access has to know them.
func accessProjects(cfg Config, rows []catalog.Project) []access.Project {
	var all []access.Project
	for _, p := range cfg.proxies() {
		all = append(all, access.Project{Name: p.Name, Public: p.Public})
	}
	for _, p := range rows {
		all = append(all, access.Project{Name: p.Name, Public: p.Public, Hosted: true})
	}
	return all
}

// misfitProjects are those that are not served, for whoever has to change or delete them. None is
// public: nobody can pull from it.
func (h holding) misfitProjects() []access.Project {
	var all []access.Project
	for _, p := range h.projects {
		if h.misfits[p.Name] != nil {
			all = append(all, access.Project{Name: p.Name, Hosted: p.Hosted()})
		}
	}
	return all
}

// hostedConfig says the configuration in the words of the hosted registry, where zero means a
// default and less than zero never.
func hostedConfig(cfg Config, data *Data, log *slog.Logger) hosted.Config {
	every := cfg.Collect.Every
	if every == 0 {
		every = -1
	}
	return hosted.Config{
		Store: data.Store, Catalog: data.Catalog,
		MaxUpload: cfg.Uploads.Max, MaxProject: cfg.Uploads.MaxProject, MaxNode: cfg.Uploads.MaxNode,
		Idle: cfg.Uploads.Idle, Grace: cfg.Collect.Grace, Every: every, Log: log,
	}
}

// revealed is a configuration with the stored secrets that it names. Where one is missing, a
// project is nobody to its upstream: what is public there, and what is cached, is served.
func (h *House) revealed(ctx context.Context, cfg Config) Config {
	cfg.Projects = slices.Clone(cfg.Projects)
	for i := range cfg.Projects {
		p := &cfg.Projects[i]
		name := p.Remote.PasswordSecret
		if name == "" {
			continue
		}
		value, err := h.access.Secret(ctx, name)
		if errors.Is(err, registry.NameUnknown) {
			p.Remote.Password = "" // the one that was there before is forgotten
		}
		if err != nil {
			h.log.Error("no password for an upstream, it is asked without: store it with \"roadstead secret set\"", "project", p.Name, "secret", name, "err", err)
			continue
		}
		p.Remote.Password = Secret(value)
	}
	return cfg
}

// followEvery is how often the catalog is asked whether a command has changed projects or
// accounts: a question of microseconds, for whoever waits for his command to have an effect.
const followEvery = 2 * time.Second

// watch sends on changed when projects, accounts or secrets have changed since a generation.
func watch(ctx context.Context, db *catalog.DB, seen int64, changed chan<- struct{}, log *slog.Logger) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	troubled := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := db.Generation(ctx)
		if err != nil {
			if !troubled && !errors.Is(err, context.Canceled) {
				log.Warn("changes of projects are not seen", "err", err)
			}
			troubled = true
			continue
		}
		troubled = false
		if now == seen {
			continue
		}
		seen = now
		select {
		case changed <- struct{}{}:
		default: // the one that waits there is as good
		}
	}
}

// follow puts in force what the catalog says of projects, registries and secrets, if that has changed.
func (h *House) follow() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if h.missing.error() != nil {
		return h.become(ctx)
	}
	next, err := h.settled(ctx)
	if err == nil {
		err = h.heed(ctx)
	}
	if err == nil {
		err = h.estate.Follow(ctx)
	}
	if err == nil {
		cfg := h.revealed(ctx, h.cfg)
		if h.holding.equal(next) && slices.EqualFunc(cfg.Projects, h.cfg.Projects, func(a, b Project) bool { return a.Remote.Password == b.Remote.Password }) {
			h.remind(cfg.Storage, next)
			return nil // accounts have changed, which access sees by itself, or when to collect
		}
		err = h.enforce(cfg, next)
	}
	if err != nil {
		h.log.Error("changed projects are not in force", "err", err)
		return fmt.Errorf("put changed projects in force: %w", err)
	}
	h.log.Info("projects changed", "projects", len(next.projects), "registries", len(next.registries))
	return nil
}

// heed has the cache forget what it remembers when images were imported: tags may point elsewhere now, and
// be there that were not.
func (h *House) heed(ctx context.Context) error {
	n, err := imports(ctx, h.data.Catalog)
	if err != nil || n == h.imported {
		return err
	}
	h.cache.Gone([]catalog.Change{{Topic: catalog.Anything}})
	h.imported = n
	h.log.Info("images were imported")
	return nil
}

// settled is what the catalog says of projects and registries, with what the configuration declares if
// it is this node that sees to that.
func (h *House) settled(ctx context.Context) (holding, error) {
	if h.nodes.first() {
		// A project that is gone may make way for a built-in one again.
		next, err := settle(ctx, h.data.Catalog, h.cfg)
		if err == nil {
			return next, nil
		}
		// What is there is served beside what is declared nevertheless.
		h.log.Error("what the configuration declares is not written down", "err", err)
	}
	return readHolding(ctx, h.data.Catalog)
}

// putInForce is follow for whoever is not Run's goroutine. It returns when it is done.
func (h *House) putInForce(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case h.changes <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-done // soon: follow bounds itself
}

// enforce makes every room know the projects of a configuration and the hosted ones, without those
// that cannot be served. What can fail comes before what cannot.
func (h *House) enforce(cfg Config, next holding) error {
	all := cfg
	if h.missing.error() != nil && !next.recalled {
		cfg = cfg.declared(cfg.Storage.worked())
	}
	next = next.fit(cfg, h.password, h.upstreams.try)
	for _, name := range next.misfits.names() {
		h.log.Error("a project is left out", "project", name, "err", next.misfits[name].Message)
	}
	rows := next.beside(cfg)
	if hidden := slices.DeleteFunc(next.hosted(), func(p catalog.Project) bool { return !cfg.declaredProxy(p.Name) }); len(hidden) > 0 {
		h.log.Error("some hosted projects are not served, because the configuration has proxies of the same names", "count", len(hidden))
	}
	served, err := next.over(cfg, h.password)
	// Without its password a registry is asked by nobody; what is public there is served.
	switch {
	case errors.Is(err, catalog.ErrUnavailable):
		h.log.Error("registries are asked without a password before the catalog is there, which has the keys", "err", err)
	case err != nil:
		h.log.Error("a password is lost: set it again", "err", err)
	}
	table, err := newTable(served, rows)
	if err != nil {
		return err
	}
	connected, err := h.upstreams.connect(served.proxies())
	if err != nil {
		return err
	}
	if err := h.hosted.SetProjects(rows); err != nil {
		return fmt.Errorf("hosted projects: %w", err)
	}
	if err := h.cache.SetProjects(connected.cached(served.proxies())); err != nil {
		return err
	}
	// Rights before the table, and the table last: no name may lead to a project that a room does
	// not know, or to one of which it is not known who may what.
	h.access.SetProjects(append(accessProjects(served, rows), next.misfitProjects()...))
	h.table.Store(table)
	h.upstreams.replace(connected)
	h.networks.Store(&cfg.PrivateNetworks)
	h.cfg, h.served, h.holding = all, served, next
	public := slices.ContainsFunc(served.proxies(), func(p Project) bool { return p.Public })
	h.inForce.Store(&inForce{all, next, public})
	h.remember(cfg.Storage, next)
	return nil
}
