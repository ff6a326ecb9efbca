package catalog

import (
	"context"
	"fmt"
	"time"
)

// Registry is a registry elsewhere that proxy projects are caches of.
type Registry struct {
	ID           int64  // set by AddRegistry, and never that of another again
	Name         string // what people call it
	Kind         string // "docker-hub", "quay" …: whoever asks it knows what that changes
	URL          string
	Description  string
	Username     string // "" for nobody
	Password     string // sealed; "" for none
	CA           string // PEM of authorities to trust beside the system's
	Insecure     bool   // every certificate is believed
	AllowPrivate bool   // it may be on a private address
	Configured   bool   // the configuration has it and says the rest

	CreatedAt, UpdatedAt time.Time // set by AddRegistry and SetRegistry
}

// AddRegistry writes a new registry and returns its ID. ErrExists says that there is one of that
// name, and does not spoil the transaction.
func (tx *Tx) AddRegistry(r Registry) (id int64, err error) {
	what := "add registry " + r.Name
	if err := tx.absent(what, `SELECT 1 FROM registries WHERE name = $1`, r.Name); err != nil {
		return 0, err
	}
	err = tx.one(`INSERT INTO registries (name, kind, url, description, username, password, ca, insecure, allow_private, configured, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) RETURNING id`,
		[]any{r.Name, r.Kind, r.URL, r.Description, r.Username, r.Password, r.CA, bit(r.Insecure), bit(r.AllowPrivate), bit(r.Configured), millis(time.Now())}, &id)
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return 0, tx.spoil(err, "%s", what)
	}
	return id, nil
}

// SetRegistry writes over the registry of the same ID. ErrNotFound says that there is none, ErrExists
// that another one has the name; neither spoils the transaction.
func (tx *Tx) SetRegistry(r Registry) error {
	what := "set registry " + r.Name
	if err := tx.absent(what, `SELECT 1 FROM registries WHERE name = $1 AND id <> $2`, r.Name, r.ID); err != nil {
		return err
	}
	return tx.alter(what, `UPDATE registries SET name = $2, kind = $3, url = $4, description = $5, username = $6, password = $7,
		ca = $8, insecure = $9, allow_private = $10, configured = $11, updated_at = $12 WHERE id = $1`,
		r.ID, r.Name, r.Kind, r.URL, r.Description, r.Username, r.Password, r.CA, bit(r.Insecure), bit(r.AllowPrivate), bit(r.Configured), millis(time.Now()))
}

// DeleteRegistry removes a registry. ErrNotEmpty says that a project is a cache of it, ErrNotFound
// that there is none; neither spoils the transaction.
func (tx *Tx) DeleteRegistry(id int64) error {
	what := fmt.Sprintf("delete registry %d", id)
	used := false
	if err := tx.one(`SELECT EXISTS (SELECT 1 FROM projects WHERE registry_id = $1)`, []any{id}, &used); err != nil {
		return tx.spoil(err, "%s", what)
	}
	if used {
		return fmt.Errorf("catalog: %s: %w", what, ErrNotEmpty)
	}
	return tx.alter(what, `DELETE FROM registries WHERE id = $1`, id)
}

const registryColumns = `id, name, kind, url, description, username, password, ca, insecure, allow_private, configured, created_at, updated_at`

// Registries lists all registries, in the order of their names.
func (db *DB) Registries(ctx context.Context) ([]Registry, error) {
	return list(ctx, db, "registries", `SELECT `+registryColumns+` FROM registries ORDER BY name`, nil, scanRegistry)
}

// Registries is that of the DB, with what the transaction has changed.
func (tx *Tx) Registries() ([]Registry, error) {
	return listed(tx, "registries", `SELECT `+registryColumns+` FROM registries ORDER BY name`, scanRegistry)
}

// Registry returns a registry, or ErrNotFound.
func (tx *Tx) Registry(id int64) (Registry, error) {
	return only(tx, fmt.Sprintf("registry %d", id), `SELECT `+registryColumns+` FROM registries WHERE id = $1`, []any{id}, scanRegistry)
}

func scanRegistry(scan func(...any) error) (Registry, error) {
	var (
		r                Registry
		created, updated int64
	)
	err := scan(&r.ID, &r.Name, &r.Kind, &r.URL, &r.Description, &r.Username, &r.Password, &r.CA,
		&r.Insecure, &r.AllowPrivate, &r.Configured, &created, &updated)
	r.CreatedAt, r.UpdatedAt = fromMillis(created), fromMillis(updated)
	return r, err
}
