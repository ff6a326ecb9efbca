package cache

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"roadstead/registry"
)

// rules decide what a project serves and what it keeps.
type rules struct {
	allow, deny, pin []pattern
}

// pattern is a glob on a repository and one on its tags.
type pattern struct {
	repo, tag string // tag is empty when the pattern says nothing of tags
}

func newRules(p Project) (rules, error) {
	var r rules
	for _, list := range []struct {
		name  string
		globs []string
		into  *[]pattern
	}{{"allow", p.Allow, &r.allow}, {"deny", p.Deny, &r.deny}, {"pin", p.Pin, &r.pin}} {
		for _, glob := range list.globs {
			parsed, err := parsePattern(glob)
			if err != nil {
				return rules{}, fmt.Errorf("%s: %w", list.name, err)
			}
			*list.into = append(*list.into, parsed)
		}
	}
	return r, nil
}

// CheckPattern says whether a glob of Allow, Deny or Pin is well formed.
func CheckPattern(glob string) error {
	_, err := parsePattern(glob)
	return err
}

func parsePattern(glob string) (pattern, error) {
	repo, tag, tagged := strings.Cut(glob, ":")
	if repo == "" || tagged && tag == "" || !doublestar.ValidatePattern(repo) || !doublestar.ValidatePattern(tag) {
		return pattern{}, fmt.Errorf("%q is not a pattern: write repository or repository:tag with * for a part of a component and ** for any number of them, such as library/* or rancher/**:v1.*", glob)
	}
	return pattern{repo, tag}, nil
}

func (p pattern) matches(repo, tag string) bool {
	return p.matchesRepo(repo) && (p.tag == "" || doublestar.MatchUnvalidated(p.tag, tag))
}

func (p pattern) matchesRepo(repo string) bool {
	return doublestar.MatchUnvalidated(p.repo, repo)
}

// permitTag says whether a tag may be served.
func (r rules) permitTag(repo registry.Repo, tag string) error {
	for _, p := range r.deny {
		if p.matches(repo.Name, tag) {
			return denied("%s:%s is on the deny list of project %s", repo, tag, repo.Project)
		}
	}
	for _, p := range r.allow {
		if p.matches(repo.Name, tag) {
			return nil
		}
	}
	if len(r.allow) > 0 {
		return denied("%s:%s is not on the allow list of project %s", repo, tag, repo.Project)
	}
	return nil
}

// permitRepo says whether anything of a repository may be served.
func (r rules) permitRepo(repo registry.Repo) error {
	for _, p := range r.deny {
		if p.tag == "" && p.matchesRepo(repo.Name) {
			return denied("%s is on the deny list of project %s", repo, repo.Project)
		}
	}
	for _, p := range r.allow {
		if p.matchesRepo(repo.Name) {
			return nil
		}
	}
	if len(r.allow) > 0 {
		return denied("%s is not on the allow list of project %s", repo, repo.Project)
	}
	return nil
}

// permitDigest says whether a manifest may be fetched by its digest. Where only some tags of a
// repository are allowed, a digest is good once an allowed tag has led to it: linked.
func (r rules) permitDigest(repo registry.Repo, d registry.Digest, linked bool) error {
	if err := r.permitRepo(repo); err != nil || linked || len(r.allow) == 0 {
		return err
	}
	for _, p := range r.allow {
		if p.tag == "" && p.matchesRepo(repo.Name) {
			return nil
		}
	}
	return denied("%s@%s is not known to belong to an allowed tag of project %s; pull it by such a tag first", repo, d, repo.Project)
}

// pinned reports whether a tag is never to be evicted.
func (r rules) pinned(repo, tag string) bool {
	for _, p := range r.pin {
		if p.matches(repo, tag) {
			return true
		}
	}
	return false
}

// pinnedWhole reports whether nothing of a repository is ever to be evicted.
func (r rules) pinnedWhole(repo string) bool {
	for _, p := range r.pin {
		if p.tag == "" && p.matchesRepo(repo) {
			return true
		}
	}
	return false
}

func denied(format string, args ...any) error {
	return &registry.Fault{Code: registry.Denied, Message: fmt.Sprintf(format, args...)}
}
