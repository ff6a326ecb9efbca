package console

import (
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
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
