package estate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/rewrite"
	"roadstead/rewrite/registries"
	"roadstead/storage/catalog"
)

// Explainer says what becomes of an image: what clients ask which endpoint for, and what this server
// makes of what it is asked. It asks nobody.
type Explainer struct {
	Table   *rewrite.Table
	Catalog *catalog.DB  // nil: nothing is known of what is here
	Cache   *cache.Cache // nil: nor of the rules and ages of proxies

	// Read is as in Config. Nil: nothing is looked at in the store.
	Read func(ctx context.Context, d registry.Digest, most int64) ([]byte, error)

	// Hosted reports whether a project is pushed to.
	Hosted func(project string) bool

	// Upstream are the URLs of a manifest at the registries that a proxy asks, in their order.
	Upstream func(repo registry.Repo, reference string) []string

	// Down reports whether none of those answers. Nil: it is not known.
	Down func(project string) bool

	// Offline: none of those is ever asked.
	Offline bool

	// May says why whoever asks may not pull from a repository, or nil. Nil: they may look at all.
	May func(registry.Repo) error

	// Self are the hosts by which clients know this server. None: each endpoint is taken for it that is
	// none of the registries cached here.
	Self []string

	// URL is this server as a client would write it: "https://mirror.example.com". "": nobody knows, and
	// where one is written nevertheless, it is http with Plain.
	URL   string
	Plain bool
}

// Explanation is what becomes of an image.
type Explanation struct {
	Image string `json:"image"` // its full name
	Ways  []Way  `json:"ways"`
}

// Way is that of one client. Without a registries.yaml the clients are "direct", which has the server
// in the image's name, and "ns", which has it as the mirror of everything.
type Way struct {
	registries.Way
	Steps []Step `json:"steps"`
}

// Step is an endpoint.
type Step struct {
	registries.Step
	Self     bool      `json:"self"` // it is this server
	Outcomes []Outcome `json:"outcomes"`
}

// Probed reports whether somebody has asked the endpoint.
func (s Step) Probed() bool {
	return slices.ContainsFunc(s.Outcomes, func(o Outcome) bool { return len(o.Probes) > 0 })
}

// Outcome is what the endpoint may be asked for.
type Outcome struct {
	registries.Outcome
	Here   *Here    `json:"here,omitempty"`   // what this server makes of it, if it is the endpoint
	Probes []Answer `json:"probes,omitempty"` // what it really answers, if somebody has asked
}

// Answer is that of an endpoint to one request.
type Answer struct {
	registries.Request
	Status  int               `json:"status,omitempty"` // 0: there was none
	Error   string            `json:"error,omitempty"`
	Took    float64           `json:"took_seconds"`
	Token   string            `json:"token,omitempty"` // how the token was come by, or why not; "": none was needed
	Headers map[string]string `json:"headers,omitempty"`
}

// The states of what is asked for.
const (
	Fresh  = "fresh"  // it is here, and upstream is not asked
	Stale  = "stale"  // it is here, and upstream is asked whether it still is what it was
	Gone   = "gone"   // upstream has said that there is no such tag
	Absent = "absent" // it is not here
	Pushed = "pushed" // it is here, and it has no upstream
)

// Here is what this server makes of a request for a manifest.
type Here struct {
	Clause     rewrite.Clause  `json:"clause"` // how the project was found
	Project    string          `json:"project,omitempty"`
	Repository string          `json:"repository,omitempty"` // below the project
	Hosted     bool            `json:"hosted"`
	Refused    string          `json:"refused,omitempty"` // why nothing is served
	State      string          `json:"state,omitempty"`
	Digest     registry.Digest `json:"digest,omitempty"`
	MediaType  string          `json:"media_type,omitempty"`
	CheckedAt  *time.Time      `json:"check_time,omitempty"` // when upstream last answered for the tag
	Age        int64           `json:"age_seconds,omitempty"`
	TTL        int64           `json:"ttl_seconds,omitempty"`       // a tag of a proxy is fresh so long; 0 where it is so for ever, as nobody is asked
	StaleFor   int64           `json:"stale_for_seconds,omitempty"` // and served so long while upstream does not answer; 0: without end
	Pinned     bool            `json:"pinned,omitempty"`
	Stored     bool            `json:"stored"` // the bytes of the manifest are here
	Parts      int             `json:"parts"`  // manifests, configuration and layers that it is made of
	PartsHere  int             `json:"parts_here"`
	Asks       bool            `json:"asks"`               // a pull asks upstream
	Upstream   []string        `json:"upstream,omitempty"` // where, one after the other
	Down       bool            `json:"down,omitempty"`     // none of them answers now
	Offline    bool            `json:"offline,omitempty"`  // none of them is ever asked: what is here is served, however old, and what is not is a 503
	Policy     *HerePolicy     `json:"policy,omitempty"`   // nil: the project asks for no signature and holds no tags
}

// HerePolicy is what a project's rules on signatures and on tags that move mean for an image.
type HerePolicy struct {
	Verify   string          `json:"verify,omitempty"` // warn or enforce; "": signatures are not asked for
	Verified bool            `json:"verified"`
	By       string          `json:"by,omitempty"`               // the ID of the key; "override" or "accessory" where it is no key
	Why      string          `json:"why,omitempty"`              // why it is not verified, or was let through
	Cooldown int64           `json:"cooldown_seconds,omitempty"` // after so long a tag follows upstream
	Held     registry.Digest `json:"held,omitempty"`             // what it points to there and not here yet
	Until    *time.Time      `json:"held_until,omitempty"`       // when it follows; nil: at the next check, which an offline server never makes
}

// Explain says what becomes of an image. f may be nil.
func (x Explainer) Explain(ctx context.Context, image rewrite.Image, f *registries.File) (Explanation, error) {
	all := Explanation{Image: image.String()}
	if f == nil {
		all.Ways = x.plain(image)
	} else {
		for _, client := range registries.Clients {
			way := registries.Steps(f, image, client)
			w := Way{Way: way, Steps: []Step{}}
			for _, s := range way.Steps {
				w.Steps = append(w.Steps, x.step(image, s))
			}
			all.Ways = append(all.Ways, w)
		}
	}
	return all, x.Look(ctx, image, all)
}

// Look has each Here of an explanation of the image be what it is now.
func (x Explainer) Look(ctx context.Context, image rewrite.Image, e Explanation) error {
	for _, w := range e.Ways {
		for _, s := range w.Steps {
			for i := range s.Outcomes {
				if !s.Self {
					continue
				}
				here, err := x.here(ctx, s.Outcomes[i].Requests, s.NS, image)
				if err != nil {
					return err
				}
				s.Outcomes[i].Here = &here
			}
		}
	}
	return nil
}

func (x Explainer) step(image rewrite.Image, s registries.Step) Step {
	one := Step{Step: s}
	if u, err := url.Parse(s.Endpoint); err == nil {
		one.Self = registries.House{Table: x.Table, Self: x.Self}.Is(u.Host, image.Host)
	}
	for _, o := range s.Outcomes {
		one.Outcomes = append(one.Outcomes, Outcome{Outcome: o})
	}
	return one
}

// Scheme is what the URL of a server begins with, which has no certificate when it is plain.
func Scheme(plain bool) string {
	if plain {
		return "http://"
	}
	return "https://"
}

// plain are the two ways to an image that need no registries.yaml.
func (x Explainer) plain(image rewrite.Image) []Way {
	self := cmp.Or(x.URL, Scheme(x.Plain)+"<this-server>")
	way := func(client, name, ns string) Way {
		at := func(kind, reference string) string {
			text := self + "/v2/" + name + "/" + kind + "/" + reference
			if ns != "" {
				text += "?ns=" + url.QueryEscape(ns)
			}
			return text
		}
		o := Outcome{Outcome: registries.Outcome{Repository: name, Scope: name, Requests: []registries.Request{{Kind: "tag", Method: "HEAD", URL: at("manifests", image.Reference())}}}}
		return Way{Way: registries.Way{Client: registries.Client(client)}, Steps: []Step{{
			Step: registries.Step{Endpoint: self + "/v2", NS: ns}, Self: true, Outcomes: []Outcome{o},
		}}}
	}
	all := []Way{}
	if place, err := x.Table.Place(image, x.Self...); err == nil && (x.May == nil || x.May(place) == nil) {
		all = append(all, way("direct", place.String(), ""))
	}
	if !slices.Contains(x.Self, image.Host) {
		all = append(all, way("ns", image.Name, image.Host))
	}
	return all
}

// here follows a request to what it is about.
func (x Explainer) here(ctx context.Context, requests []registries.Request, ns string, image rewrite.Image) (Here, error) {
	host, path := manifestAt(requests)
	name, _, _ := registries.House{Table: x.Table}.Locate(path)
	h := Here{Clause: x.Table.Clause(host, ns, name)}
	repo, err := x.Table.Route(host, ns, name)
	if err != nil {
		// What is wrong with the name tells that the project is there.
		project := x.Table.Project(host, ns, name)
		if x.May != nil && (project == "" || x.May(registry.Repo{Project: project, Name: "any"}) != nil) {
			return hidden, nil
		}
		h.Refused = message(err)
		return h, nil
	}
	if x.May != nil {
		if err := x.May(repo); err != nil {
			return hidden, nil
		}
	}
	h.Project, h.Repository, h.Hosted = repo.Project, repo.Name, x.Hosted(repo.Project)
	if h.Hosted {
		err = x.pushed(ctx, &h, repo, image)
	} else {
		err = x.cached(ctx, &h, repo, image)
	}
	return h, err
}

// hidden is all that is said of a project to whoever may not pull from it, and of one that is not there
// too: the answer must not tell which of both it is (FAULTS C19).
var hidden = Here{Refused: "no project here has it, or it is one that you may not pull from"}

// manifestAt is the path, up to the repository, of the request for the manifest.
func manifestAt(requests []registries.Request) (host, path string) {
	for _, r := range requests {
		if r.Kind != "tag" {
			continue
		}
		host, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL, "https://"), "http://"), "/")
		rest, _, _ = strings.Cut(rest, "?")
		if i := strings.LastIndex(rest, "/manifests/"); i >= 0 {
			return host, "/" + rest[:i]
		}
	}
	return "", ""
}

// message is what an error says to people.
func message(err error) string {
	if fault, ok := errors.AsType[*registry.Fault](err); ok && fault.Message != "" {
		return fault.Message
	}
	return err.Error()
}

// cached looks at a proxy.
func (x Explainer) cached(ctx context.Context, h *Here, repo registry.Repo, image rewrite.Image) error {
	h.Upstream, h.State, h.Offline = x.Upstream(repo, image.Reference()), Absent, x.Offline
	h.Asks, h.Down = !h.Offline, !h.Offline && x.Down != nil && x.Down(repo.Project)
	if x.Cache == nil {
		return nil
	}
	ttl, staleFor, _ := x.Cache.Ages(repo.Project)
	switch err := x.Cache.Permit(ctx, repo, image.Tag, image.Digest); {
	case errors.Is(err, registry.Denied):
		h.Refused, h.State, h.Asks = message(err), "", false
		return nil
	case errors.Is(err, registry.NameUnknown):
		return nil // it has gone, between two looks
	case err != nil:
		return err
	}
	h.Digest = image.Digest
	if image.Digest == "" {
		f, err := x.Cache.Freshness(ctx, repo, image.Tag)
		if registry.Unknown(err) {
			return x.policy(ctx, h, repo, image.Tag) // it may be held all the same
		}
		if err != nil {
			return err
		}
		h.Digest, h.MediaType, h.CheckedAt, h.Pinned = f.Digest, f.MediaType, &f.CheckedAt, x.Cache.Pinned(repo, image.Tag)
		h.Age = int64(time.Since(f.CheckedAt).Seconds())
		if !h.Offline {
			h.TTL, h.StaleFor = int64(ttl.Seconds()), int64(staleFor.Seconds())
		}
		switch {
		case f.Gone:
			h.State, h.Asks = Gone, f.Stale && !h.Offline
		case f.Stale:
			h.State = Stale
		default:
			h.State, h.Asks = Fresh, false
		}
	}
	if err := x.content(ctx, h, repo); err != nil {
		return err
	}
	if err := x.policy(ctx, h, repo, image.Reference()); err != nil {
		return err
	}
	switch {
	case image.Digest != "" && h.Stored:
		h.State, h.Asks = Fresh, false // what a digest stands for never changes
	case h.State == Fresh && !h.Stored:
		h.Asks = !h.Offline // for the manifest, by its digest
	}
	return nil
}

// policy looks at what the rules of a proxy mean for an image.
func (x Explainer) policy(ctx context.Context, h *Here, repo registry.Repo, reference string) error {
	p, err := x.Cache.Explain(ctx, repo, reference)
	if err != nil {
		return err
	}
	if p.Mode == "" && p.Cooldown == 0 {
		return nil
	}
	h.Policy = &HerePolicy{Verify: p.Mode, Verified: p.Verified, By: p.By, Why: p.Why, Cooldown: int64(p.Cooldown.Seconds())}
	if p.Held != nil {
		h.Policy.Held = p.Held.Digest
		if !h.Offline && !p.Held.Released && time.Now().Before(p.Held.Until) {
			h.Policy.Until = &p.Held.Until
			if p.Digest == "" {
				h.Refused = fmt.Sprintf("it leads to nothing here, and to where upstream has it not before %s, or when it is released", p.Held.Until.UTC().Format(time.RFC3339))
			}
		}
	}
	return nil
}

// pushed looks at a hosted project.
func (x Explainer) pushed(ctx context.Context, h *Here, repo registry.Repo, image rewrite.Image) error {
	h.State, h.Digest = Absent, image.Digest
	if x.Catalog == nil {
		return nil
	}
	if image.Digest == "" {
		t, err := x.Catalog.Tag(ctx, repo, image.Tag)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && t.Gone {
			return nil
		}
		if err != nil {
			return err
		}
		h.Digest, h.MediaType = t.Digest, t.MediaType
	}
	if err := x.content(ctx, h, repo); err != nil {
		return err
	}
	if h.Stored {
		h.State = Pushed
	}
	return nil
}

// mostParts bounds what is looked at of one manifest.
const mostParts = 200

// content looks for the bytes of a manifest, and of what it is made of.
func (x Explainer) content(ctx context.Context, h *Here, repo registry.Repo) error {
	if x.Catalog == nil || h.Digest == "" {
		return nil
	}
	text, err := x.manifest(ctx, h, repo)
	if err != nil || !h.Stored || text == nil {
		return err
	}
	_, refs, err := registry.ParseManifest(h.MediaType, h.Digest, text)
	if err != nil {
		return nil // it is what it is, and is served so
	}
	parts := slices.Concat(refs.Manifests, refs.Layers)
	if refs.Config != nil {
		parts = append(parts, *refs.Config)
	}
	for _, part := range parts[:min(len(parts), mostParts)] {
		h.Parts++
		if found, err := x.Catalog.Find(ctx, repo, part.Digest); err != nil {
			return err
		} else if found.Stored && found.Linked {
			h.PartsHere++
		}
	}
	return nil
}

// manifest looks for the bytes of a manifest, which may be in memory and on their way into the store. nil
// without an error: it is not here, or nobody has looked.
func (x Explainer) manifest(ctx context.Context, h *Here, repo registry.Repo) ([]byte, error) {
	if x.Cache != nil && !h.Hosted {
		if m, ok := x.Cache.Remembered(repo, h.Digest); ok {
			h.Stored, h.MediaType = true, m.MediaType
			return m.Bytes, nil
		}
	}
	found, err := x.Catalog.Find(ctx, repo, h.Digest)
	if err != nil || !found.Linked || !found.Stored {
		return nil, err
	}
	h.MediaType, h.Stored = cmp.Or(h.MediaType, found.MediaType), true
	if x.Read == nil {
		return nil, nil
	}
	text, err := x.Read(ctx, h.Digest, registry.MaxManifest)
	h.Stored = err == nil // else the catalog believes it, and the store has it not
	return text, nil
}
