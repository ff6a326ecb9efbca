package console

import (
	"net/url"
	"slices"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// pinOf is the pattern that pins one tag: neither names nor tags have a character in them that means
// something in patterns.
func pinOf(repo registry.Repo, tag string) string { return repo.Name + ":" + tag }

// pinnable says what can be done about the pin of a tag of a proxy: "pin", "unpin", or "" for nothing.
// A pin by a wider pattern is one of the settings, and stays.
func (v *visit) pinnable(p estate.Project, repo registry.Repo, tag string, pinned bool) string {
	switch {
	case tag == "" || p.Hosted() || p.Configured || !v.may(registry.Update, access.Settings, p.Name):
		return ""
	case slices.Contains(p.Policy.Pin, pinOf(repo, tag)):
		return "unpin"
	case pinned:
		return ""
	}
	return "pin"
}

// pin adds a tag to what its project never evicts, or takes it away from that.
func pin(v *visit) error {
	r, err := v.removal()
	if err != nil {
		return err
	}
	if r.kind() != registry.Tags || registry.CheckTag(r.Reference) != nil {
		return errForm
	}
	pattern, add := pinOf(r.Repo, r.Reference), v.r.PostFormValue("do") == "pin"
	err = v.config.Estate.ChangeProject(v.r.Context(), v.me, estate.Ref{Name: r.Repo.Project}, func(p *catalog.Project) error {
		p.Policy.Pin = slices.DeleteFunc(p.Policy.Pin, func(one string) bool { return one == pattern })
		if add {
			p.Policy.Pin = append(p.Policy.Pin, pattern)
		}
		return nil
	})
	if err != nil {
		return err
	}
	what := "tag.unpinned"
	if add {
		what = "tag.pinned"
	}
	return v.done(home+"artifacts/"+r.name()+"?ref="+url.QueryEscape(r.Reference), what)
}
