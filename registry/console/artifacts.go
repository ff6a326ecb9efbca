package console

import (
	"cmp"
	"net/http"
	"slices"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
)

// artifactPage is the page of an artifact.
type artifactPage struct {
	estate.Shown
	Project     estate.Project
	Reference   string // that led here: a tag or the digest
	Tag         string // "" by digest
	Layers      []layer
	LayerBars   []bar
	LayerBytes  int64
	Manifest    string // to read
	Annotations []pair
	Labels      []pair
	Signatures  int
	Pulls       []pullCommand
	Fresh       *cache.Freshness
	Policy      *cache.Policy // what the policies of a proxy mean for it, where there are any
	CanOverrule bool          // those
	Pinned      bool
	CanDelete   bool
	CanUntag    bool
	CanRefresh  bool
	Pin         string // what can be done about it: "pin", "unpin", or nothing
	Kind        string // key of what it is
}

// layer is one of an image, with where it came from.
type layer struct {
	registry.Descriptor
	Class string
	By    string
}

type pullCommand struct{ Name, Text string }

func showArtifact(v *visit) error {
	repo, err := v.repo()
	if err != nil {
		return err
	}
	ctx, page := v.r.Context(), artifactPage{Reference: v.r.URL.Query().Get("ref")}
	if page.Project, err = v.config.Estate.Project(ctx, v.me, estate.Ref{Name: repo.Project}); err != nil {
		return err
	}
	if page.Shown, err = v.config.Estate.Shown(ctx, v.me, repo, page.Reference); err != nil {
		return err
	}
	if _, err := registry.ParseDigest(page.Reference); err != nil {
		page.Tag = page.Reference
		fresh, pinned, ok, err := v.config.Estate.Fresh(ctx, v.me, repo, page.Tag)
		if err != nil {
			return err
		}
		if page.Pinned = pinned; ok {
			page.Fresh = &fresh
		}
		page.Pin = v.pinnable(page.Project, repo, page.Tag, pinned)
		page.CanRefresh = ok && v.may(registry.Update, access.Cache, repo.Project)
		page.CanUntag = v.config.Estate.MayDelete(v.me, page.Project.Project, registry.Tags)
	}
	policy, ok, err := v.config.Estate.Policy(ctx, v.me, repo, page.Reference)
	if err != nil {
		return err
	}
	if ok && (policy.Mode != "" || policy.Held != nil) {
		page.Policy, page.CanOverrule = &policy, v.may(registry.Update, access.Settings, repo.Project)
	}
	page.CanDelete = v.config.Estate.MayDelete(v.me, page.Project.Project, registry.Artifact)
	page.lay(v.words[v.lang])
	page.Annotations, page.Labels = pairs(page.Config.Annotations), pairs(page.Config.Labels)
	page.Manifest = readable(page.Shown.Manifest)
	page.Pulls = pullCommands(v.address().Host, repo, cmp.Or(page.Tag, firstTag(page.Shown)), page.Digest)
	for _, d := range page.Referrers {
		if signs(d.ArtifactType) {
			page.Signatures++
		}
	}
	page.Kind = page.kind()
	return v.show(http.StatusOK, "artifact", repo.String(), page)
}

// lay makes the picture of the layers.
func (page *artifactPage) lay(w words) {
	var sizes []int64
	by := map[registry.Digest]string{}
	for _, s := range page.Config.History {
		if s.Layer != nil {
			by[s.Layer.Digest] = clip(s.CreatedBy, maxCommand)
		}
	}
	for _, d := range page.Config.Layers {
		page.Layers = append(page.Layers, layer{Descriptor: d, By: by[d.Digest]})
		sizes = append(sizes, d.Size)
		page.LayerBytes += max(d.Size, 0)
	}
	page.LayerBars = bars(sizes, func(i int) string { return short(page.Layers[i].Digest) + ": " + w.size(page.Layers[i].Size) })
	for i, b := range page.LayerBars {
		page.Layers[i].Class = b.Class
	}
}

// kind is the key of what an artifact is.
func (page *artifactPage) kind() string {
	switch {
	case len(page.Platforms) > 0 || page.MediaType == registry.MediaTypeOCIIndex || page.MediaType == registry.MediaTypeDockerList:
		return "index"
	case page.Config.Image:
		return "image"
	}
	return "other"
}

// signs reports whether an artifact type is one of signatures: cosign's and notation's.
func signs(artifactType string) bool {
	return slices.Contains([]string{
		"application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dev.sigstore.bundle.v0.3+json",
		"application/vnd.cncf.notary.signature",
	}, artifactType)
}

func firstTag(a estate.Shown) string {
	if len(a.Tags) == 0 {
		return ""
	}
	return a.Tags[0].Name
}

// pullCommands are what to type to get an artifact, by its digest where it has no tag.
func pullCommands(host string, repo registry.Repo, tag string, d registry.Digest) []pullCommand {
	byTag, byDigest := host+"/"+repo.String()+":"+tag, host+"/"+repo.String()+"@"+d.String()
	name := byTag
	if tag == "" {
		name = byDigest
	}
	return []pullCommand{
		{"docker", "docker pull " + name},
		{"podman", "podman pull " + name},
		{"containerd", "nerdctl pull " + name},
		{"crane", "crane pull " + byDigest + " image.tar"},
	}
}
