package console

import (
	"net/http"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// robotList is the page of the robots of a project.
type robotList struct {
	tabs
	Robots    []robotRow
	New       newRobot
	Secret    string // of the robot that was made or renewed just now
	Named     string // that robot
	Host      string
	CanCreate bool
	CanChange bool
	CanDelete bool
	Error     *trouble
}

type robotRow struct {
	catalog.Robot
	May     []string // keys of what it may do
	Expired bool
}

// newRobot is a robot as it was typed.
type newRobot struct {
	Name, Description, Days string
	Push, Delete            bool
}

func (v *visit) showRobots(status int, page robotList, p estate.Project) error {
	all, err := v.config.Estate.Robots(v.r.Context(), v.me, estate.Ref{ID: p.ID})
	if err != nil {
		return err
	}
	for _, r := range all {
		row := robotRow{Robot: r, Expired: !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(time.Now())}
		for _, word := range []struct {
			key    string
			kind   registry.Kind
			action registry.Action
		}{{"pull", registry.Repository, registry.Pull}, {"push", registry.Repository, registry.Push}, {"delete", registry.Artifact, registry.Delete}} {
			for _, permission := range r.Permissions {
				for _, a := range permission.Access {
					if a.Kind == word.kind && a.Action == word.action {
						row.May = append(row.May, word.key)
					}
				}
			}
		}
		page.Robots = append(page.Robots, row)
	}
	page.tabs, page.Host = v.tabs(p, "robots"), v.address().Host
	page.CanCreate = v.may(registry.Create, access.Robots, p.Name)
	page.CanChange = v.may(registry.Update, access.Robots, p.Name)
	page.CanDelete = v.may(registry.Delete, access.Robots, p.Name)
	return v.show(status, "robots", v.say("robots.title", p.Name), page)
}

func listRobots(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	return v.showRobots(http.StatusOK, robotList{New: newRobot{Days: "90"}}, p)
}

// addRobot makes a robot and shows its secret, in the answer to the request that made it and never
// again.
func addRobot(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	form := v.r.PostForm
	page := robotList{New: newRobot{
		Name: strings.TrimSpace(form.Get("name")), Description: form.Get("description"), Days: strings.TrimSpace(form.Get("days")),
		Push: form.Get("push") != "", Delete: form.Get("delete") != "",
	}}
	r, err := page.New.robot(p)
	if err == nil {
		var made catalog.Robot
		if made, page.Secret, err = v.config.Estate.AddRobot(v.r.Context(), v.me, r); err == nil {
			page.New, page.Named = newRobot{Days: "90"}, made.FullName()
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
	switch {
	case n.Name == "":
		return r, estate.Wrong("name", "robot.name", "give the robot a name, such as ci")
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
	permission, err := access.Permit(p.Name, may...)
	r.Permissions = []catalog.Permission{permission}
	return r, err
}

// robotOf is the robot that the address names, of the project that it names.
func (v *visit) robotOf() (p estate.Project, r catalog.Robot, err error) {
	if p, err = v.shownProject(); err != nil {
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
		return v.showRobots(http.StatusOK, robotList{Secret: secret, Named: r.FullName(), New: newRobot{Days: "90"}}, p)
	case "disable", "enable":
		disabled := v.r.PostFormValue("do") == "disable"
		err := v.config.Estate.ChangeRobot(v.r.Context(), v.me, r.ID, func(next *catalog.Robot) error {
			next.Disabled = disabled
			return nil
		})
		if err != nil {
			return err
		}
		return v.done(home+"projects/"+pathOf(p.Name)+"/robots", "robot.changed")
	}
	return errForm
}

func (v *visit) robotConfirmation(p estate.Project, r catalog.Robot) confirmation {
	return confirmation{
		What: "robot.delete", Name: r.FullName(), Consequence: v.say("robot.delete.consequence"),
		Action: v.r.URL.Path, Back: home + "projects/" + pathOf(p.Name) + "/robots", Button: v.say("delete"),
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
