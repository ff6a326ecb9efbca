package console

import (
	"net/url"

	"roadstead/registry"
	"roadstead/registry/estate"
)

// removal is what is to go: a repository or, by its reference, an artifact or one tag of it.
type removal struct {
	Repo      registry.Repo
	Reference string // a digest or a tag; "" for the whole repository
}

func (r removal) kind() registry.Kind {
	if r.Reference == "" {
		return registry.Repository
	}
	if _, err := registry.ParseDigest(r.Reference); err != nil {
		return registry.Tags
	}
	return registry.Artifact
}

func (r removal) name() string { return pathOf(r.Repo.String()) }

// removal is what the address and the form name.
func (v *visit) removal() (removal, error) {
	repo, err := v.repo()
	return removal{repo, v.r.FormValue("ref")}, err
}

// removals are what is said of each kind: the question and the consequence.
var removals = map[registry.Kind][2]string{
	registry.Repository: {"repository.delete", "repository.delete.consequence"},
	registry.Artifact:   {"artifact.delete", "artifact.delete.consequence"},
	registry.Tags:       {"tag.delete", "tag.delete.consequence"},
}

func (v *visit) removalConfirmation(r removal) (confirmation, error) {
	p, err := v.config.Estate.Project(v.r.Context(), v.me, estate.Ref{Name: r.Repo.Project})
	if err != nil {
		return confirmation{}, err
	}
	if !v.config.Estate.MayDelete(v.me, p.Project, r.kind()) {
		return confirmation{}, &registry.Fault{Code: registry.Denied}
	}
	words := removals[r.kind()]
	c := confirmation{
		What: words[0], Name: r.Repo.String(), Consequence: v.say(words[1]), Action: home + "remove/" + r.name(),
		Back: home + "repositories/" + r.name(), Button: v.say("delete"),
	}
	if r.Reference != "" {
		c.Name, c.Hidden = r.Reference, map[string]string{"ref": r.Reference}
		c.Back = home + "artifacts/" + r.name() + "?ref=" + url.QueryEscape(r.Reference)
	}
	if !p.Hosted() {
		c.Consequence, c.Button = v.say("evict.consequence"), v.say("evict")
	}
	return c, nil
}

func confirmRemoval(v *visit) error {
	r, err := v.removal()
	if err != nil {
		return err
	}
	c, err := v.removalConfirmation(r)
	if err != nil {
		return err
	}
	return v.confirm(c)
}

func remove(v *visit) error {
	r, err := v.removal()
	if err != nil {
		return err
	}
	c, err := v.removalConfirmation(r)
	if err != nil {
		return err
	}
	ctx, ref, project := v.r.Context(), estate.Ref{Name: r.Repo.Project}, home+"projects/"+pathOf(r.Repo.Project)
	switch r.kind() {
	case registry.Repository:
		err = v.config.Estate.DeleteRepository(ctx, v.me, ref, r.Repo.Name, v.r.RemoteAddr)
	case registry.Tags:
		err = v.config.Estate.DeleteTag(ctx, v.me, ref, r.Repo.Name, r.Reference, r.Reference, v.r.RemoteAddr)
	default:
		err = v.config.Estate.DeleteArtifact(ctx, v.me, ref, r.Repo.Name, r.Reference, v.r.RemoteAddr)
	}
	if err != nil {
		return v.refuse(c, err)
	}
	if r.Reference == "" {
		return v.done(project, "repository.deleted")
	}
	if _, err := v.config.Estate.Repository(ctx, v.me, ref, r.Repo.Name); err != nil {
		return v.done(project, "artifact.deleted") // it was the last
	}
	return v.done(home+"repositories/"+r.name(), "artifact.deleted")
}

// refresh asks upstream about a tag now.
func refresh(v *visit) error {
	r, err := v.removal()
	if err != nil {
		return err
	}
	moved, err := v.config.Estate.Refresh(v.r.Context(), v.me, r.Repo, r.Reference, v.r.RemoteAddr)
	if err != nil {
		return err
	}
	what := "tag.same"
	if moved {
		what = "tag.moved"
	}
	return v.done(home+"artifacts/"+r.name()+"?ref="+url.QueryEscape(r.Reference), what)
}
