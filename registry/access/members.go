package access

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// checkProject says whether a project is one that members and robots can belong to.
func (a *Access) checkProject(project string) error {
	if err := registry.CheckProject(project); err != nil {
		return invalid("%q is no project: its name is lower-case letters and digits joined by single '.', '_' or '-'", registry.Clip(project))
	}
	if _, ok := a.now.Load().projects[project]; !ok {
		return &registry.Fault{Code: registry.NameUnknown, Message: "there is no project " + project + ": create it first"}
	}
	return nil
}

// Members lists the members of a project, users before groups, in the order of their names.
func (a *Access) Members(ctx context.Context, project string) ([]catalog.Member, error) {
	if err := a.checkProject(project); err != nil {
		return nil, err
	}
	return a.catalog.Members(ctx, project)
}

// SetMember gives a user or a group a role in a project, instead of the one it may have there.
// A group need not be known: it is what the OIDC provider says of users who log in.
func (a *Access) SetMember(ctx context.Context, by string, m catalog.Member) error {
	if err := a.checkMember(m); err != nil {
		return err
	}
	return a.change(ctx, deed{by, registry.Update, Members, m.Project, described(m)}, func(tx *catalog.Tx) error {
		if !m.Group {
			if _, err := tx.User(m.Name); err != nil {
				return noUser(m.Name, err)
			}
		}
		return tx.PutMember(m)
	})
}

// checkMember says whether somebody may be a member like that.
func (a *Access) checkMember(m catalog.Member) error {
	if err := a.checkProject(m.Project); err != nil {
		return err
	}
	if rankOf(Role(m.Role)) == 0 {
		var names []string
		for _, role := range Roles {
			names = append(names, string(role))
		}
		return invalid("%q is no role: take one of %s", registry.Clip(m.Role), strings.Join(names, ", "))
	}
	if m.Group && (m.Name == "" || len(m.Name) > maxUser || m.Name != plain(m.Name)) {
		return improper("group.name", "%q cannot be a group: it is 1 to %d bytes without control characters", registry.Clip(m.Name), maxUser)
	}
	return nil
}

// RemoveMember takes the role away that a user or a group has in a project, at once.
func (a *Access) RemoveMember(ctx context.Context, by string, m catalog.Member) error {
	if err := a.checkProject(m.Project); err != nil {
		return err
	}
	m.Role = ""
	return a.change(ctx, deed{by, registry.Delete, Members, m.Project, described(m)}, func(tx *catalog.Tx) error {
		err := tx.DeleteMember(m)
		if errors.Is(err, catalog.ErrNotFound) {
			err = &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf("%s is no member of project %s", m.Name, m.Project)}
		}
		return err
	})
}

func noUser(name string, err error) error {
	if errors.Is(err, catalog.ErrNotFound) {
		return registry.Because(registry.NameUnknown, nil, "user.unknown", "there is no user %s", registry.Clip(name))
	}
	return err
}

// described is what the audit log says of a member.
func described(m catalog.Member) string {
	kind := "user"
	if m.Group {
		kind = "group"
	}
	return strings.TrimSpace(kind + " " + m.Name + " " + m.Role)
}
