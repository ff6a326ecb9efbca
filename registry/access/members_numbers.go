package access

import (
	"context"
	"errors"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What is here names members by their numbers, as the API does. A number is never that of another
// member again, and one of another project is that of none.

// FindMembers is Members of those whose names have some text in them, in whatever case.
func (a *Access) FindMembers(ctx context.Context, project, text string) ([]catalog.Member, error) {
	if err := a.checkProject(project); err != nil {
		return nil, err
	}
	return a.catalog.FindMembers(ctx, project, text)
}

// MemberByID returns a member of a project; registry.NameUnknown says that it has none of that
// number.
func (a *Access) MemberByID(ctx context.Context, project string, id int64) (catalog.Member, error) {
	if err := a.checkProject(project); err != nil {
		return catalog.Member{}, err
	}
	m, err := a.catalog.Member(ctx, project, id)
	return m, numbered(err, Members, id)
}

// AddMember gives a user or a group a role in a project, and returns the member with its ID.
// registry.Conflict says that it has one there, which SetRole changes.
func (a *Access) AddMember(ctx context.Context, by string, m catalog.Member) (made catalog.Member, err error) {
	if err := a.checkMember(m); err != nil {
		return catalog.Member{}, err
	}
	err = a.change(ctx, deed{by, registry.Create, Members, m.Project, described(m)}, func(tx *catalog.Tx) error {
		if !m.Group {
			if _, err := tx.User(m.Name); err != nil {
				return noUser(m.Name, err)
			}
		}
		id, err := tx.AddMember(m)
		if errors.Is(err, catalog.ErrExists) {
			return registry.Because(registry.Conflict, nil, "member.taken", "%s is a member of project %s already: change its role", m.Name, m.Project)
		}
		if err == nil {
			made, err = tx.Member(m.Project, id)
		}
		return err
	})
	if err != nil {
		return catalog.Member{}, err
	}
	return made, nil
}

// SetRole gives a member of a project another role.
func (a *Access) SetRole(ctx context.Context, by, project string, id int64, role Role) error {
	m, err := a.MemberByID(ctx, project, id)
	if err != nil {
		return err
	}
	m.Role = string(role)
	if err := a.checkMember(m); err != nil {
		return err
	}
	return a.change(ctx, deed{by, registry.Update, Members, project, described(m)}, func(tx *catalog.Tx) error {
		if _, err := tx.Member(project, id); err != nil {
			return numbered(err, Members, id)
		}
		return tx.PutMember(m)
	})
}

// DeleteMember takes the role of a member of a project away, at once.
func (a *Access) DeleteMember(ctx context.Context, by, project string, id int64) error {
	m, err := a.MemberByID(ctx, project, id)
	if err != nil {
		return err
	}
	m.Role = ""
	return a.change(ctx, deed{by, registry.Delete, Members, project, described(m)}, func(tx *catalog.Tx) error {
		if _, err := tx.Member(project, id); err != nil {
			return numbered(err, Members, id)
		}
		return tx.DeleteMember(m)
	})
}
