package cache

import (
	"fmt"

	"roadstead/registry"
)

// rules decide what a project serves and what it keeps.
type rules struct {
	allow, deny, pin []registry.Pattern
}

func newRules(p Project) (rules, error) {
	var r rules
	for _, list := range []struct {
		name  string
		globs []string
		into  *[]registry.Pattern
	}{{"allow", p.Allow, &r.allow}, {"deny", p.Deny, &r.deny}, {"pin", p.Pin, &r.pin}} {
		for _, glob := range list.globs {
			parsed, err := registry.ParsePattern(glob)
			if err != nil {
				return rules{}, fmt.Errorf("%s: %w", list.name, err)
			}
			*list.into = append(*list.into, parsed)
		}
	}
	return r, nil
}

// permitTag says whether a tag may be served.
func (r rules) permitTag(repo registry.Repo, tag string) error {
	for _, p := range r.deny {
		if p.Matches(repo.Name, tag) {
			return denied("%s:%s is on the deny list of project %s", repo, tag, repo.Project)
		}
	}
	for _, p := range r.allow {
		if p.Matches(repo.Name, tag) {
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
		if !p.Tagged() && p.MatchesRepo(repo.Name) {
			return denied("%s is on the deny list of project %s", repo, repo.Project)
		}
	}
	for _, p := range r.allow {
		if p.MatchesRepo(repo.Name) {
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
		if !p.Tagged() && p.MatchesRepo(repo.Name) {
			return nil
		}
	}
	return denied("%s@%s is not known to belong to an allowed tag of project %s; pull it by such a tag first", repo, d, repo.Project)
}

// pinned reports whether a tag is never to be evicted.
func (r rules) pinned(repo, tag string) bool {
	for _, p := range r.pin {
		if p.Matches(repo, tag) {
			return true
		}
	}
	return false
}

// pinnedWhole reports whether nothing of a repository is ever to be evicted.
func (r rules) pinnedWhole(repo string) bool {
	for _, p := range r.pin {
		if !p.Tagged() && p.MatchesRepo(repo) {
			return true
		}
	}
	return false
}

func denied(format string, args ...any) error {
	return &registry.Fault{Code: registry.Denied, Message: fmt.Sprintf(format, args...)}
}
