package main

import (
	"fmt"
	"path"
	"reflect"
	"strings"
	"sync"
	"time"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/peer"
	"roadstead/registry/upstream"
)

// upstreams are the connections to the projects' registries. One stays as long as its settings
// do, with its tokens, its circuits and its figures, through any number of reloads.
type upstreams struct {
	cluster *peer.Cluster // asked before them; nil: there is none

	mu      sync.Mutex
	current connections
}

// connections are kept by project.
type connections map[string]connection

type connection struct {
	remote   Remote
	registry *upstream.Registry
	asked    registry.Reader // that, or what is in front of it
}

// connect returns the connections that projects need: the current ones as far as they fit,
// new ones else. It changes nothing.
func (u *upstreams) connect(projects []Project) (connections, error) {
	u.mu.Lock()
	current := u.current
	u.mu.Unlock()
	next := connections{}
	for _, p := range projects {
		c, ok := current[p.Name]
		if !ok || !c.fits(p) {
			r, err := upstream.New(upstreamConfig(p))
			if err != nil {
				return nil, fmt.Errorf("project %s: %w", p.Name, err)
			}
			c = connection{p.Remote, r, r}
			if u.cluster != nil {
				c.asked = u.cluster.Over(r)
			}
		}
		next[p.Name] = c
	}
	return next, nil
}

// fits reports whether a project can go on with a connection.
func (c connection) fits(p Project) bool { return reflect.DeepEqual(c.remote, p.Remote) }

// replace puts other connections in place of the current ones, and lets go of those that are
// not among them. Requests under way on those go on, and so do blobs that are open.
func (u *upstreams) replace(next connections) {
	u.mu.Lock()
	old := u.current
	u.current = next
	u.mu.Unlock()
	for name, c := range old {
		if next[name].registry != c.registry {
			c.registry.Close()
		}
	}
}

// Close closes all of them.
func (u *upstreams) Close() { u.replace(nil) }

// Stats returns the figures of the current ones, by project.
func (u *upstreams) Stats() map[string]upstream.Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := map[string]upstream.Stats{}
	for name, c := range u.current {
		all[name] = c.registry.Stats()
	}
	return all
}

// urls are where a proxy asks for a manifest, in the order in which it does.
func (u *upstreams) urls(repo registry.Repo, reference string) []string {
	u.mu.Lock()
	remote := u.current[repo.Project].remote
	u.mu.Unlock()
	var all []string
	for _, endpoint := range remote.Endpoints {
		all = append(all, strings.TrimSuffix(endpoint, "/")+"/v2/"+path.Join(strings.Trim(remote.Prefix, "/"), repo.Name)+"/manifests/"+reference)
	}
	return all
}

func upstreamConfig(p Project) upstream.Config {
	if p.Remote.PasswordSecret != "" && p.Remote.Password == "" {
		p.Remote.Username = "" // without what the secret holds it is nobody
	}
	return upstream.Config{
		Name:      p.Name,
		Endpoints: p.Remote.Endpoints,
		Prefix:    p.Remote.Prefix,
		Credentials: upstream.Credentials{
			Username:     p.Remote.Username,
			Password:     string(p.Remote.Password),
			PasswordFile: p.Remote.PasswordFile,
			Helper:       p.Remote.CredentialHelper,
		},
		AuthHosts:       p.Remote.AuthHosts,
		AllowPrivate:    p.Remote.AllowPrivate,
		PrivateNetworks: p.Remote.Networks,
		Proxy:           string(p.Remote.Proxy),
		CAFile:          p.Remote.CAFile,
		CA:              p.Remote.CA,
		CertificateFile: p.Remote.ClientCertificate,
		KeyFile:         p.Remote.ClientKey,
		Insecure:        p.Remote.Insecure,
		Offline:         p.Remote.Offline,
		UserAgent:       "roadstead/" + thisBuild().Version,
	}
}

// cached stacks the cache's side of projects on their connections. It says their policies in
// the words of the cache, where zero means a default and less than zero means none.
func (c connections) cached(projects []Project) []cache.Project {
	var all []cache.Project
	for _, p := range projects {
		all = append(all, cacheProject(p, c[p.Name].asked))
	}
	return all
}

// forGood is how long content stays that could not be had again: a server that is offline evicts nothing.
const forGood = 100 * 365 * 24 * time.Hour

func cacheProject(p Project, r registry.Reader) cache.Project {
	none := func(d time.Duration) time.Duration {
		if d == 0 {
			return -1
		}
		return d
	}
	keep := p.Keep
	if p.Remote.Offline {
		keep = forGood
	}
	return cache.Project{
		Name: p.Name, Upstream: r, Offline: p.Remote.Offline,
		TTL: none(p.TTL), Negative: none(p.Negative), Keep: none(keep),
		StaleFor: p.StaleFor, // zero is without end in both
		Allow:    p.Allow, Deny: p.Deny, Pin: p.Pin,
		Private:  !p.Public,
		Cooldown: p.Cooldown, CooldownNew: p.CooldownNew, Verify: p.Verify.policy(),
		KeepGone: p.KeepGone, DenyWithUpstream: p.DenyWithUpstream,
	}
}
