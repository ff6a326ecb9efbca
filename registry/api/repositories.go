package api

import (
	"strings"

	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// repositoryView is a repository as clients see it.
type repositoryView struct {
	ID          int64  `json:"id"`
	Project     int64  `json:"project_id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Artifacts   int64  `json:"artifact_count"`
	Pulls       int64  `json:"pull_count"`
	CreatedAt   stamp  `json:"creation_time"`
	UpdatedAt   stamp  `json:"update_time"`
}

func viewRepository(project int64, r catalog.Repository) repositoryView {
	created := r.CreatedAt
	if created.IsZero() {
		created = r.UpdatedAt
	}
	return repositoryView{r.ID, project, r.Repo.String(), r.Description, r.Artifacts, r.Pulls, stamp(created), stamp(r.UpdatedAt)}
}

// repositories reads what of a list of repositories is asked for.
func (c *call) repositories() (f catalog.RepositoryFilter, p page, err error) {
	q, err := c.filter("name", "project_id")
	if err != nil {
		return f, p, err
	}
	if f.Name = q.is("name"); f.Name == "" {
		f.Contains = q.has("name")
	}
	sort, descending := strings.CutPrefix(c.r.URL.Query().Get("sort"), "-")
	f.Descending = descending
	switch sort {
	case "", "name", "repository":
		f.Order = catalog.ByName
	case "update_time", "creation_time":
		f.Order = catalog.ByUpdate
	default:
		return f, p, invalid("repositories can be sorted by name and update_time")
	}
	p, err = c.page()
	return f, p, err
}

func (c *call) listRepositories() error {
	f, p, err := c.repositories()
	if err != nil {
		return err
	}
	ref := c.project()
	if f.Name != "" && ref.Name != "" && !strings.HasPrefix(f.Name, ref.Name+"/") {
		f.Name = ref.Name + "/" + f.Name
	}
	all, total, err := c.estate.Repositories(c.ctx(), c.who, ref, f, catalog.Page{Offset: p.offset(), Limit: p.limit()})
	if err != nil {
		return err
	}
	return c.viewRepositories(p, all, total)
}

func (c *call) listAllRepositories() error {
	f, p, err := c.repositories()
	if err != nil {
		return err
	}
	all, total, err := c.estate.AllRepositories(c.ctx(), c.who, f, catalog.Page{Offset: p.offset(), Limit: p.limit()})
	if err != nil {
		return err
	}
	return c.viewRepositories(p, all, total)
}

func (c *call) viewRepositories(p page, all []catalog.Repository, total int) error {
	numbers, err := c.numbers()
	if err != nil {
		return err
	}
	if err := c.estate.CountArtifacts(c.ctx(), all); err != nil {
		return err
	}
	var views []repositoryView
	for _, r := range all {
		views = append(views, viewRepository(numbers[r.Repo.Project], r))
	}
	return list(c, p, views, total)
}

// numbers are those of the projects that whoever asks may see.
func (c *call) numbers() (map[string]int64, error) {
	all, err := c.estate.Projects(c.ctx(), c.who)
	numbers := map[string]int64{}
	for _, p := range all {
		numbers[p.Name] = p.ID
	}
	return numbers, err
}

func (c *call) readRepository() error {
	r, err := c.estate.Repository(c.ctx(), c.who, c.project(), c.item("repository"))
	if err != nil {
		return err
	}
	numbers, err := c.numbers()
	if err != nil {
		return err
	}
	one := []catalog.Repository{r}
	if err := c.estate.CountArtifacts(c.ctx(), one); err != nil {
		return err
	}
	return c.ok(viewRepository(numbers[r.Repo.Project], one[0]))
}

func (c *call) updateRepository() error {
	var b struct {
		Description string `json:"description"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	if err := c.estate.Describe(c.ctx(), c.who, c.project(), c.item("repository"), b.Description); err != nil {
		return err
	}
	return c.done()
}

func (c *call) deleteRepository() error {
	if err := c.estate.DeleteRepository(c.ctx(), c.who, c.project(), c.item("repository"), c.r.RemoteAddr); err != nil {
		return err
	}
	return c.done()
}

// search finds projects and repositories by a part of their names, among those that whoever asks may
// see.
func (c *call) search() error {
	text := strings.TrimSpace(c.r.URL.Query().Get("q"))
	type found struct {
		Project     string `json:"project_name"`
		ProjectID   int64  `json:"project_id"`
		Public      bool   `json:"project_public"`
		Name        string `json:"repository_name"`
		Artifacts   int64  `json:"artifact_count"`
		Pulls       int64  `json:"pull_count"`
		Description string `json:"description,omitempty"`
	}
	answer := struct {
		Projects     []projectView `json:"project"`
		Repositories []found       `json:"repository"`
		Charts       []string      `json:"chart"`
	}{[]projectView{}, []found{}, []string{}}
	all, err := c.estate.Projects(c.ctx(), c.who)
	if err != nil {
		return err
	}
	byName := map[string]estate.Project{}
	for _, p := range all {
		byName[p.Name] = p
		if strings.Contains(strings.ToLower(p.Name), strings.ToLower(text)) && len(answer.Projects) < mostFound {
			answer.Projects = append(answer.Projects, c.viewProject(p))
		}
	}
	repos, err := c.estate.Search(c.ctx(), c.who, text, mostFound)
	if err != nil {
		return err
	}
	if err := c.estate.CountArtifacts(c.ctx(), repos); err != nil {
		return err
	}
	for _, r := range repos {
		p := byName[r.Repo.Project]
		answer.Repositories = append(answer.Repositories, found{r.Repo.Project, p.ID, p.Public, r.Repo.String(), r.Artifacts, r.Pulls, r.Description})
	}
	return c.ok(answer)
}

// mostFound bounds what a search answers of each kind: who sees so many types another letter.
const mostFound = 100
