package catalog

import (
	"context"
	"database/sql"
	"fmt"
)

// Member is a role that somebody has in a project.
type Member struct {
	Project string
	Group   bool   // Name is a group of the OIDC provider, and no user
	Name    string // of a user or group
	Role    string // what it means is known to who decides about requests
}

// PutMember writes a role, over what the same one has in that project.
func (tx *Tx) PutMember(m Member) error {
	_, err := tx.exec(`INSERT INTO members (project, is_group, name, role) VALUES ($1, $2, $3, $4)
		ON CONFLICT (project, is_group, name) DO UPDATE SET role = excluded.role`, m.Project, bit(m.Group), m.Name, m.Role)
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return tx.spoil(err, "put member %s of %s", m.Name, m.Project)
	}
	return nil
}

// DeleteMember takes the role away that m has in its project. ErrNotFound says that it has none,
// and does not spoil the transaction.
func (tx *Tx) DeleteMember(m Member) error {
	return tx.alter("delete member "+m.Name+" of "+m.Project,
		`DELETE FROM members WHERE project = $1 AND is_group = $2 AND name = $3`, m.Project, bit(m.Group), m.Name)
}

// Members lists the members of a project, or of all projects when it is empty: by project, users
// before groups, in the order of their names.
func (db *DB) Members(ctx context.Context, project string) ([]Member, error) {
	var all []Member
	err := db.read.each(ctx, `SELECT project, is_group, name, role FROM members WHERE project = $1 OR $1 = ''
		ORDER BY project, is_group, name`, []any{project}, func(rows *sql.Rows) error {
		var m Member
		err := rows.Scan(&m.Project, &m.Group, &m.Name, &m.Role)
		all = append(all, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: members: %w", db.explain(err))
	}
	return all, nil
}

// deserted removes the members and robots of a project that goes: whoever makes one of that name
// again must not find theirs in it.
func (tx *Tx) deserted(project string) error {
	_, err := tx.exec(`DELETE FROM members WHERE project = $1`, project)
	if err == nil {
		_, err = tx.exec(`DELETE FROM robots WHERE project = $1`, project)
	}
	return err
}
