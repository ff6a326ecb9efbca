package catalog

import (
	"slices"
	"time"
)

// Retention says what stays in each repository of a project: what any of its parts keeps. The zero
// value keeps everything.
type Retention struct {
	Newest int           // so many tags, by the time of their last push; zero: keeps none
	Pulled time.Duration // tags pulled or pushed within this time; zero: keeps none
	Rules  []Rule        // where none of them is about a repository, and nothing else is said, all of it stays
}

// None reports whether nothing is said, so that everything stays.
func (r Retention) None() bool { return r.Equal(Retention{}) }

// Equal reports whether two say the same in the same words.
func (r Retention) Equal(o Retention) bool {
	return r.Newest == o.Newest && r.Pulled == o.Pulled && slices.Equal(r.Rules, o.Rules)
}

// Rule keeps manifests, each with all its tags, in some repositories. It is about those that have a tag
// that it selects, and may be about those that have none. Of these it keeps what any of Newest,
// LastPulled, Pushed and Pulled says; when none of them says anything, all.
type Rule struct {
	Repositories Selector `json:"repositories,omitzero"` // by their names below the project
	Tags         Selector `json:"tags,omitzero"`
	Untagged     bool     `json:"untagged,omitempty"` // and what has no tag

	Newest     int           `json:"newest,omitempty"`      // so many, those pushed last
	LastPulled int           `json:"last_pulled,omitempty"` // so many, those pulled last
	Pushed     time.Duration `json:"pushed,omitempty"`      // those pushed within this time
	Pulled     time.Duration `json:"pulled,omitempty"`      // those pulled within this time
}

// All reports whether a rule keeps all that it is about.
func (r Rule) All() bool {
	return r.Newest == 0 && r.LastPulled == 0 && r.Pushed == 0 && r.Pulled == 0
}

// Selector selects names. The zero value selects all of them.
type Selector struct {
	Glob   string `json:"glob,omitempty"`   // as in registry.Glob
	Except bool   `json:"except,omitempty"` // those that Glob does not match
}
