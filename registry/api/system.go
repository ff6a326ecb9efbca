package api

import (
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
)

// harborVersion is the release of Harbor whose API this is: its clients decide by it what they send.
const harborVersion = "v2.15.2"

func (c *call) ping() error { return c.text("Pong") }

// version is how clients find out which API there is before they know where.
func (c *call) version() error { return c.ok(map[string]string{"version": "v2.0"}) }

// readHealth tells how the parts of the house are. Which upstreams there are and what is wrong is for
// administrators. The whole is as healthy as its core: what is cached is served while upstreams are
// away, and whoever watches the house by this call must not be called for that.
func (c *call) readHealth() error {
	all := c.estate.MayIn(c.who, registry.Read, access.Statistics, "") == nil
	type view struct {
		Name   string `json:"name"`
		Status string `json:"status"`
		Error  string `json:"error,omitempty"`
	}
	answer := struct {
		Status     string `json:"status"`
		Components []view `json:"components"`
	}{healthy(true), []view{}}
	for _, part := range c.config.Health(c.ctx()) {
		if !part.Core && !all {
			continue
		}
		v := view{Name: part.Name, Status: healthy(!part.Down)}
		if part.Core && part.Down {
			answer.Status = v.Status
		}
		if all {
			v.Error = part.Error
		}
		answer.Components = append(answer.Components, v)
	}
	return c.ok(answer)
}

func (c *call) readSystem() error {
	answer := map[string]any{
		"auth_mode": c.mode(), "banner_message": "", "self_registration": false, "primary_auth_mode": false,
	}
	if c.known() == nil {
		url := c.config.URL
		if url == "" {
			scheme := "http"
			if c.r.TLS != nil {
				scheme = "https"
			}
			url = scheme + "://" + c.r.Host
		}
		_, host, _ := strings.Cut(url, "://")
		for key, value := range map[string]any{
			"harbor_version": harborVersion + "-roadstead", "roadstead_version": c.config.Version, "external_url": url, "registry_url": host,
			"project_creation_restriction": c.creators(), "has_ca_root": false, "read_only": false, "with_notary": false, "with_chartmuseum": false,
			"registry_storage_provider_name": "filesystem", "notification_enable": false,
		} {
			answer[key] = value
		}
	}
	return c.ok(answer)
}

// mode is how people log in, in Harbor's words.
func (c *call) mode() string {
	if c.config.OIDC {
		return "oidc_auth"
	}
	return "db_auth"
}

// creators are who may create projects.
func (c *call) creators() string {
	if c.access.AnyoneMayCreate() {
		return "everyone"
	}
	return "adminonly"
}

func (c *call) readVolumes() error {
	if err := c.estate.MayIn(c.who, registry.Read, access.Volumes, ""); err != nil {
		return err
	}
	type volume struct {
		Total int64 `json:"total"`
		Free  int64 `json:"free"`
	}
	volumes := []volume{}
	if c.config.Room != nil {
		free, total, err := c.config.Room()
		if err != nil {
			return err
		}
		volumes = append(volumes, volume{total, free})
	}
	return c.ok(map[string]any{"storage": volumes})
}

// readStatistics counts what whoever asks may see; how much is stored is for administrators.
func (c *call) readStatistics() error {
	if err := c.known(); err != nil {
		return err
	}
	all, err := c.estate.Projects(c.ctx(), c.who)
	if err != nil {
		return err
	}
	var answer struct {
		PrivateProjects int64  `json:"private_project_count"`
		PrivateRepos    int64  `json:"private_repo_count"`
		PublicProjects  int64  `json:"public_project_count"`
		PublicRepos     int64  `json:"public_repo_count"`
		Projects        int64  `json:"total_project_count"`
		Repos           int64  `json:"total_repo_count"`
		Storage         *int64 `json:"total_storage_consumption,omitempty"`
	}
	for _, p := range all {
		projects, repos := &answer.PrivateProjects, &answer.PrivateRepos
		if p.Public {
			projects, repos = &answer.PublicProjects, &answer.PublicRepos
		}
		*projects++
		*repos += p.Repositories
		answer.Projects++
		answer.Repos += p.Repositories
	}
	if total, err := c.estate.Totals(c.ctx(), c.who); err == nil {
		answer.Storage = &total.Bytes
	}
	return c.ok(answer)
}
