package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// repositoryList is the page of a project, or of what a search has found.
type repositoryList struct {
	tabs
	Repositories []catalog.Repository
	Filter       string
	Order        []choice
	Pager        pager
	Pull         string // what to type to pull the first image through an empty project
}

func showProject(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	page := repositoryList{tabs: v.tabs(p, "repositories"), Filter: strings.TrimSpace(q.Get("q"))}
	filter := catalog.RepositoryFilter{Contains: page.Filter}
	for _, o := range []struct {
		name  string
		order catalog.RepositoryOrder
	}{{"name", catalog.ByName}, {"updated", catalog.ByUpdate}, {"pulled", catalog.ByPull}} {
		chosen := q.Get("order") == o.name || o.name == "name" && q.Get("order") == ""
		if chosen {
			filter.Order, filter.Descending = o.order, o.order != catalog.ByName
		}
		page.Order = append(page.Order, choice{Name: o.name, Text: v.say("order." + o.name), Chosen: chosen})
	}
	slice := v.slice()
	var total int
	if page.Repositories, total, err = v.config.Estate.Repositories(v.r.Context(), v.me, estate.Ref{ID: p.ID}, filter, slice); err != nil {
		return err
	}
	page.Pager = v.pager(slice, len(page.Repositories), total)
	page.Pull = v.firstPull(p)
	return v.show(http.StatusOK, "project", p.Name, page)
}

// firstPull is what to type to see something come into a project.
func (v *visit) firstPull(p estate.Project) string {
	host := v.address().Host
	switch {
	case p.Hosted():
		return "docker tag app:1.0 " + host + "/" + p.Name + "/app:1.0\ndocker push " + host + "/" + p.Name + "/app:1.0"
	case strings.Contains(p.RegistryName, "docker.io") || p.Name == "docker.io":
		return "docker pull " + host + "/" + p.Name + "/library/busybox"
	}
	return "docker pull " + host + "/" + p.Name + "/NAME:TAG"
}

// found is the page of a search.
type found struct {
	Query        string
	Projects     []estate.Project
	Repositories []catalog.Repository
	More         bool
}

func search(v *visit) error {
	page := found{Query: strings.TrimSpace(v.r.URL.Query().Get("q"))}
	if page.Query != "" {
		all, err := v.config.Estate.Projects(v.r.Context(), v.me)
		if err != nil {
			return err
		}
		page.Projects = slices.DeleteFunc(all, func(p estate.Project) bool { return !strings.Contains(p.Name, strings.ToLower(page.Query)) })
		if page.Repositories, err = v.config.Estate.Search(v.r.Context(), v.me, page.Query, pageSize+1); err != nil {
			return err
		}
		if page.More = len(page.Repositories) > pageSize; page.More {
			page.Repositories = page.Repositories[:pageSize]
		}
	}
	return v.show(http.StatusOK, "search", v.say("search.title"), page)
}

// artifactList is the page of a repository.
type artifactList struct {
	catalog.Repository
	Project   estate.Project
	Artifacts []catalog.Artifact
	Filter    string
	Kinds     []choice
	Pager     pager
	CanDelete bool
	Name      string // as clients call it
}

// repo is the repository that the address names.
func (v *visit) repo() (registry.Repo, error) {
	name := v.r.PathValue("name")
	repo := registry.SplitRepo(name)
	if len(name) > registry.MaxName || registry.CheckProject(repo.Project) != nil || repo.Name == "" {
		return registry.Repo{}, errNoPage
	}
	return repo, nil
}

func showRepository(v *visit) error {
	repo, err := v.repo()
	if err != nil {
		return err
	}
	page := artifactList{Filter: strings.TrimSpace(v.r.URL.Query().Get("q"))}
	if page.Project, err = v.config.Estate.Project(v.r.Context(), v.me, estate.Ref{Name: repo.Project}); err != nil {
		return err
	}
	if page.Repository, err = v.config.Estate.Repository(v.r.Context(), v.me, estate.Ref{Name: repo.Project}, repo.Name); err != nil {
		return err
	}
	filter := catalog.ArtifactFilter{Tag: page.Filter}
	show := v.r.URL.Query().Get("show")
	for _, k := range []string{"images", "tagged", "all"} {
		chosen := show == k || k == "images" && show == ""
		page.Kinds = append(page.Kinds, choice{Name: k, Text: v.say("show." + k), Chosen: chosen})
	}
	// What is part of an index, or refers to an image, is shown there.
	filter.Roots, filter.Tagged = show == "" || show == "images", show == "tagged"
	slice := v.slice()
	var total int
	if page.Artifacts, total, err = v.config.Estate.Artifacts(v.r.Context(), v.me, estate.Ref{Name: repo.Project}, repo.Name, filter, slice); err != nil {
		return err
	}
	page.Pager = v.pager(slice, len(page.Artifacts), total)
	page.CanDelete = v.config.Estate.MayDelete(v.me, page.Project.Project, registry.Repository)
	page.Name = v.address().Host + "/" + repo.String()
	return v.show(http.StatusOK, "repository", repo.String(), page)
}

// address is where this server is, as clients and browsers reach it.
func (v *visit) address() *url.URL {
	u, err := url.Parse(v.config.Access.Base(v.r))
	if err != nil {
		return &url.URL{}
	}
	return u
}
