package console

import (
	"net/http"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// projectList is the page of all projects that somebody may look at.
type projectList struct {
	Projects  []estate.Project
	Filter    string
	All       int
	CanCreate bool
}

func listProjects(v *visit) error {
	all, err := v.config.Estate.Projects(v.r.Context(), v.me)
	if err != nil {
		return err
	}
	page := projectList{Filter: strings.TrimSpace(v.r.URL.Query().Get("q")), All: len(all), CanCreate: v.may(registry.Create, access.Settings, "")}
	for _, p := range all {
		if strings.Contains(p.Name, strings.ToLower(page.Filter)) {
			page.Projects = append(page.Projects, p)
		}
	}
	return v.show(http.StatusOK, "projects", v.say("nav.projects"), page)
}

// projectForm is the page on which a project is made.
type projectForm struct {
	Project    catalog.Project
	Hosted     bool
	CanProxy   bool // else it is hosted
	Registries []estate.Registry
	Quota      string
	Error      *trouble
}

func (v *visit) showNewProject(status int, f projectForm) error {
	if f.CanProxy = v.may(registry.List, access.Registries, ""); !f.CanProxy {
		f.Hosted = true
	} else {
		var err error
		if f.Registries, err = v.config.Estate.Registries(v.r.Context(), v.me); err != nil {
			return err
		}
	}
	return v.show(status, "project_new", v.say("project.new"), f)
}

func newProject(v *visit) error {
	if !v.may(registry.Create, access.Settings, "") {
		return &registry.Fault{Code: registry.Denied}
	}
	return v.showNewProject(http.StatusOK, projectForm{Hosted: v.r.URL.Query().Get("kind") == "hosted"})
}

func addProject(v *visit) error {
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	form := v.r.PostForm
	f := projectForm{Hosted: form.Get("kind") == "hosted", Quota: form.Get("quota")}
	f.Project = catalog.Project{Name: strings.TrimSpace(form.Get("name")), Public: form.Get("public") != ""}
	err := f.read(form.Get("registry"))
	if err == nil {
		_, err = v.config.Estate.AddProject(v.r.Context(), v.me, f.Project)
	}
	if err == nil {
		return v.done(home+"projects/"+pathOf(f.Project.Name), "project.created")
	}
	t := v.trouble(err)
	if !t.amends() {
		return err
	}
	f.Error = &t
	return v.showNewProject(t.Status, f)
}

// read reads what is of one kind of project only.
func (f *projectForm) read(of string) (err error) {
	if f.Hosted {
		f.Project.Quota, err = parseSize(f.Quota)
		return err
	}
	f.Project.Registry = parseNumber(of)
	if f.Project.Registry <= 0 {
		return estate.Wrong("registry", "registry.choose", "choose the registry that the project is a cache of")
	}
	return nil
}

// shownProject is the project that the address names.
func (v *visit) shownProject() (estate.Project, error) {
	return v.config.Estate.Project(v.r.Context(), v.me, estate.Ref{Name: v.r.PathValue("project")})
}

// tabs are the pages of a project.
type tabs struct {
	Project estate.Project
	Tabs    []choice
}

// tabs lists those of them that somebody may see.
func (v *visit) tabs(p estate.Project, chosen string) tabs {
	base := home + "projects/" + pathOf(p.Name)
	t := tabs{Project: p}
	for _, tab := range []struct {
		name, path string
		shown      bool
	}{
		{"repositories", "", true},
		{"members", "/members", v.may(registry.List, access.Members, p.Name)},
		{"robots", "/robots", v.may(registry.List, access.Robots, p.Name)},
		{"settings", "/settings", v.may(registry.Update, access.Settings, p.Name)},
	} {
		if tab.shown {
			t.Tabs = append(t.Tabs, choice{tab.name, v.say("tab." + tab.name), base + tab.path, tab.name == chosen})
		}
	}
	return t
}

func (v *visit) projectConfirmation(p estate.Project) confirmation {
	base := home + "projects/" + pathOf(p.Name)
	return confirmation{
		What: "project.delete", Name: p.Name, Consequence: v.say("project.delete.consequence"),
		Action: base + "/delete", Back: base + "/settings", Button: v.say("delete"), Typed: p.Name,
	}
}

func confirmProject(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	return v.confirm(v.projectConfirmation(p))
}

func deleteProject(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	c := v.projectConfirmation(p)
	if v.r.PostFormValue("typed") != p.Name {
		return v.refuse(c, estate.Wrong("typed", "typed.wrong", "the name that was typed is not that of the project"))
	}
	if err := v.config.Estate.DeleteProject(v.r.Context(), v.me, estate.Ref{ID: p.ID}); err != nil {
		return v.refuse(c, err)
	}
	return v.done(home+"projects", "project.deleted")
}
