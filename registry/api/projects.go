package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// ours begins the names of what is kept among the metadata of a project and that no client sees or
// sets there.
const ours = "roadstead."

// projectView is a project as clients see it.
type projectView struct {
	ID        int64             `json:"project_id"`
	Name      string            `json:"name"`
	OwnerID   int               `json:"owner_id"`
	OwnerName string            `json:"owner_name"`
	Registry  int64             `json:"registry_id,omitempty"`
	Deleted   bool              `json:"deleted"`
	Repos     int64             `json:"repo_count"`
	Metadata  map[string]string `json:"metadata"`
	Allowlist json.RawMessage   `json:"cve_allowlist"`
	MyRole    int               `json:"current_user_role_id,omitempty"`
	Togglable bool              `json:"togglable"`
	Declared  bool              `json:"declared"` // ours
	CreatedAt stamp             `json:"creation_time"`
	UpdatedAt stamp             `json:"update_time"`
}

func (c *call) viewProject(p estate.Project) projectView {
	v := projectView{
		ID: p.ID, Name: p.Name, OwnerID: 1, OwnerName: "admin", Registry: p.Registry, Repos: p.Repositories, Metadata: metadata(p.Project),
		Allowlist: json.RawMessage(cmp.Or(p.Metadata[allowlistKey], `{"items":[]}`)), Togglable: true, Declared: p.Configured,
		CreatedAt: stamp(p.CreatedAt), UpdatedAt: stamp(p.UpdatedAt),
	}
	if _, _, admin, _ := c.access.Describe(c.who); admin {
		v.MyRole = 1
	}
	return v
}

const allowlistKey = ours + "cve_allowlist"

// metadata is what clients see of it: what they have sent, as they sent it, but for what steers, which
// says what is so.
func metadata(p catalog.Project) map[string]string {
	shown := map[string]string{}
	for key, value := range p.Metadata {
		if !strings.HasPrefix(key, ours) {
			shown[key] = value
		}
	}
	steered(shown, "public", p.Public)
	if _, sent := shown[localOnNotFound]; sent || p.Policy.KeepGone {
		steered(shown, localOnNotFound, p.Policy.KeepGone)
	}
	delete(shown, "retention_id")
	if !p.Hosted() && !p.Configured || retains(p) { // a proxy keeps what was pulled from its first day on
		shown["retention_id"] = strconv.FormatInt(p.ID, 10)
	}
	return shown
}

// localOnNotFound has a proxy serve a tag that upstream no longer has.
const localOnNotFound = "proxy_cache_local_on_not_found"

// steered writes a truth, unless what was sent says the same in other letters.
func steered(shown map[string]string, key string, truth bool) {
	if said, err := strconv.ParseBool(shown[key]); err != nil || said != truth {
		shown[key] = strconv.FormatBool(truth)
	}
}

// projectBody is what clients send of a project.
type projectBody struct {
	Name      string             `json:"project_name"`
	Registry  *int64             `json:"registry_id"`
	Limit     *int64             `json:"storage_limit"`
	Public    *bool              `json:"public"`
	Metadata  map[string]*string `json:"metadata"`
	Allowlist *struct {
		ID      int64  `json:"id,omitempty"`
		Expires *int64 `json:"expires_at,omitempty"`
		Items   []struct {
			CVE string `json:"cve_id"`
		} `json:"items"`
	} `json:"cve_allowlist"`
}

// apply writes what the body says into a project, but for what cannot change.
func (b projectBody) apply(p *catalog.Project) error {
	set(&p.Public, b.Public)
	if err := applyMetadata(p, b.Metadata); err != nil {
		return err
	}
	if b.Allowlist != nil && len(b.Allowlist.Items) > 0 {
		text, err := json.Marshal(b.Allowlist)
		if err != nil {
			return err
		}
		p.Metadata[allowlistKey] = string(text)
	} else if b.Allowlist != nil {
		delete(p.Metadata, allowlistKey)
	}
	if b.Limit != nil {
		bytes, err := quotaOf(*b.Limit)
		if err != nil {
			return err
		}
		p.Quota = bytes
	}
	return nil
}

// applyMetadata writes metadata beside what is there of other names.
func applyMetadata(p *catalog.Project, sent map[string]*string) error {
	next := maps.Clone(p.Metadata)
	if next == nil {
		next = map[string]string{}
	}
	for key, value := range sent {
		switch {
		case value == nil || key == "retention_id": // which follows from the policy
			continue
		case strings.HasPrefix(key, ours):
			return invalid("metadata whose names begin with %s are not for clients", ours)
		case key == "public" || key == localOnNotFound:
			truth, err := strconv.ParseBool(*value)
			if err != nil {
				return invalid("the metadata %s is \"true\" or \"false\"", key)
			}
			if key == "public" {
				p.Public = truth
			} else {
				p.Policy.KeepGone = truth
			}
		}
		next[key] = *value
	}
	p.Metadata = next
	return nil
}

// quotaOf is a limit of storage as the catalog has it.
func quotaOf(limit int64) (int64, error) {
	switch {
	case limit == -1:
		return 0, nil
	case limit <= 0:
		return 0, invalid("a limit of storage is a number of bytes, or -1 for none")
	}
	return limit, nil
}

// limitOf is a quota as clients see it.
func limitOf(quota int64) int64 {
	if quota == 0 {
		return -1
	}
	return quota
}

func (c *call) listProjects() error {
	f, err := c.filter("name", "public", "project_id", "owner", "registry_id")
	if err != nil {
		return err
	}
	all, err := c.estate.Projects(c.ctx(), c.who)
	if err != nil {
		return err
	}
	query := c.r.URL.Query()
	name, public := strings.ToLower(query.Get("name")), query.Get("public")
	wanted := false
	if public != "" {
		if wanted, err = strconv.ParseBool(public); err != nil {
			return invalid("public is true or false")
		}
	}
	var views []projectView
	for _, p := range all {
		fits := f.fits("name", p.Name) && f.fits("public", strconv.FormatBool(p.Public)) && f.fits("project_id", strconv.FormatInt(p.ID, 10)) &&
			f.fits("registry_id", strconv.FormatInt(p.Registry, 10)) && strings.Contains(strings.ToLower(p.Name), name) && (public == "" || p.Public == wanted)
		if fits {
			views = append(views, c.viewProject(p))
		}
	}
	err = order(c, views, map[string]func(a, b projectView) int{
		"name":          func(a, b projectView) int { return strings.Compare(a.Name, b.Name) },
		"project_id":    func(a, b projectView) int { return cmp.Compare(a.ID, b.ID) },
		"repo_count":    func(a, b projectView) int { return cmp.Compare(a.Repos, b.Repos) },
		"creation_time": func(a, b projectView) int { return time.Time(a.CreatedAt).Compare(time.Time(b.CreatedAt)) },
		"update_time":   func(a, b projectView) int { return time.Time(a.UpdatedAt).Compare(time.Time(b.UpdatedAt)) },
	})
	if err != nil {
		return err
	}
	return cut(c, views)
}

// headProject answers whether there is a project of a name that whoever asks may see.
func (c *call) headProject() error {
	if err := c.known(); err != nil {
		return err
	}
	name := c.r.URL.Query().Get("project_name")
	if name == "" {
		return invalid("project_name is missing")
	}
	if _, err := c.estate.Project(c.ctx(), c.who, estate.Ref{Name: name}); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) createProject() error {
	var b projectBody
	if err := c.body(&b); err != nil {
		return err
	}
	p := catalog.Project{Name: b.Name}
	if b.Registry != nil {
		if p.Registry = *b.Registry; p.Registry < 0 {
			return invalid("registry_id is the number of a registry")
		}
	}
	if err := b.apply(&p); err != nil {
		return err
	}
	id, err := c.estate.AddProject(c.ctx(), c.who, p)
	if err != nil {
		return err
	}
	return c.created(nil, "/projects/%d", id)
}

func (c *call) readProject() error {
	p, err := c.estate.Project(c.ctx(), c.who, c.project())
	if err != nil {
		return err
	}
	return c.ok(c.viewProject(p))
}

func (c *call) updateProject() error {
	var b projectBody
	if err := c.body(&b); err != nil {
		return err
	}
	b.Limit = nil // that is for /quotas, and not for whoever administers the project
	err := c.estate.ChangeProject(c.ctx(), c.who, c.project(), func(p *catalog.Project) error {
		if b.Registry != nil && *b.Registry != 0 {
			p.Registry = *b.Registry
		}
		return b.apply(p)
	})
	if err != nil {
		return err
	}
	return c.done()
}

func (c *call) deleteProject() error {
	if err := c.estate.DeleteProject(c.ctx(), c.who, c.project()); err != nil {
		return err
	}
	return c.done()
}

// deletable tells a client beforehand whether a project would go.
func (c *call) deletable() error {
	p, err := c.estate.Project(c.ctx(), c.who, c.project())
	if err != nil {
		return err
	}
	if err := c.estate.MayIn(c.who, registry.Delete, estate.Projects, p.Name); err != nil {
		return err
	}
	answer := struct {
		Deletable bool   `json:"deletable"`
		Message   string `json:"message,omitempty"`
	}{true, ""}
	if err := c.estate.Deletable(p); err != nil {
		answer.Deletable = false
		if fault, ok := errors.AsType[*registry.Fault](err); ok {
			answer.Message = fault.Message
		}
	}
	return c.ok(answer)
}

func (c *call) listMetadata() error {
	p, err := c.estate.Project(c.ctx(), c.who, c.project())
	if err != nil {
		return err
	}
	return c.ok(metadata(p.Project))
}

func (c *call) readMetadata() error {
	p, err := c.estate.Project(c.ctx(), c.who, c.project())
	if err != nil {
		return err
	}
	name := c.item("name")
	value, ok := metadata(p.Project)[name]
	if !ok {
		return unknown("the project has no metadata of that name")
	}
	return c.ok(map[string]string{name: value})
}

// setMetadata is both POST of some and PUT of one, which have the same body.
func (c *call) setMetadata() error {
	var sent map[string]*string
	if err := c.body(&sent); err != nil {
		return err
	}
	if name := c.item("name"); name != "" {
		value, ok := sent[name]
		if !ok {
			return invalid("the body has no %q", registry.Clip(name))
		}
		sent = map[string]*string{name: value}
	}
	err := c.estate.ChangeProject(c.ctx(), c.who, c.project(), func(p *catalog.Project) error {
		return applyMetadata(p, sent)
	})
	if err != nil {
		return err
	}
	return c.done()
}

func (c *call) deleteMetadata() error {
	name := c.item("name")
	missing := errors.New("missing")
	err := c.estate.ChangeProject(c.ctx(), c.who, c.project(), func(p *catalog.Project) error {
		if _, ok := p.Metadata[name]; !ok || strings.HasPrefix(name, ours) {
			return missing
		}
		delete(p.Metadata, name)
		switch name {
		case "public":
			p.Public = false
		case localOnNotFound:
			p.Policy.KeepGone = false
		}
		return nil
	})
	if errors.Is(err, missing) {
		return unknown("the project has no metadata of that name")
	}
	if err != nil {
		return err
	}
	return c.done()
}

// readSummary is what a project's page begins with.
func (c *call) readSummary() error {
	p, err := c.estate.Project(c.ctx(), c.who, c.project())
	if err != nil {
		return err
	}
	type amount struct {
		Storage int64 `json:"storage"`
	}
	type quota struct {
		Hard amount `json:"hard"`
		Used amount `json:"used"`
	}
	type upstream struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	answer := struct {
		Repos    int64     `json:"repo_count"`
		Admins   int       `json:"project_admin_count"`
		Maint    int       `json:"maintainer_count"`
		Devs     int       `json:"developer_count"`
		Guests   int       `json:"guest_count"`
		Limited  int       `json:"limited_guest_count"`
		Quota    *quota    `json:"quota,omitempty"`
		Registry *upstream `json:"registry,omitempty"`
	}{Repos: p.Repositories}
	// How much a project may have is not for everybody who may pull from it.
	if c.estate.May(c.who, registry.Read, access.Quotas, p.Name) {
		answer.Quota = &quota{amount{limitOf(p.Quota)}, amount{p.Usage.Bytes}}
	}
	// Who is a member is not for everybody who may look at the project.
	if members, err := c.estate.Members(c.ctx(), c.who, estate.Ref{ID: p.ID}, ""); err == nil {
		counts := map[string]*int{
			"projectAdmin": &answer.Admins, "maintainer": &answer.Maint, "developer": &answer.Devs, "guest": &answer.Guests, "limitedGuest": &answer.Limited,
		}
		for _, m := range members {
			if n := counts[m.Role]; n != nil {
				*n++
			}
		}
	}
	if p.Registry != 0 {
		answer.Registry = &upstream{p.Registry, p.RegistryName}
	}
	return c.ok(answer)
}

// noScanner answers as Harbor does where no scanner is set: there is none here.
func (c *call) noScanner() error {
	if _, err := c.estate.Project(c.ctx(), c.who, c.project()); err != nil {
		return err
	}
	return unknown("there is no scanner here")
}
