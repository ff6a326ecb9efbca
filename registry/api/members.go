package api

import (
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// memberView is a role in a project as clients see it.
type memberView struct {
	ID       int64  `json:"id"`
	Project  int64  `json:"project_id"`
	Name     string `json:"entity_name"`
	Role     string `json:"role_name"`
	RoleID   int    `json:"role_id"`
	EntityID int64  `json:"entity_id"`
	Type     string `json:"entity_type"` // u for a user, g for a group
}

func viewMember(m estate.Member) memberView {
	v := memberView{ID: m.ID, Project: m.ProjectID, Name: m.Name, Role: m.Role, RoleID: access.RoleNumber(access.Role(m.Role)), EntityID: m.UserID, Type: "u"}
	if m.Group {
		v.Type = "g"
	}
	return v
}

func (c *call) listMembers() error {
	all, err := c.estate.Members(c.ctx(), c.who, c.project(), c.r.URL.Query().Get("entityname"))
	if err != nil {
		return err
	}
	var views []memberView
	for _, m := range all {
		views = append(views, viewMember(m))
	}
	return cut(c, views)
}

func (c *call) createMember() error {
	var b struct {
		Role int `json:"role_id"`
		User *struct {
			ID   int64  `json:"user_id"`
			Name string `json:"username"`
		} `json:"member_user"`
		Group *struct {
			Name string `json:"group_name"`
		} `json:"member_group"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	role, err := access.RoleByNumber(b.Role)
	if err != nil {
		return err
	}
	m := catalog.Member{Role: string(role)}
	switch {
	case b.User != nil && (b.User.ID != 0 || b.User.Name != ""):
		m.UserID, m.Name = b.User.ID, b.User.Name
	case b.Group != nil && b.Group.Name != "":
		m.Group, m.Name = true, b.Group.Name
	default:
		return invalid("member_user has a user_id or a username, or member_group a group_name")
	}
	made, err := c.estate.AddMember(c.ctx(), c.who, c.project(), m)
	if err != nil {
		return err
	}
	return c.created(nil, "/projects/%d/members/%d", made.ProjectID, made.ID)
}

func (c *call) readMember() error {
	member, err := c.number("id", "member")
	if err != nil {
		return err
	}
	m, err := c.estate.Member(c.ctx(), c.who, c.project(), member)
	if err != nil {
		return err
	}
	return c.ok(viewMember(m))
}

func (c *call) updateMember() error {
	member, err := c.number("id", "member")
	if err != nil {
		return err
	}
	var b struct {
		Role int `json:"role_id"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	role, err := access.RoleByNumber(b.Role)
	if err != nil {
		return err
	}
	if err := c.estate.SetRole(c.ctx(), c.who, c.project(), member, role); err != nil {
		return err
	}
	return c.done()
}

func (c *call) deleteMember() error {
	member, err := c.number("id", "member")
	if err != nil {
		return err
	}
	if err := c.estate.DeleteMember(c.ctx(), c.who, c.project(), member); err != nil {
		return err
	}
	return c.done()
}
