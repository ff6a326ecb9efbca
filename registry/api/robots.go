package api

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

const (
	day = 24 * time.Hour

	// robotDays is how long a robot lasts of which a client does not say it, as in Harbor.
	robotDays = 30
)

// robotView is a robot as clients see it.
type robotView struct {
	ID          int64            `json:"id"`
	Name        string           `json:"name"`
	Description string           `json:"description"`
	Level       string           `json:"level"`
	Duration    int64            `json:"duration"`   // days; -1: without end
	ExpiresAt   int64            `json:"expires_at"` // in Unix time; -1: never
	Disable     bool             `json:"disable"`
	Editable    bool             `json:"editable"`
	Permissions []permissionBody `json:"permissions"`
	CreatedAt   stamp            `json:"creation_time"`
	UpdatedAt   stamp            `json:"update_time"`
}

// permissionBody is what a robot may do in a namespace.
type permissionBody struct {
	Kind      string        `json:"kind"`
	Namespace string        `json:"namespace"`
	Access    []access.Word `json:"access"`
}

func viewRobot(r catalog.Robot) robotView {
	v := robotView{
		ID: r.ID, Name: r.FullName(), Description: r.Description, Level: "project", Duration: daysOf(r), ExpiresAt: -1,
		Disable: r.Disabled, Editable: true, Permissions: []permissionBody{}, CreatedAt: stamp(r.CreatedAt), UpdatedAt: stamp(r.CreatedAt),
	}
	if r.Project == "" {
		v.Level = "system"
	}
	if !r.ExpiresAt.IsZero() {
		v.ExpiresAt = r.ExpiresAt.Unix()
	}
	for _, p := range r.Permissions {
		kind, namespace, words := access.WordsOf(p)
		v.Permissions = append(v.Permissions, permissionBody{kind, namespace, words})
	}
	return v
}

// daysOf is how many days a robot lasts from its creation on.
func daysOf(r catalog.Robot) int64 {
	if r.ExpiresAt.IsZero() {
		return -1
	}
	return int64((r.ExpiresAt.Sub(r.CreatedAt) + day/2) / day)
}

// robotBody is what clients send of a robot.
type robotBody struct {
	Name        string           `json:"name"`
	Description *string          `json:"description"`
	Level       string           `json:"level"`
	Duration    *int64           `json:"duration"`
	Disable     *bool            `json:"disable"`
	Secret      string           `json:"secret"`
	Permissions []permissionBody `json:"permissions"`
}

// permissions are those of the body.
func (b robotBody) permissions() ([]catalog.Permission, error) {
	var all []catalog.Permission
	for _, p := range b.Permissions {
		one, err := access.PermissionOf(cmp.Or(p.Kind, "project"), p.Namespace, p.Access)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, invalid("a robot that may do nothing is of no use: it has no permissions")
	}
	return all, nil
}

// end is when a robot ends that lasts for some days from a time on.
func end(from time.Time, days int64) (time.Time, error) {
	switch {
	case days == -1:
		return time.Time{}, nil
	case days <= 0 || days > 100*365:
		return time.Time{}, invalid("the duration of a robot is a number of days, or -1 for no end")
	}
	return from.Add(time.Duration(days) * day), nil
}

// project is the project that a robot of the level project is of: the only one that it has
// permissions in.
func (b robotBody) project() (string, error) {
	switch b.Level {
	case "system":
		return "", nil
	case "project":
	default:
		return "", invalid("the level of a robot is system or project")
	}
	name := ""
	for _, p := range b.Permissions {
		if p.Kind != "project" || p.Namespace == "*" || name != "" && name != p.Namespace {
			return "", invalid("a robot of a project has permissions in that project only: for more, make one of the level system")
		}
		name = p.Namespace
	}
	return name, nil
}

func (c *call) createRobot() error {
	var b robotBody
	if err := c.body(&b); err != nil {
		return err
	}
	project, err := b.project()
	if err != nil {
		return err
	}
	r := catalog.Robot{Project: project, Name: b.Name}
	if b.Level == "project" && project == "" {
		return invalid("a robot that may do nothing is of no use: it has no permissions")
	}
	if r.Permissions, err = b.permissions(); err != nil {
		return err
	}
	days := int64(robotDays)
	if b.Duration != nil && *b.Duration != 0 {
		days = *b.Duration
	}
	if r.ExpiresAt, err = end(time.Now(), days); err != nil {
		return err
	}
	set(&r.Description, b.Description)
	set(&r.Disabled, b.Disable)
	made, secret, err := c.estate.AddRobot(c.ctx(), c.who, r)
	if err != nil {
		return err
	}
	if b.Secret != "" {
		if _, err := c.estate.SetRobotSecret(c.ctx(), c.who, made.ID, b.Secret); err != nil {
			// Nobody has been told of the robot: it goes with its request.
			_ = c.estate.DeleteRobot(c.ctx(), c.who, made.ID)
			return err
		}
		secret = b.Secret
	}
	v := viewRobot(made)
	return c.created(struct {
		ID        int64  `json:"id"`
		Name      string `json:"name"`
		Secret    string `json:"secret"`
		CreatedAt stamp  `json:"creation_time"`
		ExpiresAt int64  `json:"expires_at"`
	}{v.ID, v.Name, secret, v.CreatedAt, v.ExpiresAt}, "/robots/%d", made.ID)
}

// listRobots lists those of the system, or with Level and ProjectID in q those of a project.
func (c *call) listRobots() error {
	f, err := c.filter("Level", "ProjectID", "name", "id")
	if err != nil {
		return err
	}
	ref := estate.Ref{}
	if id := f.is("ProjectID"); id != "" && f.is("Level") != "system" {
		if ref.ID, err = strconv.ParseInt(id, 10, 64); err != nil || ref.ID <= 0 {
			return invalid("ProjectID is the number of a project")
		}
		delete(f, folded("ProjectID"))
	} else if f.is("Level") == "project" {
		return invalid("robots of the level project are listed by their project: add ProjectID to q")
	}
	all, err := c.estate.Robots(c.ctx(), c.who, ref)
	if err != nil {
		return err
	}
	var views []robotView
	for _, r := range all {
		fits := (f.fits("name", r.FullName()) || f.fits("name", r.Name)) && f.fits("id", strconv.FormatInt(r.ID, 10))
		if fits {
			views = append(views, viewRobot(r))
		}
	}
	err = order(c, views, map[string]func(a, b robotView) int{
		"name":          func(a, b robotView) int { return strings.Compare(a.Name, b.Name) },
		"id":            func(a, b robotView) int { return cmp.Compare(a.ID, b.ID) },
		"creation_time": func(a, b robotView) int { return time.Time(a.CreatedAt).Compare(time.Time(b.CreatedAt)) },
		"expires_at":    func(a, b robotView) int { return cmp.Compare(a.ExpiresAt, b.ExpiresAt) },
	})
	if err != nil {
		return err
	}
	return cut(c, views)
}

func (c *call) readRobot() error {
	id, err := c.number("id", "robot")
	if err != nil {
		return err
	}
	r, err := c.estate.Robot(c.ctx(), c.who, id)
	if err != nil {
		return err
	}
	return c.ok(viewRobot(r))
}

func (c *call) updateRobot() error {
	id, err := c.number("id", "robot")
	if err != nil {
		return err
	}
	var b robotBody
	if err := c.body(&b); err != nil {
		return err
	}
	err = c.estate.ChangeRobot(c.ctx(), c.who, id, func(r *catalog.Robot) error { return b.apply(r) })
	if err != nil {
		return err
	}
	return c.done()
}

// apply writes what the body says into a robot, which keeps its name and its level.
func (b robotBody) apply(r *catalog.Robot) error {
	v := viewRobot(*r)
	if b.Name != "" && b.Name != r.Name && b.Name != v.Name || b.Level != "" && b.Level != v.Level {
		return invalid("the name and the level of a robot stay as they are: make another one")
	}
	set(&r.Description, b.Description)
	set(&r.Disabled, b.Disable)
	if b.Permissions != nil {
		project, err := robotBody{Level: v.Level, Permissions: b.Permissions}.project()
		if err != nil {
			return err
		}
		if project != r.Project {
			return invalid("the robot is one of project %s", r.Project)
		}
		if r.Permissions, err = b.permissions(); err != nil {
			return err
		}
	}
	if b.Duration == nil || *b.Duration == 0 || *b.Duration == v.Duration {
		return nil
	}
	var err error
	r.ExpiresAt, err = end(r.CreatedAt, *b.Duration)
	return err
}

// setRobotSecret gives a robot a secret that somebody chose, or makes one up and tells it.
func (c *call) setRobotSecret() error {
	id, err := c.number("id", "robot")
	if err != nil {
		return err
	}
	var b struct {
		Secret string `json:"secret"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	made, err := c.estate.SetRobotSecret(c.ctx(), c.who, id, b.Secret)
	if err != nil {
		return err
	}
	return c.ok(struct {
		Secret string `json:"secret,omitempty"`
	}{made})
}

func (c *call) deleteRobot() error {
	id, err := c.number("id", "robot")
	if err != nil {
		return err
	}
	if err := c.estate.DeleteRobot(c.ctx(), c.who, id); err != nil {
		return err
	}
	return c.done()
}

// listPermissions are all that robots can be given.
func (c *call) listPermissions() error {
	if err := c.known(); err != nil {
		return err
	}
	if _, _, _, robot := c.access.Describe(c.who); robot {
		return &registry.Fault{Code: registry.Denied, Message: "this is for whoever makes robots"}
	}
	system, project := access.PermissionWords()
	return c.ok(map[string][]access.Word{"system": system, "project": project})
}
