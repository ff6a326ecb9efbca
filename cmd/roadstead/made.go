package main

import (
	"context"
	"slices"
	"time"

	"roadstead/registry/estate"
	"roadstead/registry/upstream"
	"roadstead/storage/catalog"
)

// madeProxy is a proxy that somebody has made, in the words of the configuration.
func madeProxy(row catalog.Project, r catalog.Registry, password Secret) Project {
	p := newProject(row.Name)
	p.Public = row.Public
	p.Hub = r.Kind == estate.DockerHub
	p.Names = []string{p.Name}
	p.Remote = Remote{
		Endpoints: endpointsOf(r), Prefix: row.Policy.Prefix,
		Username: r.Username, Password: password,
		CA: r.CA, Insecure: r.Insecure, AllowPrivate: r.AllowPrivate,
	}
	if password == "" {
		p.Remote.Username = "" // without it, it is nobody: what is public there is served
	}
	for _, set := range []struct {
		from *time.Duration
		to   *time.Duration
	}{{row.Policy.TTL, &p.TTL}, {row.Policy.StaleFor, &p.StaleFor}, {row.Policy.Keep, &p.Keep}} {
		if set.from != nil {
			*set.to = *set.from
		}
	}
	p.Allow, p.Deny, p.Pin, p.KeepGone = row.Policy.Allow, row.Policy.Deny, row.Policy.Pin, row.Policy.KeepGone
	if row.Policy.Cooldown != nil {
		p.Cooldown = *row.Policy.Cooldown
	}
	p.CooldownNew = row.Policy.CooldownNew
	if v := row.Policy.Verify; v != nil {
		p.Verify = Verify{Mode: v.Mode}
		for _, text := range v.Keys {
			p.Verify.Keys = append(p.Verify.Keys, VerifyKey{Text: text})
		}
	}
	return p
}

// pingRegistry asks a registry whether it is one.
func (h *House) pingRegistry(ctx context.Context, r catalog.Registry, password string) error {
	p := madeProxy(catalog.Project{Name: r.Name}, r, Secret(password))
	if networks := h.networks.Load(); networks != nil {
		p.Remote.Networks = *networks
	}
	if now := h.inForce.Load(); now != nil {
		p.Remote.Offline = now.cfg.Offline
	}
	u, err := upstream.New(upstreamConfig(p))
	if err != nil {
		return err
	}
	defer u.Close()
	return u.Ping(ctx)
}

// endpointsOf are the base URLs to ask for a registry. Those of a built-in project that begins with
// the same one are known to be one registry, one a mirror of what is missing at the other.
func endpointsOf(r catalog.Registry) []string {
	url := estate.BaseURL(r)
	for _, b := range builtin {
		if b.endpoints[0] == url {
			return slices.Clone(b.endpoints)
		}
	}
	return []string{url}
}

// kindOf is the kind of registry that a declared proxy is a cache of, in Harbor's words.
func kindOf(p Project) string {
	if p.Hub {
		return estate.DockerHub
	}
	if len(p.Remote.Endpoints) == 0 {
		return estate.DockerRegistry
	}
	return estate.KindOf(p.Remote.Endpoints[0])
}

// password opens the password of a registry.
func (h *House) password(r catalog.Registry) (Secret, error) {
	if r.Password == "" {
		return "", nil
	}
	password, err := h.access.Unseal(estate.SecretOf(r.ID), r.Password)
	return Secret(password), err
}
