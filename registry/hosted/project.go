package hosted

import (
	"fmt"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// project is a hosted project and its rules, ready to be asked.
type project struct {
	catalog.Project
	immutable []registry.Pattern
	schedule  *Schedule // of its retention; nil: with each collection; zero: by order only
	untagged  bool      // manifests without a tag go by the time of grace, also where no rule is
}

// Never is the schedule of a project whose tags are retained by order only.
const Never = "never"

// CheckProject says why a project could not be one of a hosted registry, or nil.
func CheckProject(p catalog.Project) error {
	_, err := newProject(p)
	return err
}

func newProject(p catalog.Project) (*project, error) {
	parsed := &project{Project: p}
	for _, glob := range p.Immutable {
		pattern, err := registry.ParsePattern(glob)
		if err != nil {
			return nil, fmt.Errorf("project %s: %w", p.Name, err)
		}
		parsed.immutable = append(parsed.immutable, pattern)
	}
	for _, rule := range p.Retention.Rules {
		for _, glob := range []string{rule.Repositories.Glob, rule.Tags.Glob} {
			if err := registry.Glob(glob).Check(); err != nil {
				return nil, fmt.Errorf("project %s: %w", p.Name, err)
			}
		}
	}
	if p.Schedule != "" {
		parsed.schedule = &Schedule{}
		if p.Schedule != Never {
			s, err := ParseSchedule(p.Schedule)
			if err != nil {
				return nil, fmt.Errorf("project %s: %w", p.Name, err)
			}
			parsed.schedule = &s
		}
	}
	return parsed, nil
}

// fixed reports whether a tag is immutable: made once, it never moves and never goes.
func (p *project) fixed(repo registry.Repo, tag string) bool {
	for _, pattern := range p.immutable {
		if pattern.Matches(repo.Name, tag) {
			return true
		}
	}
	return false
}

// mayPoint says why a tag that is as the catalog has it must not be pointed to d, or nil.
func (p *project) mayPoint(repo registry.Repo, tag string, is catalog.Tag, d registry.Digest) error {
	if is.Digest == "" || is.Gone || is.Digest == d || !p.fixed(repo, tag) {
		return nil
	}
	return &registry.Fault{
		Code:    registry.Denied,
		Message: fmt.Sprintf("tag %s of %s is immutable and already points to %s: push under another tag", tag, repo, is.Digest),
	}
}

// fits says that a project has too much of its quota used with what it was about to get, or nil.
func (p *project) fits(before, after int64) error {
	if p.Quota <= 0 || after <= p.Quota || after <= before {
		return nil
	}
	return &registry.Fault{
		Code: registry.TooLarge,
		Message: fmt.Sprintf("project %s has %s of its quota of %s in use, and this would add %s",
			p.Name, size(before), size(p.Quota), size(after-before)),
	}
}

// size writes an amount of bytes for people.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	x, unit := float64(n), 0
	for ; x >= 1<<10 && unit < 5; unit++ {
		x /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", x, " KMGTP"[unit])
}
