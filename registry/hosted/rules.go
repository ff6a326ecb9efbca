package hosted

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// candidate is what a rule keeps or does not keep: a manifest with all its tags. Which rule keeps what
// is as in Harbor, whose clients set them: a manifest with several tags is one, and it was pushed and
// pulled when one of them was, or itself.
type candidate struct {
	digest         registry.Digest
	tags           []string
	pushed, pulled time.Time // pulled is zero when nobody has, as far as is known
}

// retention is what of a project's is about a repository. Where no rule is about it, and nothing else is
// said, everything stays.
func (p *project) retention(repo registry.Repo) catalog.Retention {
	r := p.Retention
	r.Rules = slices.DeleteFunc(slices.Clone(r.Rules), func(rule catalog.Rule) bool { return !selects(rule.Repositories, repo.Name) })
	if r.None() && p.untagged {
		r.Newest = math.MaxInt // every tag
	}
	return r
}

func selects(s catalog.Selector, name string) bool {
	return registry.Glob(s.Glob).Matches(name) != s.Except
}

// kept returns those of all candidates of a repository that a rule keeps, which is about it.
func kept(rule catalog.Rule, all []candidate, now time.Time) []candidate {
	var some []candidate
	for _, c := range all {
		tagged := slices.ContainsFunc(c.tags, func(tag string) bool { return selects(rule.Tags, tag) })
		if tagged || len(c.tags) == 0 && rule.Untagged {
			some = append(some, c)
		}
	}
	if rule.All() {
		return some
	}
	var stay []candidate
	for _, c := range some {
		if within(now, c.pushed, rule.Pushed) || within(now, c.pulled, rule.Pulled) {
			stay = append(stay, c)
		}
	}
	// Of those that nobody has pulled the last pushed come first, as they do among those pushed at once.
	byPush := func(a, b candidate) int { return cmp.Or(b.pushed.Compare(a.pushed), cmp.Compare(a.digest, b.digest)) }
	byPull := func(a, b candidate) int { return cmp.Or(b.pulled.Compare(a.pulled), byPush(a, b)) }
	slices.SortFunc(some, byPush)
	stay = append(stay, some[:min(len(some), rule.Newest)]...)
	slices.SortFunc(some, byPull)
	return append(stay, some[:min(len(some), rule.LastPulled)]...)
}

func within(now, at time.Time, age time.Duration) bool {
	return age > 0 && now.Sub(at) < age
}

// keepCandidates marks the tags of what the rules keep, and returns that.
func (t *retention) keepCandidates() (stay []registry.Digest) {
	if len(t.rules.Rules) == 0 {
		return nil
	}
	all, keep := t.candidates(), map[registry.Digest]bool{}
	for _, rule := range t.rules.Rules {
		for _, c := range kept(rule, all, t.now) {
			keep[c.digest] = true
		}
	}
	for i := range t.tags {
		tag := &t.tags[i]
		tag.keep = tag.keep || tag.image == "" && keep[tag.Digest]
	}
	return slices.Collect(maps.Keys(keep))
}

// candidates are what the rules choose from: manifests with tags, and those without that are neither
// part of an index nor refer to something here, with which they stay or go.
func (t *retention) candidates() []candidate {
	tags := map[registry.Digest][]*tagged{}
	for i := range t.tags {
		if tag := &t.tags[i]; tag.image == "" {
			tags[tag.Digest] = append(tags[tag.Digest], tag)
		}
	}
	named := map[registry.Digest]bool{} // by tags that stay and go with an image
	for _, tag := range t.tags {
		named[tag.Digest] = named[tag.Digest] || tag.image != ""
	}
	var all []candidate
	for _, m := range t.manifests {
		if len(tags[m.Digest]) == 0 && (named[m.Digest] || !m.Loose || t.here[m.Subject]) {
			continue
		}
		c := candidate{digest: m.Digest, pushed: m.LinkedAt, pulled: m.PulledAt}
		// Content that came before its link was not pulled by that.
		if m.UsedAt.After(m.LinkedAt) && m.UsedAt.After(c.pulled) {
			c.pulled = m.UsedAt
		}
		for _, tag := range tags[m.Digest] {
			c.tags = append(c.tags, tag.name)
			c.pushed, c.pulled = later(c.pushed, tag.CheckedAt), later(c.pulled, tag.PulledAt)
		}
		all = append(all, c)
	}
	return all
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
