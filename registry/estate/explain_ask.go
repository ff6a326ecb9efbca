package estate

import (
	"context"

	"roadstead/registry"
	"roadstead/rewrite"
	"roadstead/rewrite/registries"
)

// Question is what somebody wants explained.
type Question struct {
	Image      string
	Registries string   // a registries.yaml; "": none
	NoDefault  bool     // the nodes have disable-default-registry-endpoint
	Self       []string // hosts by which clients know this server
	URL        string   // one of them, with its scheme
}

// What is explained to people with a browser is bounded: each rule is tried at each endpoint.
const (
	mostRewrites  = 50
	mostEndpoints = 10
)

// Explain says what becomes of an image, as far as somebody may know: of what they may not pull from
// they are told what a pull is told.
func (e *Estate) Explain(ctx context.Context, p registry.Principal, q Question) (Explanation, error) {
	image, err := rewrite.ParseImage(q.Image)
	if err != nil {
		return Explanation{}, Wrong("image", "image.wrong", "%q is not the name of an image, such as docker.io/library/busybox:1.36", registry.Clip(q.Image))
	}
	var f *registries.File
	if q.Registries != "" {
		if f, err = registries.Parse([]byte(q.Registries)); err != nil {
			return Explanation{}, Wrong("registries", "registries.wrong", "the registries.yaml cannot be read: line %d of it is no YAML", registries.Line(err))
		}
		for _, m := range f.Mirrors {
			if len(m.Rewrites) > mostRewrites || len(m.Endpoints) > mostEndpoints {
				return Explanation{}, Wrong("registries", "registries.large", "the mirror of %s has more than %d rewrites or %d endpoints", registry.Clip(m.Host), mostRewrites, mostEndpoints)
			}
		}
		f.NoDefault = q.NoDefault
	}
	x := Explainer{
		Table: e.config.Table(), Catalog: e.catalog, Cache: e.config.Cache, Read: e.config.Read, Upstream: e.config.Upstream, Down: e.config.Down, Offline: e.config.Offline != nil && e.config.Offline(), Self: q.Self, URL: q.URL,
		May: func(repo registry.Repo) error {
			return e.access.Authorize(p, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: repo})
		},
	}
	rows, err := e.catalog.AllProjects(ctx)
	if err != nil {
		return Explanation{}, err
	}
	hosted := map[string]bool{}
	for _, row := range rows {
		hosted[row.Name] = row.Hosted()
	}
	x.Hosted = func(project string) bool { return hosted[project] }
	return x.Explain(ctx, image, f)
}
