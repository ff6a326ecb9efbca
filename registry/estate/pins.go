package estate

import (
	"context"
	"slices"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// PinOf is the pattern that pins one tag of a repository: neither names nor tags have a character in
// them that means something in patterns.
func PinOf(repo registry.Repo, tag string) string { return repo.Name + ":" + tag }

// Pin has a proxy never evict a tag, or takes that back. It is for whoever looks after what the cache
// holds, and leaves pins by wider patterns to whoever administers the project.
func (e *Estate) Pin(ctx context.Context, p registry.Principal, repo registry.Repo, tag string, pinned bool) error {
	return e.alter(ctx, p, registry.Update, access.Cache, Ref{Name: repo.Project}, func(next *catalog.Project) error {
		if next.Hosted() || registry.CheckName(repo.String()) != nil || registry.CheckTag(tag) != nil {
			return invalid("pin.hosted", "only a tag of a proxy can be pinned: what was pushed is not evicted")
		}
		pattern := PinOf(repo, tag)
		next.Policy.Pin = slices.DeleteFunc(next.Policy.Pin, func(one string) bool { return one == pattern })
		if pinned {
			next.Policy.Pin = append(next.Policy.Pin, pattern)
		}
		return nil
	})
}
