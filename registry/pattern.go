package registry

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Pattern is a glob on the repositories of a project, and perhaps one on their tags.
type Pattern struct {
	repo, tag string // tag is empty when the pattern says nothing of tags
}

// ParsePattern reads "repository" or "repository:tag", where * stands for a part of a component
// and ** for any number of components.
func ParsePattern(glob string) (Pattern, error) {
	repo, tag, tagged := strings.Cut(glob, ":")
	if repo == "" || tagged && tag == "" || !doublestar.ValidatePattern(repo) || !doublestar.ValidatePattern(tag) {
		return Pattern{}, fmt.Errorf("%q is not a pattern: write repository or repository:tag with * for a part of a component and ** for any number of them, such as library/* or rancher/**:v1.*", glob)
	}
	return Pattern{repo, tag}, nil
}

// Tagged reports whether the pattern says something of tags.
func (p Pattern) Tagged() bool { return p.tag != "" }

// Matches reports whether a tag of a repository fits. repo is its name below the project.
func (p Pattern) Matches(repo, tag string) bool {
	return p.MatchesRepo(repo) && (p.tag == "" || doublestar.MatchUnvalidated(p.tag, tag))
}

// MatchesRepo reports whether a repository fits, whatever is said of tags.
func (p Pattern) MatchesRepo(repo string) bool {
	return doublestar.MatchUnvalidated(p.repo, repo)
}

// Glob is a glob on one kind of names, of repositories or of tags, as in a Pattern. The empty one
// matches every name.
type Glob string

// Check says why it is no glob, or nil.
func (g Glob) Check() error {
	if !doublestar.ValidatePattern(string(g)) {
		return fmt.Errorf("%q is not a pattern: write * for a part of a component and ** for any number of them", Clip(string(g)))
	}
	return nil
}

// Matches reports whether a name fits. That of a repository is below its project.
func (g Glob) Matches(name string) bool {
	return g == "" || doublestar.MatchUnvalidated(string(g), name)
}
