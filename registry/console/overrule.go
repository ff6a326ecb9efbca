package console

import (
	"net/url"

	"roadstead/registry"
)

// overrule lets a tag or an image through that the policies of its project hold back, or takes that back.
func overrule(v *visit) error {
	r, err := v.removal()
	if err != nil {
		return err
	}
	ctx, estate := v.r.Context(), v.config.Estate
	d, bad := registry.ParseDigest(r.Reference)
	done := ""
	switch do := v.r.PostFormValue("do"); {
	case do == "release" && registry.CheckTag(r.Reference) == nil:
		done, err = "tag.released", estate.Release(ctx, v.me, r.Repo, r.Reference)
	case do == "override" && bad == nil:
		done, err = "policy.let", estate.Override(ctx, v.me, r.Repo, d, v.r.PostFormValue("reason"))
	case do == "withdraw" && bad == nil:
		done, err = "policy.withdrawn", estate.Withdraw(ctx, v.me, r.Repo, d)
	default:
		return errForm
	}
	if err != nil {
		return err
	}
	return v.done(home+"artifacts/"+r.name()+"?ref="+url.QueryEscape(r.Reference), done)
}
