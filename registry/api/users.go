package api

import (
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// userView is a user as clients see it.
type userView struct {
	ID        int64  `json:"user_id"`
	Name      string `json:"username"`
	Email     string `json:"email"`
	RealName  string `json:"realname"`
	Comment   string `json:"comment"`
	Admin     bool   `json:"sysadmin_flag"`
	ByGroup   bool   `json:"admin_role_in_auth"` // an administrator by a group of the OIDC provider
	CreatedAt stamp  `json:"creation_time"`
	UpdatedAt stamp  `json:"update_time"`
}

func viewUser(u catalog.User) userView {
	return userView{ID: u.ID, Name: u.Name, Email: u.Email, RealName: u.RealName, Comment: u.Comment, Admin: u.Admin, CreatedAt: stamp(u.CreatedAt), UpdatedAt: stamp(u.CreatedAt)}
}

// readCurrent tells whoever asks who it is. Harbor answers robots 412, by which clients know them.
func (c *call) readCurrent() error {
	if err := c.known(); err != nil {
		return err
	}
	_, user, admin, robot := c.access.Describe(c.who)
	if robot || user == nil {
		return &registry.Fault{Code: estate.InUse, Message: "a robot is no user"}
	}
	v := viewUser(*user)
	v.ByGroup = admin && !user.Admin
	v.Admin = admin
	return c.ok(v)
}

func (c *call) listUsers() error {
	f, err := c.filter("username", "email")
	if err != nil {
		return err
	}
	p, err := c.page()
	if err != nil {
		return err
	}
	wanted := catalog.UserFilter{NameHas: c.r.URL.Query().Get("username"), Name: f.is("username"), Email: f.is("email")}
	if part := f.part("username"); part != "" {
		wanted.NameHas = part
	}
	wanted.EmailHas = f.part("email")
	all, total, err := c.estate.Users(c.ctx(), c.who, wanted, p.offset(), p.limit())
	if err != nil {
		return err
	}
	var views []userView
	for _, u := range all {
		views = append(views, viewUser(u))
	}
	return list(c, p, views, total)
}

// searchUsers is for whoever makes users members, and tells no more than that needs.
func (c *call) searchUsers() error {
	text := strings.TrimSpace(c.r.URL.Query().Get("username"))
	if text == "" {
		return invalid("username is missing")
	}
	all, err := c.estate.SearchUsers(c.ctx(), c.who, text, maxPageSize)
	if err != nil {
		return err
	}
	type view struct {
		ID   int64  `json:"user_id"`
		Name string `json:"username"`
	}
	var views []view
	for _, u := range all {
		views = append(views, view{u.ID, u.Name})
	}
	return cut(c, views)
}

// createUser makes a user. To administer everything is a call of its own, whatever else the body says.
func (c *call) createUser() error {
	var b struct {
		Name     string `json:"username"`
		Email    string `json:"email"`
		RealName string `json:"realname"`
		Comment  string `json:"comment"`
		Password string `json:"password"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	u, err := c.estate.AddUser(c.ctx(), c.who, access.NewUser{
		Name: b.Name, Profile: catalog.Profile{Email: b.Email, RealName: b.RealName, Comment: b.Comment}, Password: b.Password,
	})
	if err != nil {
		return err
	}
	return c.created(nil, "/users/%d", u.ID)
}

func (c *call) readUser() error {
	id, err := c.number("id", "user")
	if err != nil {
		return err
	}
	u, err := c.estate.User(c.ctx(), c.who, id)
	if err != nil {
		return err
	}
	return c.ok(viewUser(u))
}

func (c *call) updateUser() error {
	id, err := c.number("id", "user")
	if err != nil {
		return err
	}
	var b struct {
		Email    *string `json:"email"`
		RealName *string `json:"realname"`
		Comment  *string `json:"comment"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	err = c.estate.SetProfile(c.ctx(), c.who, id, func(p *catalog.Profile) {
		set(&p.Email, b.Email)
		set(&p.RealName, b.RealName)
		set(&p.Comment, b.Comment)
	})
	if err != nil {
		return err
	}
	return c.done()
}

func (c *call) setPassword() error {
	id, err := c.number("id", "user")
	if err != nil {
		return err
	}
	var b struct {
		Old string `json:"old_password"`
		New string `json:"new_password"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	if err := c.estate.SetPassword(c.ctx(), c.who, id, b.Old, b.New, c.r.RemoteAddr); err != nil {
		return err
	}
	return c.done()
}

func (c *call) setAdmin() error {
	id, err := c.number("id", "user")
	if err != nil {
		return err
	}
	var b struct {
		Admin *bool `json:"sysadmin_flag"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	if b.Admin == nil {
		return invalid("sysadmin_flag is missing")
	}
	if err := c.estate.SetAdmin(c.ctx(), c.who, id, *b.Admin); err != nil {
		return err
	}
	return c.done()
}

func (c *call) deleteUser() error {
	id, err := c.number("id", "user")
	if err != nil {
		return err
	}
	if err := c.estate.DeleteUser(c.ctx(), c.who, id); err != nil {
		return err
	}
	return c.done()
}
