package console

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// robotList is the page of the robots of a project, or of those that are of none.
type robotList struct {
	tabs
	System    bool
	Base      string // where the robots are
	Robots    []robotRow
	New       newRobot
	Choices   []string // projects that a robot of the system can be for
	Secret    string   // of the robot that was made or renewed just now
	Named     string   // that robot
	Host      string
	CanCreate bool
	CanChange bool
	CanDelete bool
	Error     *trouble
}

type robotRow struct {
	catalog.Robot
	May     []string // keys of what it may do
	In      []string // projects where it may; "*" is all
	Expired bool
}

// newRobot is a robot as it was typed.
type newRobot struct {
	Name, Description, Days string
	Push, Delete            bool
	All                     bool     // of the system: in all projects
	In                      []string // of the system: in these
}

// Chosen reports whether a project was ticked.
func (n newRobot) Chosen(project string) bool { return slices.Contains(n.In, project) }

// robotWords are what a robot's rights are called.
var robotWords = []struct {
	key    string
	kind   registry.Kind
	action registry.Action
}{{"pull", registry.Repository, registry.Pull}, {"push", registry.Repository, registry.Push}, {"delete", registry.Artifact, registry.Delete}}

// describeRobot says what a robot may do, and where. Whatever a robot that was made by the API may do
// beside that is not told.
func describeRobot(r catalog.Robot, now time.Time) robotRow {
	row := robotRow{Robot: r, Expired: !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(now)}
	for _, permission := range r.Permissions {
		if permission.Project == access.SystemScope {
			row.May = append(row.May, "system")
			continue
		}
		row.In = append(row.In, permission.Project)
	}
	for _, word := range robotWords {
		if slices.ContainsFunc(r.Permissions, func(p catalog.Permission) bool {
			return p.Project != access.SystemScope && slices.Contains(p.Access, catalog.Access{Kind: word.kind, Action: word.action})
		}) {
			row.May = append(row.May, word.key)
		}
	}
	return row
}

// showRobots shows the robots of a project, or with the zero Project those of the system.
func (v *visit) showRobots(status int, page robotList, p estate.Project) error {
	ref, title := estate.Ref{ID: p.ID}, v.say("robots.title", p.Name)
	page.Base = robotsOf(p)
	if page.System = p.ID == 0; page.System {
		ref, title = estate.Ref{}, v.say("robots.system")
	}
	all, err := v.config.Estate.Robots(v.r.Context(), v.me, ref)
	if err != nil {
		return err
	}
	for _, r := range all {
		page.Robots = append(page.Robots, describeRobot(r, time.Now()))
	}
	page.Host = v.address().Host
	page.CanCreate = v.may(registry.Create, access.Robots, p.Name)
	page.CanChange = v.may(registry.Update, access.Robots, p.Name)
	page.CanDelete = v.may(registry.Delete, access.Robots, p.Name)
	if !page.System {
		page.tabs = v.tabs(p, "robots")
		return v.show(status, "robots", title, page)
	}
	projects, err := v.config.Estate.Projects(v.r.Context(), v.me)
	for _, one := range projects {
		page.Choices = append(page.Choices, one.Name)
	}
	if err != nil {
		return err
	}
	return v.show(status, "robots", title, page)
}

// robotsOf is where the robots of a project are, or with the zero Project those of the system.
func robotsOf(p estate.Project) string {
	if p.ID == 0 {
		return home + "robots"
	}
	return home + "projects/" + pathOf(p.Name) + "/robots"
}

// owner is the project that the address names, or the zero Project where it names none.
func (v *visit) owner() (estate.Project, error) {
	if v.r.PathValue("project") == "" {
		return estate.Project{}, nil
	}
	return v.shownProject()
}

// blankRobot is the form before anything is typed: a secret that ends by itself is one less to
// think of.
var blankRobot = newRobot{Days: "90", All: true}

func listRobots(v *visit) error {
	p, err := v.owner()
	if err != nil {
		return err
	}
	return v.showRobots(http.StatusOK, robotList{New: blankRobot}, p)
}

// addRobot makes a robot and shows its secret, in the answer to the request that made it and never
// again.
func addRobot(v *visit) error {
	p, err := v.owner()
	if err != nil {
		return err
	}
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	form := v.r.PostForm
	page := robotList{New: newRobot{
		Name: strings.TrimSpace(form.Get("name")), Description: form.Get("description"), Days: strings.TrimSpace(form.Get("days")),
		Push: form.Get("push") != "", Delete: form.Get("delete") != "", All: form.Get("in") != "some", In: form["project"],
	}}
	r, err := page.New.robot(p)
	if err == nil {
		var made catalog.Robot
		if made, page.Secret, err = v.config.Estate.AddRobot(v.r.Context(), v.me, r); err == nil {
			page.New, page.Named = blankRobot, made.FullName()
			return v.showRobots(http.StatusOK, page, p)
		}
	}
	t := v.trouble(err)
	if !t.amends() {
		return err
	}
	if t.Field == "" {
		t.Field = "name"
	}
	page.Error = &t
	return v.showRobots(t.Status, page, p)
}

// robot is what was typed.
func (n newRobot) robot(p estate.Project) (r catalog.Robot, err error) {
	r = catalog.Robot{Project: p.Name, Name: n.Name, Description: n.Description}
	in := []string{p.Name}
	if p.ID == 0 {
		in = n.In
		if n.All {
			in = []string{"*"}
		}
	}
	switch {
	case n.Name == "":
		return r, estate.Wrong("name", "robot.name", "give the robot a name, such as ci")
	case p.ID == 0 && n.All && len(n.In) > 0:
		return r, estate.Wrong("in", "robot.in.both", "choose all projects, or these: not both")
	case len(in) == 0:
		return r, estate.Wrong("in", "robot.in", "choose at least one project, or all of them")
	case n.Days != "":
		days := parseNumber(n.Days)
		if days <= 0 || days > 36500 {
			return r, estate.Wrong("days", "robot.days", "write a number of days, or nothing for a robot without end")
		}
		r.ExpiresAt = time.Now().Add(time.Duration(days) * 24 * time.Hour)
	}
	may := []string{"pull"}
	if n.Push {
		may = append(may, "push")
	}
	if n.Delete {
		may = append(may, "delete")
	}
	for _, project := range in {
		permission, err := access.Permit(project, may...)
		if err != nil {
			return r, err
		}
		r.Permissions = append(r.Permissions, permission)
	}
	return r, nil
}

// robotOf is the robot that the address names, of the project that it names.
func (v *visit) robotOf() (p estate.Project, r catalog.Robot, err error) {
	if p, err = v.owner(); err != nil {
		return p, r, err
	}
	id, err := v.number("id")
	if err != nil {
		return p, r, err
	}
	if r, err = v.config.Estate.Robot(v.r.Context(), v.me, id); err == nil && r.Project != p.Name {
		err = errNoPage
	}
	return p, r, err
}

// changeRobot renews the secret of a robot, or lets it in or shuts it out.
func changeRobot(v *visit) error {
	p, r, err := v.robotOf()
	if err != nil {
		return err
	}
	switch v.r.PostFormValue("do") {
	case "renew":
		secret, err := v.config.Estate.SetRobotSecret(v.r.Context(), v.me, r.ID, "")
		if err != nil {
			return err
		}
		return v.showRobots(http.StatusOK, robotList{Secret: secret, Named: r.FullName(), New: blankRobot}, p)
	case "disable", "enable":
		disabled := v.r.PostFormValue("do") == "disable"
		err := v.config.Estate.ChangeRobot(v.r.Context(), v.me, r.ID, func(next *catalog.Robot) error {
			next.Disabled = disabled
			return nil
		})
		if err != nil {
			return err
		}
		return v.done(robotsOf(p), "robot.changed")
	}
	return errForm
}

func (v *visit) robotConfirmation(p estate.Project, r catalog.Robot) confirmation {
	return confirmation{
		What: "robot.delete", Name: r.FullName(), Consequence: v.say("robot.delete.consequence"),
		Action: v.r.URL.Path, Back: robotsOf(p), Button: v.say("delete"),
	}
}

func confirmRobot(v *visit) error {
	p, r, err := v.robotOf()
	if err != nil {
		return err
	}
	return v.confirm(v.robotConfirmation(p, r))
}

func deleteRobot(v *visit) error {
	p, r, err := v.robotOf()
	if err != nil {
		return err
	}
	c := v.robotConfirmation(p, r)
	if err := v.config.Estate.DeleteRobot(v.r.Context(), v.me, r.ID); err != nil {
		return v.refuse(c, err)
	}
	return v.done(c.Back, "robot.deleted")
}
