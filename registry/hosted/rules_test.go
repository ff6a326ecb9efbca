package hosted

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

var (
	matching = func(glob string) catalog.Selector { return catalog.Selector{Glob: glob} }
	except   = func(glob string) catalog.Selector { return catalog.Selector{Glob: glob, Except: true} }
)

// TestRules retains by rules what was pushed and pulled at given times.
func TestRules(t *testing.T) {
	// In both web and deep/api: name, days since the push and since the pull, 0 for never.
	shelf := []struct {
		tags           string
		pushed, pulled int
	}{
		{"v1.0", 50, 1}, {"v1.1", 40, 20}, {"v2.0 stable", 30, 0}, {"dev-1", 20, 5}, {"dev-2", 10, 0}, {"", 15, 0},
	}
	const all = "v1.0 v1.1 v2.0 stable dev-1 dev-2 untagged"
	for _, tt := range []struct {
		name string
		keep catalog.Retention
		web  string // what stays
		api  string
	}{
		{"no rule is about the repository", catalog.Retention{Rules: []catalog.Rule{{Repositories: matching("web"), Newest: 1}}}, "dev-2", all},
		{"all repositories but some", catalog.Retention{Rules: []catalog.Rule{{Repositories: except("deep/**"), Newest: 1}}}, "dev-2", all},
		{"below a component", catalog.Retention{Rules: []catalog.Rule{{Repositories: matching("*"), Newest: 1}}}, "dev-2", all},
		{"all tags of a kind", catalog.Retention{Rules: []catalog.Rule{{Repositories: matching("**"), Tags: matching("v*")}}}, "v1.0 v1.1 v2.0 stable", "v1.0 v1.1 v2.0 stable"},
		{"all tags but those of a kind", catalog.Retention{Rules: []catalog.Rule{{Tags: except("v*")}}}, "v2.0 stable dev-1 dev-2", "v2.0 stable dev-1 dev-2"},
		{"either of two kinds", catalog.Retention{Rules: []catalog.Rule{{Tags: matching("{v1.0,dev-1}")}}}, "v1.0 dev-1", "v1.0 dev-1"},
		{"the newest of a kind", catalog.Retention{Rules: []catalog.Rule{{Tags: matching("v*"), Newest: 2}}}, "v1.1 v2.0 stable", "v1.1 v2.0 stable"},
		{"one manifest with two tags is one", catalog.Retention{Rules: []catalog.Rule{{Newest: 3}}}, "v2.0 stable dev-1 dev-2", "v2.0 stable dev-1 dev-2"},
		{"the newest with what has no tag", catalog.Retention{Rules: []catalog.Rule{{Newest: 2, Untagged: true}}}, "dev-2 untagged", "dev-2 untagged"},
		{"nothing but what has no tag", catalog.Retention{Rules: []catalog.Rule{{Tags: except("**"), Untagged: true}}}, "untagged", "untagged"},
		{"the last pulled", catalog.Retention{Rules: []catalog.Rule{{LastPulled: 2}}}, "v1.0 dev-1", "v1.0 dev-1"},
		{"the last pulled of which some never were", catalog.Retention{Rules: []catalog.Rule{{LastPulled: 4}}}, "v1.0 v1.1 dev-1 dev-2", "v1.0 v1.1 dev-1 dev-2"},
		{"pushed within a time", catalog.Retention{Rules: []catalog.Rule{{Pushed: 25 * day}}}, "dev-1 dev-2", "dev-1 dev-2"},
		{"pulled within a time, for which a push does not count", catalog.Retention{Rules: []catalog.Rule{{Pulled: 10 * day}}}, "v1.0 dev-1", "v1.0 dev-1"},
		{"what any rule keeps", catalog.Retention{Rules: []catalog.Rule{{Tags: matching("v1.*"), Pulled: 2 * day}, {Tags: matching("dev-*"), Newest: 1}}}, "v1.0 dev-2", "v1.0 dev-2"},
		{"other rules for other repositories", catalog.Retention{Rules: []catalog.Rule{{Repositories: matching("web"), Newest: 1}, {Repositories: matching("deep/*"), Tags: matching("v*"), Newest: 1}}}, "dev-2", "v2.0 stable"},
		{"a rule that keeps nothing", catalog.Retention{Rules: []catalog.Rule{{Tags: matching("none")}}}, "", ""},
		{"beside the newest of all", catalog.Retention{Newest: 1, Rules: []catalog.Rule{{Repositories: matching("web"), Tags: matching("v1.0")}}}, "v1.0 dev-2", "dev-2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, catalog.Project{Name: "production", Retention: tt.keep})
			api := registry.Repo{Project: "production", Name: "deep/api"}
			left := map[registry.Repo]string{web: tt.web, api: tt.api}
			var want, gone []string
			for _, repo := range []registry.Repo{web, api} {
				for _, one := range shelf {
					tags := strings.Fields(one.tags)
					m := h.push(repo, image(h.blob(repo, repo.Name+one.tags)), tags...)
					at := time.Now().Add(-time.Duration(one.pushed) * day)
					h.age(repo, time.Duration(one.pushed)*day, m.Digest)
					h.update(func(tx *catalog.Tx) error {
						err := tx.Touch([]registry.Digest{m.Digest}, at.Add(-time.Hour))
						for _, tag := range tags {
							is, err1 := tx.Tag(repo, tag)
							is.CheckedAt = at
							err = errors.Join(err, err1, tx.PutTag(repo, tag, is))
						}
						if one.pulled > 0 {
							err = errors.Join(err, tx.Pulled(repo, tags[0], time.Now().Add(-time.Duration(one.pulled)*day)))
						}
						return err
					})
					if len(tags) == 0 {
						tags = []string{"untagged"}
					}
					for _, tag := range tags {
						if !slices.Contains(strings.Fields(left[repo]), tag) {
							want = append(want, repo.Name+" "+tag)
						}
					}
				}
			}
			for _, dry := range []bool{true, false} {
				done, err := h.Retain(t.Context(), "production", dry)
				if err != nil {
					t.Fatal(err)
				}
				gone = nil
				lost := map[registry.Digest]bool{}
				for _, one := range done {
					if one.Tag != "" {
						gone, lost[one.Digest] = append(gone, one.Repo.Name+" "+one.Tag), true
					}
				}
				for _, one := range done {
					if one.Tag == "" && !lost[one.Digest] {
						gone = append(gone, one.Repo.Name+" untagged")
					}
				}
				slices.Sort(gone)
				slices.Sort(want)
				if !slices.Equal(gone, want) {
					t.Errorf("retired (dry: %v) %q, want %q", dry, gone, want)
				}
			}
			h.agree(never)
		})
	}
}

// TestRulesAboutWhatRefers: an index counts as one, without what it is made of; what refers to it stays
// and goes with it, tagged or not.
func TestRulesAboutWhatRefers(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Retention: catalog.Retention{Rules: []catalog.Rule{{Newest: 1, Untagged: true}}}})
	names := map[registry.Digest]string{}
	for _, age := range []string{"old", "new"} {
		child := h.push(web, image(h.blob(web, age)))
		list := h.push(web, index(child), age)
		signature := image(h.blob(web, age+" signature"))
		signature.Subject = &list
		second := image(h.blob(web, age+" second"))
		second.Subject = &list
		names[child.Digest], names[list.Digest] = age+" child", age+" index"
		names[h.push(web, signature).Digest] = age + " signature"
		names[h.push(web, second, "about-"+age).Digest] = age + " second"
	}
	h.pushed(web, "old", 50*day, 0)
	h.pushed(web, "new", 30*day, 0)
	for _, tag := range []string{"about-old", "about-new"} {
		h.pushed(web, tag, 10*day, 0)
	}
	h.old(web, 60*day)
	h.retain(names, "old", "about-old", "manifest old child", "manifest old index", "manifest old signature", "manifest old second")
}

// TestRulesOfPulls: a pull that nobody has written down yet counts, by tag and by digest.
func TestRulesOfPulls(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Retention: catalog.Retention{Rules: []catalog.Rule{{LastPulled: 2}}}})
	names := map[registry.Digest]string{}
	for _, tag := range []string{"a", "b", "c"} {
		names[h.push(web, image(h.blob(web, tag)), tag).Digest] = tag
		h.pushed(web, tag, 40*day, 0)
	}
	h.old(web, 40*day)
	if _, err := h.Resolve(t.Context(), web, "b"); err != nil {
		t.Fatal(err)
	}
	for d, name := range names {
		if name == "c" {
			if _, err := h.Manifest(t.Context(), web, d); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.retain(names, "a", "manifest a")
}
