package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Project is a hosted project: one that people push to. What it has is never evicted.
type Project struct {
	Name       string
	Configured bool     // the configuration has it and says the rest
	Public     bool     // anybody may pull from it
	Quota      int64    // bytes of stored content; 0 for none
	Immutable  []string // patterns of tags that never move and never go, as in registry.ParsePattern
	Retention  Retention
	CreatedAt  time.Time // set by PutProject
}

// Retention says which tags of each repository stay: those that either rule keeps. The zero
// value keeps all of them.
type Retention struct {
	Newest int           // so many, by the time of their last push; zero: the rule keeps none
	Pulled time.Duration // pulled or pushed within this time; zero: the rule keeps none
}

// PutProject writes a project, over what is there of that name. Its creation stays.
//
// A new one has nobody in it: members and robots of a proxy that had its name are not its own.
func (tx *Tx) PutProject(p Project) error {
	_, err := tx.Project(p.Name)
	if errors.Is(err, ErrNotFound) {
		err = tx.deserted(p.Name)
	}
	var immutable []byte
	if err == nil {
		immutable, err = json.Marshal(append([]string{}, p.Immutable...))
	}
	if err == nil {
		_, err = tx.exec(`INSERT INTO projects (name, configured, public, quota, immutable, keep_newest, keep_pulled, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (name) DO UPDATE SET configured = excluded.configured, public = excluded.public, quota = excluded.quota,
				immutable = excluded.immutable, keep_newest = excluded.keep_newest, keep_pulled = excluded.keep_pulled`,
			p.Name, bit(p.Configured), bit(p.Public), p.Quota, string(immutable),
			p.Retention.Newest, p.Retention.Pulled.Milliseconds(), millis(time.Now()))
	}
	tx.projects[p.Name] = true
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return tx.spoil(err, "put project %s", p.Name)
	}
	return nil
}

// DeleteProject removes a project that has no repository any more, its members and its robots. ErrNotEmpty says that it has
// one, ErrNotFound that there is no such project; neither spoils the transaction.
func (tx *Tx) DeleteProject(name string) error {
	var there, used bool
	err := tx.one(`SELECT EXISTS (SELECT 1 FROM projects WHERE name = $1), EXISTS (SELECT 1 FROM repositories WHERE project = $1)`,
		[]any{name}, &there, &used)
	switch {
	case err != nil:
		return tx.spoil(err, "delete project %s", name)
	case !there:
		return fmt.Errorf("catalog: delete project %s: %w", name, ErrNotFound)
	case used:
		return fmt.Errorf("catalog: delete project %s: %w", name, ErrNotEmpty)
	}
	delete(tx.projects, name)
	if _, err = tx.exec(`DELETE FROM projects WHERE name = $1`, name); err == nil {
		err = tx.deserted(name)
	}
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return tx.spoil(err, "delete project %s", name)
	}
	return nil
}

// changed tells whoever keeps projects, users or rights in memory that they are others now.
func (tx *Tx) changed() error {
	_, err := tx.exec(`UPDATE changes SET generation = generation + 1`)
	return err
}

// Generation is a number that grows with every change of projects, users and rights, whichever
// process makes it.
func (db *DB) Generation(ctx context.Context) (int64, error) {
	var n int64
	if err := db.read.one(ctx, `SELECT generation FROM changes`, nil, &n); err != nil {
		return 0, fmt.Errorf("catalog: generation: %w", db.explain(err))
	}
	return n, nil
}

const projectColumns = `name, configured, public, quota, immutable, keep_newest, keep_pulled, created_at`

// Projects lists all hosted projects, in the order of their names.
func (db *DB) Projects(ctx context.Context) ([]Project, error) {
	return list(ctx, db, "projects", `SELECT `+projectColumns+` FROM projects ORDER BY name`, nil, scanProject)
}

// Project returns a hosted project, or ErrNotFound.
func (tx *Tx) Project(name string) (Project, error) {
	return only(tx, "project "+name, `SELECT `+projectColumns+` FROM projects WHERE name = $1`, []any{name}, scanProject)
}

func scanProject(scan func(...any) error) (Project, error) {
	var (
		p               Project
		immutable       string
		pulled, created int64
	)
	err := scan(&p.Name, &p.Configured, &p.Public, &p.Quota, &immutable, &p.Retention.Newest, &pulled, &created)
	if err == nil {
		err = json.Unmarshal([]byte(immutable), &p.Immutable)
	}
	p.Retention.Pulled = time.Duration(pulled) * time.Millisecond
	p.CreatedAt = fromMillis(created)
	return p, err
}
