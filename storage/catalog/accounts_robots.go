package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"roadstead/registry"
)

// Robot is an account of a machine.
type Robot struct {
	ID          int64  // set by AddRobot, and never that of another again
	Project     string // "" for a robot of the system
	Name        string // without the project and what is before it
	Description string
	Disabled    bool
	Permissions []Permission
	CreatedAt   time.Time // set by AddRobot
	ExpiresAt   time.Time // zero: never
}

// Permission is what a robot may do in a project, or in all of them when that is "*".
type Permission struct {
	Project string   `json:"project"`
	Access  []Access `json:"access"`
}

// Access is an action on the resources of a kind.
type Access struct {
	Kind   registry.Kind   `json:"kind"`
	Action registry.Action `json:"action"`
}

// FullName is what a robot logs in with, as Harbor makes it: "robot$name", or
// "robot$project+name" for the robot of a project.
func (r Robot) FullName() string {
	if r.Project == "" {
		return "robot$" + r.Name
	}
	return "robot$" + r.Project + "+" + r.Name
}

// AddRobot writes a new robot and returns its ID. secret is a SHA-256. ErrExists says that there
// is one of that name in that project, and does not spoil the transaction.
func (tx *Tx) AddRobot(r Robot, secret []byte) (int64, error) {
	what := "add " + r.FullName()
	if err := tx.absent(what, `SELECT 1 FROM robots WHERE project = $1 AND name = $2`, r.Project, r.Name); err != nil {
		return 0, err
	}
	permissions, err := json.Marshal(append([]Permission{}, r.Permissions...))
	if err != nil {
		return 0, tx.spoil(err, "%s", what)
	}
	var id int64
	err = tx.one(`INSERT INTO robots (project, name, description, secret, disabled, permissions, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`,
		[]any{r.Project, r.Name, r.Description, secret, bit(r.Disabled), string(permissions), millis(time.Now()), millis(r.ExpiresAt)}, &id)
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return 0, tx.spoil(err, "%s", what)
	}
	return id, nil
}

// RenewRobot gives a robot another secret and another end. ErrNotFound here and in what follows
// says that there is no such robot, and does not spoil the transaction.
func (tx *Tx) RenewRobot(project, name string, secret []byte, expires time.Time) error {
	return tx.alter("renew "+Robot{Project: project, Name: name}.FullName(),
		`UPDATE robots SET secret = $3, password = '', expires_at = $4 WHERE project = $1 AND name = $2`, project, name, secret, millis(expires))
}

// SetRobotSecret gives a robot another secret, a SHA-256, or a password, a hash in PHC form: the
// other one is empty then.
func (tx *Tx) SetRobotSecret(id int64, secret []byte, password string) error {
	return tx.alter("set secret of a robot", `UPDATE robots SET secret = $2, password = $3 WHERE id = $1`,
		id, append([]byte{}, secret...), password)
}

// UpdateRobot writes the description, the permissions and the end of a robot, and whether it is
// disabled. What it is called and where it belongs does not change.
func (tx *Tx) UpdateRobot(r Robot) error {
	permissions, err := json.Marshal(append([]Permission{}, r.Permissions...))
	if err != nil {
		return tx.spoil(err, "update %s", r.FullName())
	}
	return tx.alter("update "+r.FullName(), `UPDATE robots SET description = $2, disabled = $3, permissions = $4, expires_at = $5 WHERE id = $1`,
		r.ID, r.Description, bit(r.Disabled), string(permissions), millis(r.ExpiresAt))
}

// forgetPermissions takes away what robots of the system may do in a project: they are not let into
// another one of its name.
func (tx *Tx) forgetPermissions(project string) error {
	var all []Robot
	err := tx.each(`SELECT `+robotColumns+` FROM robots WHERE project = ''`, nil, func(rows *sql.Rows) error {
		r, err := scanRobot(rows.Scan)
		all = append(all, r)
		return err
	})
	of := func(p Permission) bool { return p.Project == project }
	for _, r := range all {
		if err == nil && slices.ContainsFunc(r.Permissions, of) {
			r.Permissions = slices.DeleteFunc(r.Permissions, of)
			err = tx.UpdateRobot(r)
		}
	}
	return err
}

// DisableRobot shuts a robot out, or lets it in again.
func (tx *Tx) DisableRobot(project, name string, disabled bool) error {
	return tx.alter("disable "+Robot{Project: project, Name: name}.FullName(),
		`UPDATE robots SET disabled = $3 WHERE project = $1 AND name = $2`, project, name, bit(disabled))
}

// DeleteRobot removes a robot.
func (tx *Tx) DeleteRobot(project, name string) error {
	return tx.alter("delete "+Robot{Project: project, Name: name}.FullName(),
		`DELETE FROM robots WHERE project = $1 AND name = $2`, project, name)
}

const robotColumns = `id, project, name, description, disabled, permissions, created_at, expires_at`

// Robots lists all robots, those of the system first and then by project, in the order of their
// names, without their secrets.
func (db *DB) Robots(ctx context.Context) ([]Robot, error) {
	return list(ctx, db, "robots", `SELECT `+robotColumns+` FROM robots ORDER BY project, name`, nil, scanRobot)
}

// Robot returns a robot, or ErrNotFound, which does not spoil the transaction.
func (tx *Tx) Robot(project, name string) (Robot, error) {
	full := Robot{Project: project, Name: name}.FullName()
	return only(tx, full, `SELECT `+robotColumns+` FROM robots WHERE project = $1 AND name = $2`, []any{project, name}, scanRobot)
}

// RobotByID returns a robot, or ErrNotFound, which does not spoil the transaction.
func (tx *Tx) RobotByID(id int64) (Robot, error) {
	return only(tx, "robot", `SELECT `+robotColumns+` FROM robots WHERE id = $1`, []any{id}, scanRobot)
}

// RobotByID returns a robot, or ErrNotFound.
func (db *DB) RobotByID(ctx context.Context, id int64) (Robot, error) {
	return lone(ctx, db, "robot", `SELECT `+robotColumns+` FROM robots WHERE id = $1`, []any{id}, scanRobot)
}

func scanRobot(scan func(...any) error) (Robot, error) {
	var (
		r                Robot
		permissions      string
		created, expires int64
	)
	err := scan(&r.ID, &r.Project, &r.Name, &r.Description, &r.Disabled, &permissions, &created, &expires)
	if err == nil {
		err = json.Unmarshal([]byte(permissions), &r.Permissions)
	}
	r.CreatedAt, r.ExpiresAt = fromMillis(created), fromMillis(expires)
	return r, err
}
