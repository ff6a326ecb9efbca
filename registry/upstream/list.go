package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"roadstead/registry"
)

// Bounds of a list over all its pages (A7). The largest public repositories have some ten
// thousand tags, on pages of a hundred.
const (
	maxPages   = 1000
	maxListing = 32 << 20 // bytes
)

// Tags follows upstream's pages until n tags are there. What upstream does not sort, or does
// not begin after "after", is listed whole and sorted here.
func (r *Registry) Tags(ctx context.Context, repo registry.Repo, after string, n int) ([]string, error) {
	if n == 0 {
		return []string{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	var tags []string
	err := r.each(ctx, 0, func(ctx context.Context, t turn) (err error) {
		tags, err = t.tags(ctx, r.at(repo), after, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", repo, err)
	}
	return tags, nil
}

// Referrers asks the referrers API and, where there is none, the fallback tag (OCI
// distribution specification 1.1, "Referrers Tag Schema").
func (r *Registry) Referrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	var list []registry.Descriptor
	err := r.each(ctx, 0, func(ctx context.Context, t turn) (err error) {
		list, err = t.referrers(ctx, r.at(repo), d, artifactType)
		return err
	})
	switch {
	case registry.Unknown(err):
		return []registry.Descriptor{}, nil
	case err != nil:
		return nil, fmt.Errorf("referrers of %s@%s: %w", repo, d, err)
	}
	return list, nil
}

func (t turn) tags(ctx context.Context, name, after string, n int) ([]string, error) {
	// Most lists fit into one page, and a whole list can be sorted whatever order it came in.
	most := registry.MaxPage
	if n < 0 {
		most = -1
	}
	tags, whole, err := t.tagsFrom(ctx, name, "", most)
	if err != nil {
		return nil, err
	}
	if !whole {
		if tags, err = t.tagsOfMany(ctx, name, after, n, slices.IsSorted(tags)); err != nil {
			return nil, err
		}
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	from, found := slices.BinarySearch(tags, after)
	if found {
		from++
	}
	tags = tags[from:]
	if n >= 0 && len(tags) > n {
		tags = tags[:n]
	}
	return tags, nil
}

// tagsOfMany reads a list of more than a page. If upstream seems to count as we do, in byte
// order and after the tag that is named, the part that is asked for is enough; else only the
// whole can be sorted.
func (t turn) tagsOfMany(ctx context.Context, name, after string, n int, sorted bool) ([]string, error) {
	if sorted {
		tags, _, err := t.tagsFrom(ctx, name, after, max(n, registry.MaxPage))
		if err != nil || slices.IsSorted(tags) && (len(tags) == 0 || tags[0] > after) {
			return tags, err
		}
	}
	tags, _, err := t.tagsFrom(ctx, name, "", -1)
	return tags, err
}

// tagsFrom follows pages until there are n tags (all of them when it is negative). whole says
// that the list was read from its beginning to its end.
func (t turn) tagsFrom(ctx context.Context, name, after string, n int) (tags []string, whole bool, err error) {
	query := url.Values{"n": {strconv.Itoa(registry.MaxPage)}}
	if after != "" {
		query.Set("last", after)
	}
	tags = []string{}
	q := question{method: http.MethodGet, path: name + "/tags/list", query: query.Encode(), repo: name, unknown: registry.NameUnknown}
	more, err := t.pages(ctx, q, func(_ http.Header, body []byte) (bool, error) {
		page, err := parseTags(body)
		if err != nil {
			return false, t.r.unexpected("a list of tags", err)
		}
		for _, tag := range page {
			if registry.CheckTag(tag) == nil { // else nobody could ask for it (A5)
				tags = append(tags, tag)
			}
		}
		return n < 0 || len(tags) < n, nil
	})
	return tags, !more && after == "", err
}

// parseTags reads a page. A repository without tags may have null for a list, but an object
// that has none is something else.
func parseTags(body []byte) ([]string, error) {
	var page struct{ Tags json.RawMessage }
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, err
	}
	if page.Tags == nil {
		return nil, errors.New("there is no list in it")
	}
	var tags []string
	err := json.Unmarshal(page.Tags, &tags)
	return tags, err
}

// pages asks for the pages of a list, one after the other, until f does not want more or
// there are none. more says that there are.
func (t turn) pages(ctx context.Context, q question, f func(h http.Header, body []byte) (bool, error)) (more bool, err error) {
	total := int64(0)
	for range maxPages {
		res, err := t.ask(ctx, q)
		if err != nil {
			return false, err
		}
		body, err := t.r.read(res, registry.MaxManifest, "a page of a list")
		res.Body.Close()
		if err != nil {
			return false, err
		}
		if total += int64(len(body)); total > maxListing {
			break
		}
		want, err := f(res.Header, body)
		if err != nil {
			return false, err
		}
		next, err := t.nextPage(res)
		if err != nil || next == nil || !want {
			return next != nil, err
		}
		q.url = next
	}
	return false, t.r.unexpected("a list", errors.New("it does not end"))
}

// nextPage is where the next page is: on the host that the last one came from, or we do not
// go there (A1). Nil when there is none.
func (t turn) nextPage(res *http.Response) (*url.URL, error) {
	target := nextLink(res.Header.Values("Link"))
	if target == "" {
		return nil, nil
	}
	at := res.Request.URL
	next, err := at.Parse(target)
	if err != nil || next.User != nil {
		return nil, t.r.unexpected("a page of a list", fmt.Errorf("%s: the link to the next page is not a URL", at.Host))
	}
	if originOf(next) != originOf(at) {
		return nil, t.r.forbidden("continues a list on another host", fmt.Errorf("%s: the next page is on %s", at.Host, registry.Clip(next.Host)))
	}
	next.Fragment = ""
	return next, nil
}

func (t turn) referrers(ctx context.Context, name string, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	q := question{
		method: http.MethodGet, path: name + "/referrers/" + d.String(), accept: []string{registry.MediaTypeOCIIndex},
		repo: name, unknown: registry.ManifestUnknown,
	}
	if artifactType != "" {
		q.query = url.Values{"artifactType": {artifactType}}.Encode()
	}
	list := []registry.Descriptor{}
	_, err := t.pages(ctx, q, func(h http.Header, body []byte) (bool, error) {
		var page struct{ Manifests *[]registry.Descriptor }
		if err := json.Unmarshal(body, &page); err != nil {
			return false, t.r.unexpected("a list of referrers", err)
		}
		if page.Manifests == nil {
			return false, t.r.unexpected("a list of referrers", errors.New("there is no list in it"))
		}
		only := artifactType
		if filtered(h) {
			only = "" // upstream may know types that its descriptors leave out
		}
		list = appendReferrers(list, *page.Manifests, only)
		return true, nil
	})
	if found, ok := errors.AsType[*trouble](err); ok && absent(found.status) {
		return t.fallback(ctx, name, d, artifactType)
	}
	return list, err
}

// absent says whether an answer means that there is no referrers API. Some registries take
// the path for something malformed.
func absent(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// fallback reads the index that clients keep under a tag where there is no referrers API. The
// tag is cut to what a tag may be.
func (t turn) fallback(ctx context.Context, name string, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	const longest = 64
	hex := d.Encoded()
	tag := d.Algorithm().String() + "-" + hex[:min(len(hex), longest)]
	_, refs, err := t.manifest(ctx, name, tag, "")
	if err != nil {
		return nil, err
	}
	return appendReferrers([]registry.Descriptor{}, refs.Manifests, artifactType), nil
}

// filtered says whether upstream has applied the filter by artifact type.
func filtered(h http.Header) bool {
	for _, field := range h.Values("OCI-Filters-Applied") {
		for name := range strings.SplitSeq(field, ",") {
			if strings.TrimSpace(name) == "artifactType" {
				return true
			}
		}
	}
	return false
}

// appendReferrers keeps what is well formed and of the type, unless that is empty.
func appendReferrers(list, from []registry.Descriptor, artifactType string) []registry.Descriptor {
	for _, desc := range from {
		if _, err := registry.ParseDigest(desc.Digest.String()); err != nil || desc.Size < 0 {
			continue // nobody could ask for it (A5)
		}
		if artifactType == "" || desc.ArtifactType == artifactType {
			list = append(list, desc)
		}
	}
	return list
}
