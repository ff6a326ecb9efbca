package catalog

import (
	"context"
)

// Member is a role that somebody has in a project.
type Member struct {
	ID      int64 // set when it is written, and never that of another again
	Project string
	Group   bool   // Name is a group of the OIDC provider, and no user
	Name    string // of a user or group
	Role    string // what it means is known to who decides about requests
	UserID  int64  // of the user; 0 for a group. It is read only
}

// AddMember writes a role that somebody has not had in that project, and returns its ID. ErrExists
// says that the same one has a role there, and does not spoil the transaction.
func (tx *Tx) AddMember(m Member) (int64, error) {
	what := "add member " + m.Name + " of " + m.Project
	if err := tx.absent(what, `SELECT 1 FROM members WHERE project = $1 AND is_group = $2 AND name = $3`, m.Project, bit(m.Group), m.Name); err != nil {
		return 0, err
	}
	var id int64
	err := tx.one(`INSERT INTO members (project, is_group, name, role) VALUES ($1, $2, $3, $4) RETURNING id`,
		[]any{m.Project, bit(m.Group), m.Name, m.Role}, &id)
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return 0, tx.spoil(err, "%s", what)
	}
	return id, nil
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

// A user has the ID of the user; a group has none.
const memberRows = `SELECT m.id, m.project, m.is_group, m.name, m.role, COALESCE(u.id, 0)
	FROM members m LEFT JOIN users u ON m.is_group = 0 AND u.name = m.name `

// Member returns a member of a project by its ID, or ErrNotFound, which does not spoil the
// transaction. The ID of a member of another project is that of none.
func (tx *Tx) Member(project string, id int64) (Member, error) {
	return only(tx, "member of "+project, memberRows+`WHERE m.project = $1 AND m.id = $2`, []any{project, id}, scanMember)
}

// Member returns a member of a project by its ID, or ErrNotFound.
func (db *DB) Member(ctx context.Context, project string, id int64) (Member, error) {
	return lone(ctx, db, "member of "+project, memberRows+`WHERE m.project = $1 AND m.id = $2`, []any{project, id}, scanMember)
}

// Members lists the members of a project, or of all projects when it is empty: by project, users
// before groups, in the order of their names.
func (db *DB) Members(ctx context.Context, project string) ([]Member, error) {
	return db.members(ctx, project, "")
}

// FindMembers is Members of those whose names have some text in them, in whatever case.
func (db *DB) FindMembers(ctx context.Context, project, text string) ([]Member, error) {
	return db.members(ctx, project, text)
}

func (db *DB) members(ctx context.Context, project, text string) ([]Member, error) {
	return list(ctx, db, "members", memberRows+`WHERE (m.project = $1 OR $1 = '') AND lower(m.name) LIKE $2 ESCAPE '\'
		ORDER BY m.project, m.is_group, m.name`, []any{project, containing(text)}, scanMember)
}

func scanMember(scan func(...any) error) (Member, error) {
	var m Member
	err := scan(&m.ID, &m.Project, &m.Group, &m.Name, &m.Role, &m.UserID)
	return m, err
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
