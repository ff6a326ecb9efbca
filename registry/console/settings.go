package console

import (
	"net/http"
	"net/url"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// settings is the page of what is said of a project.
type settings struct {
	tabs
	Public    bool
	Prefix    string
	TTL       string
	StaleFor  string
	Keep      string
	KeepGone  bool
	Cooldown  string
	NewToo    bool
	Verify    string // "warn", "enforce", or "" for nothing
	Keys      string
	Allow     string
	Deny      string
	Pin       string
	Quota     string
	Immutable string
	Newest    string
	Pulled    string
	Rules     []ruleView
	CanDelete bool
	CanLimit  bool // say how much the project may have
	CanPoint  bool // say where it asks
	Runs      []estate.Collection
	Error     *trouble
}

func (v *visit) settings(p estate.Project) settings {
	s := settings{
		tabs: v.tabs(p, "settings"), Public: p.Public, Prefix: p.Policy.Prefix,
		TTL: writeDuration(p.Policy.TTL), StaleFor: writeDuration(p.Policy.StaleFor), Keep: writeDuration(p.Policy.Keep),
		KeepGone: p.Policy.KeepGone, Allow: lines(p.Policy.Allow), Deny: lines(p.Policy.Deny), Pin: lines(p.Policy.Pin),
		Immutable: lines(p.Immutable), CanDelete: v.may(registry.Delete, access.Settings, p.Name),
	}
	s.Cooldown, s.NewToo = writeDuration(p.Policy.Cooldown), p.Policy.CooldownNew
	if verify := p.Policy.Verify; verify != nil {
		s.Verify, s.Keys = verify.Mode, strings.Join(verify.Keys, "\n")
	}
	if p.Quota > 0 {
		s.Quota = writeSize(p.Quota)
	}
	if p.Retention.Newest > 0 {
		s.Newest = v.words[v.lang].number(p.Retention.Newest)
	}
	if p.Retention.Pulled > 0 {
		s.Pulled = writeDuration(&p.Retention.Pulled)
	}
	s.Rules = v.rules(p.Retention.Rules)
	s.CanLimit = v.may(registry.Update, access.Quotas, "")
	s.CanPoint = v.may(registry.Update, access.Registries, "")
	return s
}

func (v *visit) showSettings(status int, s settings) (err error) {
	if s.Runs, err = v.retentions(s.Project); err != nil {
		return err
	}
	return v.show(status, "settings", v.say("settings.title", s.Project.Name), s)
}

func editProject(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	if !v.may(registry.Update, access.Settings, p.Name) {
		return &registry.Fault{Code: registry.Denied}
	}
	return v.showSettings(http.StatusOK, v.settings(p))
}

// take is what somebody has written into the form.
func (s *settings) take(form url.Values) {
	s.Public, s.KeepGone, s.NewToo = form.Get("public") != "", form.Get("keep_gone") != "", form.Get("cooldown_new") != ""
	for name, field := range map[string]*string{
		"prefix": &s.Prefix, "ttl": &s.TTL, "stale_for": &s.StaleFor, "keep": &s.Keep, "allow": &s.Allow, "deny": &s.Deny,
		"pin": &s.Pin, "quota": &s.Quota, "immutable": &s.Immutable, "newest": &s.Newest, "pulled": &s.Pulled,
		"cooldown": &s.Cooldown, "verify": &s.Verify, "verify_keys": &s.Keys,
	} {
		if form.Has(name) {
			*field = strings.TrimSpace(form.Get(name))
		}
	}
}

// write makes a project what the form says.
func (s *settings) write(p *catalog.Project) (err error) {
	p.Public = s.Public
	if p.Hosted() {
		p.Immutable = parseLines(s.Immutable)
		if s.CanLimit {
			if p.Quota, err = parseSize(s.Quota); err != nil {
				return err
			}
		}
		r, err := s.retention()
		r.Rules = p.Retention.Rules // which the form does not have
		p.Retention = r
		return err
	}
	if p.Policy.KeepGone = s.KeepGone; s.CanPoint {
		p.Policy.Prefix = s.Prefix
	}
	p.Policy.Allow, p.Policy.Deny, p.Policy.Pin = parseLines(s.Allow), parseLines(s.Deny), parseLines(s.Pin)
	if p.Policy.TTL, err = parseDuration("ttl", s.TTL); err != nil {
		return err
	}
	if p.Policy.StaleFor, err = parseDuration("stale_for", s.StaleFor); err != nil {
		return err
	}
	if p.Policy.Keep, err = parseDuration("keep", s.Keep); err != nil {
		return err
	}
	p.Policy.CooldownNew = s.NewToo
	if p.Policy.Cooldown, err = parseDuration("cooldown", s.Cooldown); err != nil {
		return err
	}
	p.Policy.Verify = nil
	if s.Verify != "" {
		p.Policy.Verify = &catalog.Verify{Mode: s.Verify}
		if s.Keys != "" {
			p.Policy.Verify.Keys = []string{s.Keys + "\n"}
		}
	}
	return nil
}

func (s *settings) retention() (r catalog.Retention, err error) {
	if s.Newest != "" {
		if r.Newest = int(parseNumber(s.Newest)); r.Newest <= 0 {
			return r, estate.Wrong("newest", "newest.wrong", "write how many tags of each repository stay, such as 10, or nothing")
		}
	}
	d, err := parseDuration("pulled", s.Pulled)
	if d != nil {
		r.Pulled = *d
	}
	return r, err
}

func changeProject(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	s := v.settings(p)
	s.take(v.r.PostForm)
	err = v.config.Estate.ChangeProject(v.r.Context(), v.me, estate.Ref{ID: p.ID}, s.write)
	if err == nil {
		return v.done(home+"projects/"+pathOf(p.Name)+"/settings", "project.changed")
	}
	t := v.trouble(err)
	if !t.amends() {
		return err
	}
	s.Error = &t
	return v.showSettings(t.Status, s)
}
