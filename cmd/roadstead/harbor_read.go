package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"roadstead/registry/access"
)

// What Harbor answers with, as far as it is of use here. Its API has more in each of these.

type harborInfo struct {
	AuthMode    string `json:"auth_mode"`
	Version     string `json:"harbor_version"` // only for who has logged in
	ExternalURL string `json:"external_url"`
	Storage     string `json:"registry_storage_provider_name"` // "filesystem", "s3" …; only for administrators
}

type harborMe struct {
	Username string `json:"username"`
	Admin    bool   `json:"sysadmin_flag"`
}

type harborRegistry struct {
	ID         int64  `json:"id"`
	Name       string `json:"name"`
	URL        string `json:"url"`
	Type       string `json:"type"`
	Insecure   bool   `json:"insecure"`
	CA         string `json:"ca_certificate"`
	Credential struct {
		Key string `json:"access_key"`
	} `json:"credential"`
}

type harborProject struct {
	ID       int64             `json:"project_id"`
	Name     string            `json:"name"`
	Registry int64             `json:"registry_id"` // 0: people push to it
	Metadata map[string]string `json:"metadata"`
	Repos    int               `json:"repo_count"`
	CVE      harborAllowlist   `json:"cve_allowlist"`

	// What has an address of its own.
	members   []harborMember
	robots    []harborRobot
	immutable []json.RawMessage
	retention json.RawMessage // nil: none
	labels    []harborNamed
	webhooks  []harborNamed
	preheats  []harborNamed
	quota     int64 // bytes; -1: any number
}

type harborAllowlist struct {
	Items []json.RawMessage `json:"items"`
}

type harborMember struct {
	Name string `json:"entity_name"`
	Type string `json:"entity_type"` // "u" or "g"
	Role string `json:"role_name"`
}

type harborRobot struct {
	Name        string `json:"name"` // "robot$name" or "robot$project+name"
	Level       string `json:"level"`
	Description string `json:"description"`
	Disable     bool   `json:"disable"`
	ExpiresAt   int64  `json:"expires_at"` // in Unix time; -1: never
	Permissions []struct {
		Kind      string        `json:"kind"`
		Namespace string        `json:"namespace"`
		Access    []access.Word `json:"access"`
	} `json:"permissions"`
}

type harborUser struct {
	ID    int64  `json:"user_id"`
	Name  string `json:"username"`
	Email string `json:"email"`
	Admin bool   `json:"sysadmin_flag"`
}

type harborQuota struct {
	Ref struct {
		ID int64 `json:"id"`
	} `json:"ref"`
	Hard struct {
		Storage int64 `json:"storage"`
	} `json:"hard"`
}

type harborNamed struct {
	Name string `json:"name"`
}

type harborReplication struct {
	Name    string      `json:"name"`
	From    harborNamed `json:"src_registry"`
	To      harborNamed `json:"dest_registry"`
	Enabled bool        `json:"enabled"`
}

type harborSchedule struct {
	Schedule struct {
		Type string `json:"type"` // "None", "Hourly", "Daily", "Weekly", "Custom", or nothing at all
		Cron string `json:"cron"`
	} `json:"schedule"`
	Parameters string `json:"job_parameters"` // JSON
}

// set reports whether something runs by it.
func (s harborSchedule) set() bool {
	return s.Schedule.Cron != "" || s.Schedule.Type != "" && s.Schedule.Type != "None" && s.Schedule.Type != "Manual"
}

// parameter is one of what the schedule's job is told, as text. "": it is not.
func (s harborSchedule) parameter(name string) string {
	var all map[string]any
	if json.Unmarshal([]byte(s.Parameters), &all) != nil || all[name] == nil {
		return ""
	}
	return fmt.Sprint(all[name])
}

// harborEstate is all of a Harbor that can be read.
type harborEstate struct {
	base         string
	info         harborInfo
	me           harborMe
	registries   []harborRegistry
	projects     []harborProject
	robots       []harborRobot // of no project
	users        []harborUser
	replications []harborReplication
	labels       []harborNamed
	config       map[string]string // the values that are set, as text
	gc, scan     harborSchedule
	purge        harborSchedule // of the audit log
	cve          harborAllowlist

	gaps []harborGap
}

// harborGap is something that Harbor did not show.
type harborGap struct {
	what     string
	why      *harborError
	projects []string // of which it was asked for; none: it is the whole server's
}

// meet finds out whether there is a Harbor, and whether it knows who asks.
func (h *harbor) meet(ctx context.Context) (info harborInfo, me harborMe, err error) {
	_, err = h.get(ctx, "/systeminfo", &info)
	if e, ok := errors.AsType[*harborError](err); ok {
		switch e.status {
		case http.StatusNotFound:
			return info, me, fmt.Errorf("%w; there is no Harbor 2 at %s: --url is that of its portal, and Harbor 1 has to be upgraded first", err, h.base)
		case http.StatusUnauthorized:
			return info, me, h.stranger(err)
		}
	}
	if err == nil && info.AuthMode == "" {
		err = fmt.Errorf("%s answers, and not as Harbor does; --url is that of its portal", h.base)
	}
	if err != nil {
		return info, me, err
	}
	_, err = h.get(ctx, "/users/current", &me)
	e, ok := errors.AsType[*harborError](err)
	if ok && e.status == http.StatusUnauthorized {
		return info, me, h.stranger(err)
	}
	if _, ok := unreadable(err); ok {
		return info, harborMe{Username: h.username}, nil // a robot is no user, and is told so
	}
	return info, me, err
}

func (h *harbor) stranger(err error) error {
	return fmt.Errorf("%w: Harbor does not know user %s by this password; the password in --password-file is that of Harbor's own login, and people who sign in by OIDC have a CLI secret in its place", err, oneLine(h.username))
}

// read reads everything.
func (h *harbor) read(ctx context.Context, tell func(done, all int)) (*harborEstate, error) {
	e := &harborEstate{base: h.base}
	var err error
	if e.info, e.me, err = h.meet(ctx); err != nil {
		return nil, err
	}
	if e.projects, err = pages[harborProject](ctx, h, "/projects"); err != nil {
		return nil, err
	}
	r := harborReader{ctx, h, e, nil}
	list(&r, "endpoints of registries", "", "/registries", &e.registries)
	list(&r, "robots of the system", "", "/robots", &e.robots)
	list(&r, "users", "", "/users", &e.users)
	list(&r, "replications", "", "/replication/policies", &e.replications)
	list(&r, "labels", "", "/labels?scope=g", &e.labels)
	var settings map[string]struct{ Value any }
	r.one("settings", "", "/configurations", &settings)
	e.config = map[string]string{}
	for key, s := range settings {
		if s.Value != nil {
			e.config[key] = fmt.Sprint(s.Value)
		}
	}
	r.one("schedule of collections", "", "/system/gc/schedule", &e.gc)
	r.one("schedule of scans", "", "/system/scanAll/schedule", &e.scan)
	r.one("schedule of the audit log's purge", "", "/system/purgeaudit/schedule", &e.purge)
	r.one("list of allowed CVEs", "", "/system/CVEAllowlist", &e.cve)
	quotas, summaries := r.quotas()
	for i := range e.projects {
		tell(i, len(e.projects))
		p := &e.projects[i]
		p.quota = -1
		if quota, ok := quotas[p.ID]; ok {
			p.quota = quota
		} else if summaries {
			r.quota(p)
		}
		r.project(p)
	}
	return e, r.err
}

// harborReader reads what may be there or not. After an error that is none of Harbor's own it reads
// nothing any more.
type harborReader struct {
	ctx context.Context
	*harbor
	estate *harborEstate
	err    error
}

// project reads what belongs to a project.
func (r *harborReader) project(p *harborProject) {
	at := fmt.Sprintf("/projects/%d", p.ID)
	list(r, "members", p.Name, at+"/members", &p.members)
	list(r, "robots", p.Name, "/robots?q="+url.QueryEscape(fmt.Sprintf("Level=project,ProjectID=%d", p.ID)), &p.robots)
	list(r, "labels", p.Name, fmt.Sprintf("/labels?scope=p&project_id=%d", p.ID), &p.labels)
	list(r, "webhooks", p.Name, at+"/webhook/policies", &p.webhooks)
	if id := p.Metadata["retention_id"]; id != "" && strings.Trim(id, "0123456789") == "" {
		r.one("retention", p.Name, "/retentions/"+id, &p.retention)
	}
	list(r, "preheating", p.Name, "/projects/"+url.PathEscape(p.Name)+"/preheat/policies", &p.preheats)
	if p.Registry == 0 { // tags of a proxy are upstream's
		list(r, "immutable tags", p.Name, at+"/immutabletagrules", &p.immutable)
	}
}

// quotas are those of all projects, in bytes by their numbers. Who may not read them, as summaries says,
// may read that of a project of his own.
func (r *harborReader) quotas() (all map[int64]int64, summaries bool) {
	if r.err != nil {
		return nil, false
	}
	list, err := pages[harborQuota](r.ctx, r.harbor, "/quotas?reference=project")
	if _, ok := unreadable(err); ok {
		return nil, true
	}
	r.err = err
	all = map[int64]int64{}
	for _, q := range list {
		all[q.Ref.ID] = q.Hard.Storage
	}
	return all, false
}

// quota reads that of a project.
func (r *harborReader) quota(p *harborProject) {
	var summary struct {
		Quota struct {
			Hard struct {
				Storage *int64 `json:"storage"`
			} `json:"hard"`
		} `json:"quota"`
	}
	if r.one("quota", p.Name, fmt.Sprintf("/projects/%d/summary", p.ID), &summary); summary.Quota.Hard.Storage != nil {
		p.quota = *summary.Quota.Hard.Storage
	}
}

// one reads a thing.
func (r *harborReader) one(what, project, path string, into any) {
	if r.err == nil {
		_, err := r.get(r.ctx, path, into)
		r.met(what, project, err)
	}
}

// list reads a list of things.
func list[T any](r *harborReader, what, project, path string, into *[]T) {
	if r.err == nil {
		all, err := pages[T](r.ctx, r.harbor, path)
		*into = all
		r.met(what, project, err)
	}
}

// met takes down that something was not shown, or keeps the error.
func (r *harborReader) met(what, project string, err error) {
	why, ok := unreadable(err)
	if !ok {
		r.err = err
		return
	}
	gaps := r.estate.gaps
	for i := range gaps {
		if g := &gaps[i]; g.what == what && g.why.status == why.status && project != "" {
			g.projects = append(g.projects, project)
			return
		}
	}
	g := harborGap{what: what, why: why}
	if project != "" {
		g.projects = []string{project}
	}
	r.estate.gaps = append(gaps, g)
}
