package estate

import (
	"context"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Member is a member of a project as it is shown.
type Member struct {
	catalog.Member
	ProjectID int64
}

// Members lists the members of a project whose names have a text in them; "": all.
func (e *Estate) Members(ctx context.Context, p registry.Principal, ref Ref, text string) ([]Member, error) {
	row, err := e.find(ctx, p, registry.List, access.Members, ref)
	if err != nil {
		return nil, err
	}
	found, err := e.access.FindMembers(ctx, row.Name, text)
	all := make([]Member, len(found))
	for i, m := range found {
		all[i] = Member{m, row.ID}
	}
	return all, err
}

// Member returns a member of a project.
func (e *Estate) Member(ctx context.Context, p registry.Principal, ref Ref, id int64) (Member, error) {
	row, err := e.find(ctx, p, registry.Read, access.Members, ref)
	if err != nil {
		return Member{}, err
	}
	m, err := e.access.MemberByID(ctx, row.Name, id)
	return Member{m, row.ID}, err
}

// AddMember gives a user or a group a role in a project, at most one whose rights whoever gives it has
// himself. A user is named by its number or its name.
func (e *Estate) AddMember(ctx context.Context, p registry.Principal, ref Ref, m catalog.Member) (Member, error) {
	row, err := e.find(ctx, p, registry.Create, access.Members, ref)
	if err != nil {
		return Member{}, err
	}
	if err := e.access.MayGiveRole(p, row.Name, access.Role(m.Role)); err != nil {
		return Member{}, err
	}
	if m.Name == "" && m.UserID != 0 {
		u, err := e.access.UserByID(ctx, m.UserID)
		if err != nil {
			return Member{}, err
		}
		m.Name = u.Name
	}
	m.Project = row.Name
	made, err := e.access.AddMember(ctx, p.Name(), m)
	return Member{made, row.ID}, err
}

// SetRole gives a member of a project another role, as AddMember does.
func (e *Estate) SetRole(ctx context.Context, p registry.Principal, ref Ref, id int64, role access.Role) error {
	row, err := e.find(ctx, p, registry.Update, access.Members, ref)
	if err != nil {
		return err
	}
	if err := e.access.MayGiveRole(p, row.Name, role); err != nil {
		return err
	}
	return e.access.SetRole(ctx, p.Name(), row.Name, id, role)
}

// DeleteMember takes the role of a member of a project away.
func (e *Estate) DeleteMember(ctx context.Context, p registry.Principal, ref Ref, id int64) error {
	row, err := e.find(ctx, p, registry.Delete, access.Members, ref)
	if err != nil {
		return err
	}
	return e.access.DeleteMember(ctx, p.Name(), row.Name, id)
}
