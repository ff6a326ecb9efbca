package console

import (
	"net/http"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// memberList is the page of who is in a project.
type memberList struct {
	tabs
	Members   []estate.Member
	Roles     []access.Role
	New       catalog.Member // as it was typed
	Groups    bool           // there is a provider that has some
	CanCreate bool
	CanChange bool
	CanDelete bool
	Error     *trouble
}

func (v *visit) showMembers(status int, page memberList, p estate.Project) error {
	var err error
	if page.Members, err = v.config.Estate.Members(v.r.Context(), v.me, estate.Ref{ID: p.ID}, ""); err != nil {
		return err
	}
	page.tabs, page.Roles, page.Groups = v.tabs(p, "members"), access.Roles, v.config.Issuer != ""
	page.CanCreate = v.may(registry.Create, access.Members, p.Name)
	page.CanChange = v.may(registry.Update, access.Members, p.Name)
	page.CanDelete = v.may(registry.Delete, access.Members, p.Name)
	return v.show(status, "members", v.say("members.title", p.Name), page)
}

func listMembers(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	return v.showMembers(http.StatusOK, memberList{New: catalog.Member{Role: string(access.Developer)}}, p)
}

func addMember(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	page := memberList{New: catalog.Member{
		Name: strings.TrimSpace(v.r.PostFormValue("name")), Role: v.r.PostFormValue("role"), Group: v.r.PostFormValue("group") != "",
	}}
	if _, err = v.config.Estate.AddMember(v.r.Context(), v.me, estate.Ref{ID: p.ID}, page.New); err == nil {
		return v.done(home+"projects/"+pathOf(p.Name)+"/members", "member.created")
	}
	t := v.trouble(err)
	if !t.amends() && t.Status != http.StatusNotFound {
		return err
	}
	t.Field = "name"
	page.Error = &t
	return v.showMembers(t.Status, page, p)
}

// changeMember gives a member another role or, by another button of the same form, none.
func changeMember(v *visit) error {
	p, err := v.shownProject()
	if err != nil {
		return err
	}
	id, err := v.number("id")
	if err != nil {
		return err
	}
	back, ref := home+"projects/"+pathOf(p.Name)+"/members", estate.Ref{ID: p.ID}
	if err := v.config.Estate.SetRole(v.r.Context(), v.me, ref, id, access.Role(v.r.PostFormValue("role"))); err != nil {
		return err
	}
	return v.done(back, "member.changed")
}

func (v *visit) memberConfirmation() (confirmation, estate.Project, estate.Member, error) {
	p, err := v.shownProject()
	if err != nil {
		return confirmation{}, p, estate.Member{}, err
	}
	id, err := v.number("id")
	if err != nil {
		return confirmation{}, p, estate.Member{}, err
	}
	m, err := v.config.Estate.Member(v.r.Context(), v.me, estate.Ref{ID: p.ID}, id)
	base := home + "projects/" + pathOf(p.Name) + "/members"
	return confirmation{
		What: "member.delete", Name: m.Name, Consequence: v.say("member.delete.consequence", p.Name),
		Action: v.r.URL.Path, Back: base, Button: v.say("remove"),
	}, p, m, err
}

func confirmMember(v *visit) error {
	c, _, _, err := v.memberConfirmation()
	if err != nil {
		return err
	}
	return v.confirm(c)
}

func deleteMember(v *visit) error {
	c, p, m, err := v.memberConfirmation()
	if err != nil {
		return err
	}
	if err := v.config.Estate.DeleteMember(v.r.Context(), v.me, estate.Ref{ID: p.ID}, m.ID); err != nil {
		return v.refuse(c, err)
	}
	return v.done(c.Back, "member.deleted")
}
