package api

import (
	"net/url"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// artifactView is a manifest as clients see it.
type artifactView struct {
	ID           int64               `json:"id"`
	Type         string              `json:"type"`
	MediaType    string              `json:"media_type"` // of the configuration, as in Harbor
	ManifestType string              `json:"manifest_media_type"`
	ArtifactType string              `json:"artifact_type,omitempty"`
	Project      int64               `json:"project_id"`
	Repository   int64               `json:"repository_id"`
	Name         string              `json:"repository_name"`
	Digest       string              `json:"digest"`
	Size         int64               `json:"size"` // with all that it is made of
	PushedAt     stamp               `json:"push_time"`
	PulledAt     stamp               `json:"pull_time"`
	PulledBy     *string             `json:"pull_username,omitempty"` // ours; nil: not known, or not for everybody
	Attributes   map[string]any      `json:"extra_attrs"`
	Annotations  map[string]string   `json:"annotations"`
	References   []referenceView     `json:"references"`
	Tags         []tagView           `json:"tags"`
	Labels       []string            `json:"labels"`
	Accessories  []accessoryView     `json:"accessories"`
	Additions    map[string]addition `json:"addition_links"`
	Clipped      bool                `json:"clipped,omitempty"` // ours
}

type addition struct {
	Path     string `json:"href"`
	Absolute bool   `json:"absolute"`
}

// referenceView is a manifest that an index is made of.
type referenceView struct {
	Parent      int64             `json:"parent_id"`
	Digest      string            `json:"child_digest"`
	Platform    *platformView     `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platformView struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
	Version      string `json:"os.version,omitempty"`
}

type tagView struct {
	ID         int64  `json:"id"`
	Repository int64  `json:"repository_id"`
	Artifact   int64  `json:"artifact_id"`
	Name       string `json:"name"`
	Immutable  bool   `json:"immutable"`
	Signed     bool   `json:"signed"`
	PushedAt   stamp  `json:"push_time"`
	PulledAt   stamp  `json:"pull_time"`
}

// shelf is the repository that artifacts are shown of.
type shelf struct {
	project   estate.Project
	repo      catalog.Repository
	immutable []registry.Pattern
}

// shelf finds the repository of the path.
func (c *call) shelf() (shelf, error) {
	r, err := c.estate.Repository(c.ctx(), c.who, c.project(), c.item("repository"))
	if err != nil {
		return shelf{}, err
	}
	p, err := c.estate.Project(c.ctx(), c.who, estate.Ref{Name: r.Repo.Project})
	s := shelf{project: p, repo: r}
	for _, glob := range p.Immutable {
		if pattern, err := registry.ParsePattern(glob); err == nil {
			s.immutable = append(s.immutable, pattern)
		}
	}
	return s, err
}

func (s shelf) tag(a catalog.Artifact, t catalog.NamedTag) tagView {
	v := tagView{Repository: s.repo.ID, Artifact: a.ID, Name: t.Name, PushedAt: stamp(t.ChangedAt), PulledAt: stamp(t.PulledAt)}
	for _, pattern := range s.immutable {
		v.Immutable = v.Immutable || pattern.Matches(s.repo.Repo.Name, t.Name)
	}
	return v
}

// types are what people call artifacts by the media types of their configurations.
var types = map[string]string{
	estate.HelmConfig: "CHART",
	"application/vnd.dev.cosign.simplesigning.v1+json":    "SIGNATURE",
	"application/vnd.wasm.config.v1+json":                 "WASM",
	"application/vnd.cncf.openpolicyagent.config.v1+json": "OPA",
}

// view shows an artifact, and the manifests of an index with it, with at most so many bytes of what
// it says of itself.
func (s shelf) view(a catalog.Artifact, look estate.Look, most int) artifactView {
	look, clipped := fitting(look, most)
	v := artifactView{
		ID: a.ID, Type: "IMAGE", MediaType: look.ConfigType, ManifestType: a.MediaType, ArtifactType: a.ArtifactType,
		Project: s.project.ID, Repository: s.repo.ID, Name: s.repo.Repo.String(), Digest: a.Digest.String(), Size: a.Total,
		PushedAt: stamp(a.PushedAt), PulledAt: stamp(a.PulledAt), Attributes: map[string]any{}, Annotations: look.Annotations,
		References: []referenceView{}, Tags: []tagView{}, Labels: []string{}, Accessories: []accessoryView{}, Additions: map[string]addition{},
		Clipped: clipped,
	}
	if !a.LastPull.At.IsZero() {
		v.PulledBy = &a.LastPull.By
	}
	if v.MediaType == "" {
		v.MediaType = a.MediaType
	}
	if v.ArtifactType == "" && !look.Image {
		v.ArtifactType = look.ArtifactType
	}
	switch kind := types[look.ConfigType]; {
	case kind != "":
		v.Type = kind
	case look.ConfigType != "" && !registry.IsImageConfig(look.ConfigType):
		v.Type = "UNKNOWN"
	}
	if look.Image {
		v.Attributes = map[string]any{
			"architecture": look.Architecture, "os": look.OS, "author": look.Author, "created": stamp(look.Created),
			"config": map[string]any{
				"User": look.User, "WorkingDir": look.WorkingDir, "Env": look.Env, "Entrypoint": look.Entrypoint, "Cmd": look.Cmd,
				"Labels": look.Labels, "ExposedPorts": ports(look.ExposedPorts),
			},
		}
		if look.Variant != "" {
			v.Attributes["variant"] = look.Variant
		}
		path := root + "/projects/" + url.PathEscape(s.repo.Repo.Project) + "/repositories/" + url.PathEscape(url.PathEscape(s.repo.Repo.Name)) +
			"/artifacts/" + v.Digest + "/additions/build_history"
		v.Additions["build_history"] = addition{Path: path}
	}
	if look.Chart != nil {
		v.Attributes = look.Chart
	}
	for _, child := range look.Children {
		r := referenceView{Parent: a.ID, Digest: child.Digest.String(), Annotations: child.Annotations}
		if p := child.Platform; p != nil {
			r.Platform = &platformView{p.Architecture, p.OS, p.Variant, p.OSVersion}
		}
		v.References = append(v.References, r)
	}
	for _, t := range a.Tags {
		v.Tags = append(v.Tags, s.tag(a, t))
	}
	return v
}

func ports(all []string) map[string]struct{} {
	set := map[string]struct{}{}
	for _, port := range all {
		set[port] = struct{}{}
	}
	return set
}

func (c *call) listArtifacts() error {
	q, err := c.filter("tags", "digest", "media_type")
	if err != nil {
		return err
	}
	p, err := c.page()
	if err != nil {
		return err
	}
	f := catalog.ArtifactFilter{Digest: registry.Digest(q.is("digest")), MediaType: q.is("media_type"), Roots: true, Own: true}
	if f.Digest != "" {
		if f.Digest, err = registry.ParseDigest(string(f.Digest)); err != nil {
			return invalid("the digest in q is none")
		}
		f.Roots, f.Own = false, false
	}
	switch tag := q.has("tags"); tag {
	case "":
	case "*":
		f.Tagged = true
	case "nil":
		f.Untagged = true
	default:
		f.Tag = tag
	}
	if _, asked := q["tags"]; asked {
		f.Roots = false
	}
	s, err := c.shelf()
	if err != nil {
		return err
	}
	all, total, err := c.estate.Artifacts(c.ctx(), c.who, c.project(), c.item("repository"), f, catalog.Page{Offset: p.offset(), Limit: min(p.limit(), maxArtifacts)})
	if err != nil {
		return err
	}
	// One at a time, and each is gone before the next is read: manifests are as large as those who push
	// them like, and anybody may list those of a public project.
	var looked int64
	return c.stream(p, total, func(yield func(any, error) bool) {
		for _, a := range all {
			var look estate.Look
			if looked += a.Size; looked <= maxLooked {
				look = c.estate.Look(c.ctx(), s.repo.Repo, a)
			}
			v := s.view(a, look, maxListed)
			v.Clipped = v.Clipped || looked > maxLooked
			if err := c.addAccessories(&v, s, a); !yield(v, err) {
				return
			}
		}
	})
}

// maxArtifacts is how many are shown to whoever asks for all: of each the manifest is read.
const maxArtifacts = 1000

// artifact is the artifact of the path, and where it is.
func (c *call) artifact() (s shelf, a catalog.Artifact, err error) {
	if s, err = c.shelf(); err != nil {
		return s, a, err
	}
	a, err = c.estate.Artifact(c.ctx(), c.who, c.project(), c.item("repository"), c.item("reference"))
	return s, a, err
}

func (c *call) readArtifact() error {
	s, a, err := c.artifact()
	if err != nil {
		return err
	}
	v := s.view(a, c.estate.Look(c.ctx(), s.repo.Repo, a), maxWords)
	if err := c.addAccessories(&v, s, a); err != nil {
		return err
	}
	return c.ok(v)
}

// readHistory is how an image was built, as its configuration says.
func (c *call) readHistory() error {
	s, a, err := c.artifact()
	if err != nil {
		return err
	}
	type step struct {
		Created time.Time `json:"created"`
		By      string    `json:"created_by"`
		Comment string    `json:"comment,omitempty"`
		Empty   bool      `json:"empty_layer,omitempty"`
	}
	steps := []step{}
	for _, h := range c.estate.Look(c.ctx(), s.repo.Repo, a).History {
		steps = append(steps, step{h.Created, h.CreatedBy, h.Comment, h.Empty})
	}
	return c.ok(steps)
}

func (c *call) deleteArtifact() error {
	if err := c.estate.DeleteArtifact(c.ctx(), c.who, c.project(), c.item("repository"), c.item("reference"), c.r.RemoteAddr); err != nil {
		return err
	}
	return c.done()
}

func (c *call) listTags() error {
	q, err := c.filter("name")
	if err != nil {
		return err
	}
	s, a, err := c.artifact()
	if err != nil {
		return err
	}
	var views []tagView
	for _, t := range a.Tags {
		if q.fits("name", t.Name) {
			views = append(views, s.tag(a, t))
		}
	}
	return cut(c, views)
}

func (c *call) createTag() error {
	var b struct {
		Name string `json:"name"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	repository, reference := c.item("repository"), c.item("reference")
	if err := c.estate.AddTag(c.ctx(), c.who, c.project(), repository, reference, b.Name, c.r.RemoteAddr); err != nil {
		return err
	}
	return c.created(nil, "/projects/%s/repositories/%s/artifacts/%s/tags/%s",
		url.PathEscape(c.item("project")), url.PathEscape(url.PathEscape(repository)), url.PathEscape(reference), url.PathEscape(b.Name))
}

func (c *call) deleteTag() error {
	err := c.estate.DeleteTag(c.ctx(), c.who, c.project(), c.item("repository"), c.item("reference"), c.item("tag"), c.r.RemoteAddr)
	if err != nil {
		return err
	}
	return c.done()
}

// entryView is a record of the audit log.
type entryView struct {
	ID        int64  `json:"id"`
	User      string `json:"username"`
	Resource  string `json:"resource"`
	Kind      string `json:"resource_type"`
	Operation string `json:"operation"`
	Result    string `json:"operation_result"`      // ours
	Detail    string `json:"operation_description"` // ours
	Remote    string `json:"remote_address"`        // ours: where it came from; "" for the house itself and its commands
	At        stamp  `json:"op_time"`
}

func viewEntry(e catalog.Entry) entryView {
	resource := e.Resource
	if sep := ":"; e.Reference != "" {
		if strings.Contains(e.Reference, ":") {
			sep = "@"
		}
		resource += sep + e.Reference
	}
	return entryView{e.ID, e.Actor, resource, string(e.Kind), string(e.Action), string(e.Outcome), e.Detail, e.Remote, stamp(e.At)}
}

// log reads what of the audit log is asked for.
func (c *call) auditFilter() (f catalog.AuditFilter, p page, err error) {
	q, err := c.filter("username", "operation", "resource_type", "resource", "operation_result", "op_time")
	if err != nil {
		return f, p, err
	}
	f.Actor, f.Action, f.Under = q.is("username"), registry.Action(q.is("operation")), q.is("resource")
	f.Outcome = registry.Result(q.is("operation_result"))
	if kind := q.is("resource_type"); kind != "" {
		f.Kinds = []registry.Kind{registry.Kind(kind)}
	}
	if t := q[folded("op_time")]; t.kind == '[' {
		for i, to := range []*time.Time{&f.Since, &f.Until} {
			if t.values[i] == "" {
				continue
			}
			if *to, err = someTime(t.values[i]); err != nil {
				return f, p, invalid("%q in q is no time", registry.Clip(t.values[i]))
			}
		}
	}
	p, err = c.page()
	return f, p, err
}

// someTime reads a time as clients write it in q.
func someTime(text string) (at time.Time, err error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02"} {
		if at, err = time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return at, err
}

func (c *call) listAudit() error {
	f, p, err := c.auditFilter()
	if err != nil {
		return err
	}
	all, total, err := c.estate.AuditLog(c.ctx(), c.who, f, catalog.Page{Offset: p.offset(), Limit: p.limit()})
	if err != nil {
		return err
	}
	return listEntries(c, p, all, total)
}

func (c *call) listProjectAudit() error {
	f, p, err := c.auditFilter()
	if err != nil {
		return err
	}
	all, total, err := c.estate.ProjectLog(c.ctx(), c.who, c.project(), f, catalog.Page{Offset: p.offset(), Limit: p.limit()})
	if err != nil {
		return err
	}
	return listEntries(c, p, all, total)
}

func listEntries(c *call, p page, all []catalog.Entry, total int) error {
	var views []entryView
	for _, e := range all {
		views = append(views, viewEntry(e))
	}
	return list(c, p, views, total)
}
