package console

import (
	"net/url"
	"slices"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
)

// pinnable says what can be done about the pin of a tag of a proxy: "pin", "unpin", or "" for nothing.
// A pin by a wider pattern is one of the settings, and stays.
func (v *visit) pinnable(p estate.Project, repo registry.Repo, tag string, pinned bool) string {
	switch {
	case tag == "" || p.Hosted() || p.Configured || !v.may(registry.Update, access.Cache, p.Name):
		return ""
	case slices.Contains(p.Policy.Pin, estate.PinOf(repo, tag)):
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
	add := v.r.PostFormValue("do") == "pin"
	if err := v.config.Estate.Pin(v.r.Context(), v.me, r.Repo, r.Reference, add); err != nil {
		return err
	}
	what := "tag.unpinned"
	if add {
		what = "tag.pinned"
	}
	return v.done(home+"artifacts/"+r.name()+"?ref="+url.QueryEscape(r.Reference), what)
}
