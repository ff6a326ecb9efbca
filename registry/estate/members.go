package estate

import (
	"context"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Members lists the members of a project whose names have a text in them; "": all.
func (e *Estate) Members(ctx context.Context, p registry.Principal, ref Ref, text string) ([]catalog.Member, error) {
	row, err := e.find(ctx, p, registry.List, access.Members, ref)
	if err != nil {
		return nil, err
	}
	return e.access.FindMembers(ctx, row.Name, text)
}

// Member returns a member of a project.
func (e *Estate) Member(ctx context.Context, p registry.Principal, ref Ref, id int64) (catalog.Member, error) {
	row, err := e.find(ctx, p, registry.Read, access.Members, ref)
	if err != nil {
		return catalog.Member{}, err
	}
	return e.access.MemberByID(ctx, row.Name, id)
}

// AddMember gives a user or a group a role in a project. A user is named by its number or its name.
func (e *Estate) AddMember(ctx context.Context, p registry.Principal, ref Ref, m catalog.Member) (catalog.Member, error) {
	row, err := e.find(ctx, p, registry.Create, access.Members, ref)
	if err != nil {
		return catalog.Member{}, err
	}
	if m.Name == "" && m.UserID != 0 {
		u, err := e.access.UserByID(ctx, m.UserID)
		if err != nil {
			return catalog.Member{}, err
		}
		m.Name = u.Name
	}
	m.Project = row.Name
	return e.access.AddMember(ctx, p.Name(), m)
}

// SetRole gives a member of a project another role.
func (e *Estate) SetRole(ctx context.Context, p registry.Principal, ref Ref, id int64, role access.Role) error {
	row, err := e.find(ctx, p, registry.Update, access.Members, ref)
	if err != nil {
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
