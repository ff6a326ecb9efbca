package console

import (
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// retentions are what the rules of a project have retired or would, the newest first: the last few.
func (v *visit) retentions(p estate.Project) ([]estate.Collection, error) {
	if !p.Hosted() || !v.may(registry.Read, access.Retention, p.Name) {
		return nil, nil
	}
	all, err := v.config.Estate.Retentions(v.r.Context(), v.me, estate.Ref{ID: p.ID})
	return all[:min(len(all), 5)], err
}

// retain has the rules that are saved carried out or, dry, only says what would go.
func retain(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	dry := v.r.PostFormValue("do") != "run"
	if _, err := v.config.Estate.Retain(v.r.Context(), v.me, estate.Ref{ID: p.ID}, dry); err != nil {
		t := v.trouble(err)
		if !t.amends() {
			return err
		}
		s := v.settings(p)
		s.Error = &t
		return v.showSettings(t.Status, s)
	}
	return v.done(home+"projects/"+pathOf(p.Name)+"/settings", "retention.started")
}

// ruleView is a rule that others have set, for some repositories and tags: it is shown and stays as it
// is, since the form has no words for it.
type ruleView struct{ Repositories, Tags, Keeps string }

func (v *visit) rules(all []catalog.Rule) (views []ruleView) {
	for _, rule := range all {
		r := ruleView{Repositories: v.selector(rule.Repositories), Tags: v.selector(rule.Tags)}
		if rule.Untagged {
			r.Tags = v.say("rule.untagged", r.Tags)
		}
		var keeps []string
		count := func(key string, n int) {
			if n > 0 {
				keeps = append(keeps, v.say(key, v.words[v.lang].number(n)))
			}
		}
		within := func(key string, d time.Duration) {
			if d > 0 {
				keeps = append(keeps, v.say(key, writeDuration(&d)))
			}
		}
		count("rule.newest", rule.Newest)
		count("rule.lastpulled", rule.LastPulled)
		within("rule.pushed", rule.Pushed)
		within("rule.pulled", rule.Pulled)
		if rule.All() {
			keeps = append(keeps, v.say("rule.everything"))
		}
		r.Keeps = strings.Join(keeps, v.say("rule.or"))
		views = append(views, r)
	}
	return views
}

// selector says which names a rule is about.
func (v *visit) selector(s catalog.Selector) string {
	switch {
	case s == catalog.Selector{}:
		return v.say("rule.all")
	case s.Glob == "":
		return v.say("rule.none")
	case s.Except:
		return v.say("rule.but", s.Glob)
	}
	return s.Glob
}
