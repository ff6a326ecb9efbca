package server

import (
	"context"
	"encoding/json"
	"net/http"

	"roadstead/registry"
)

// tags answers GET and HEAD of …/tags/list (OCI distribution specification 1.1, "Listing
// Tags").
func (s *Server) tags(ctx context.Context, res *response, r *http.Request) error {
	p, err := pageOf(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if p.after != "" {
		if err := registry.CheckTag(p.after); err != nil {
			return invalid(registry.TagInvalid, text(err, registry.TagInvalid))
		}
	}
	list, err := s.config.Registry.Tags(ctx, res.repo, p.after, p.n+1)
	if err != nil {
		return err
	}
	name := res.target.name
	list, next := p.cut(list)
	if next != "" {
		res.Header()["Link"] = []string{p.link("/v2/"+name+"/tags/list", next, r.URL.RawQuery)}
	}
	return res.document("application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, list})
}

// catalog answers GET and HEAD of /v2/_catalog, which distribution has and the specification
// does not: all repositories, by pages as tags are.
func (s *Server) catalog(ctx context.Context, res *response, r *http.Request) error {
	if s.repositories == nil {
		return invalid(registry.NameUnknown, "this registry does not list its repositories")
	}
	p, err := pageOf(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if p.n == 0 {
		// Tags have a rule for it, this has not; distribution refuses it.
		return invalid(registry.PaginationInvalid, "n is not a number from 1")
	}
	if p.after != "" {
		if err := registry.CheckName(p.after); err != nil {
			return invalid(registry.NameInvalid, text(err, registry.NameInvalid))
		}
	}
	list, err := s.visible(ctx, res.principal, p.after, p.n+1)
	if err != nil {
		return err
	}
	list, next := p.cut(list)
	if next != "" {
		res.Header()["Link"] = []string{p.link("/v2/_catalog", next, "")}
	}
	return res.document("application/json", struct {
		Repositories []string `json:"repositories"`
	}{list})
}

// visible lists at most n repositories after one of them that p may pull from (FAULTS C6). What
// is left out is made up for, so that neither a short page nor a link tells of it; that takes
// looking at all of them in the worst case.
func (s *Server) visible(ctx context.Context, p registry.Principal, after string, n int) ([]string, error) {
	if s.config.Access == nil {
		return s.repositories(ctx, after, n)
	}
	var shown []string
	for ask := n; ; ask = registry.MaxPage {
		list, err := s.repositories(ctx, after, ask)
		if err != nil || len(list) == 0 {
			return shown, err
		}
		for _, name := range list {
			if s.config.Access.Authorize(p, registry.List, registry.Resource{Kind: registry.Repository, Repo: registry.SplitRepo(name)}) != nil {
				continue
			}
			if shown = append(shown, name); len(shown) == n {
				return shown, nil
			}
		}
		if len(list) < min(ask, registry.MaxPage) {
			return shown, nil
		}
		after = list[len(list)-1]
	}
}

// referrers answers GET and HEAD of …/referrers/<digest> (OCI distribution specification 1.1,
// "Listing Referrers"). A 404 would tell a client to try the fallback tag instead, so even a
// repository that is not known has an index with nothing in it.
func (s *Server) referrers(ctx context.Context, res *response, r *http.Request) error {
	artifactType, _ := param(r.URL.RawQuery, "artifactType")
	list, err := s.config.Registry.Referrers(ctx, res.repo, res.target.digest, artifactType)
	if err != nil && !registry.Unknown(err) {
		return err
	}
	if list == nil {
		list = []registry.Descriptor{}
	}
	if artifactType != "" {
		res.Header()["Oci-Filters-Applied"] = filtered
	}
	return res.document(registry.MediaTypeOCIIndex, struct {
		SchemaVersion int                   `json:"schemaVersion"`
		MediaType     string                `json:"mediaType"`
		Manifests     []registry.Descriptor `json:"manifests"`
	}{2, registry.MediaTypeOCIIndex, list})
}

// document answers with v as JSON.
func (res *response) document(mediaType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return res.json(mediaType, body)
}
