package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Project is a project of either kind: hosted, which people push to and whose content is never
// evicted, or a proxy, which is a cache of a registry.
type Project struct {
	ID         int64 // set by PutProject, and never that of another again
	Name       string
	Configured bool  // the configuration has it and says the rest
	Registry   int64 // the ID of the registry that it is a cache of; 0: it is hosted
	Public     bool  // anybody may pull from it

	// Of a hosted project.
	Quota     int64    // bytes of stored content; 0 for none
	Immutable []string // patterns of tags that never move and never go, as in registry.ParsePattern
	Retention Retention
	Schedule  string // when that runs, in cron's words; "" with each collection, "never" by order only

	Policy   Policy            // of a proxy
	Metadata map[string]string // what others keep with it that means nothing here

	CreatedAt, UpdatedAt time.Time // set by PutProject
}

// Hosted reports whether it is a project that people push to.
func (p Project) Hosted() bool { return p.Registry == 0 }

// Policy says how a proxy caches. The zero value is what one has of which nothing was said.
type Policy struct {
	Prefix string `json:"prefix,omitempty"` // before the names of upstream's repositories

	// A nil duration is the house's own.
	TTL      *time.Duration `json:"ttl,omitempty"`       // a tag is served without a question
	StaleFor *time.Duration `json:"stale_for,omitempty"` // while upstream cannot be asked; 0: without end
	Keep     *time.Duration `json:"keep,omitempty"`      // evicted only this long after the last use

	// Patterns as in registry.ParsePattern.
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
	Pin   []string `json:"pin,omitempty"`

	Cooldown    *time.Duration `json:"cooldown,omitempty"`     // a tag follows upstream only when it has been there for so long
	CooldownNew bool           `json:"cooldown_new,omitempty"` // and one that is new here is served only then
	Verify      *Verify        `json:"verify,omitempty"`       // nil: signatures are not looked at

	KeepGone bool `json:"keep_gone,omitempty"` // a tag that upstream no longer has is still served
}

// Verify says what a proxy asks of signatures.
type Verify struct {
	Mode string   `json:"mode"` // "warn" or "enforce"
	Keys []string `json:"keys"` // public keys in PEM
}

// PutProject writes a project, over what is there of that name. Its number and its creation stay,
// and so does its kind: whoever wants another one has to delete it first.
//
// A new one has nobody in it: members and robots of a proxy that had its name are not its own. Those
// of a proxy that was out of the configuration for a while are.
func (tx *Tx) PutProject(p Project) error {
	if err := tx.putProject(p); err != nil {
		return tx.spoil(err, "put project %s", p.Name)
	}
	return nil
}

func (tx *Tx) putProject(p Project) error {
	was, err := tx.AnyProject(p.Name)
	if errors.Is(err, ErrNotFound) {
		err = nil
		if p.Hosted() || !p.Configured {
			err = tx.deserted(p.Name)
		}
	} else if err == nil && was.Hosted() != p.Hosted() {
		err = errors.New("it is of the other kind")
	}
	if err != nil {
		return err
	}
	var texts [4]string
	for i, v := range []any{append([]string{}, p.Immutable...), p.Policy, p.Metadata, append([]Rule{}, p.Retention.Rules...)} {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		texts[i] = string(b)
	}
	of := sql.NullInt64{Int64: p.Registry, Valid: p.Registry != 0}
	_, err = tx.exec(`INSERT INTO projects (name, configured, registry_id, public, quota, immutable, keep_newest, keep_pulled, policy, metadata, created_at, updated_at, schedule, keep_rules)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13)
		ON CONFLICT (name) DO UPDATE SET configured = excluded.configured, registry_id = excluded.registry_id, public = excluded.public,
			quota = excluded.quota, immutable = excluded.immutable, keep_newest = excluded.keep_newest, keep_pulled = excluded.keep_pulled,
			policy = excluded.policy, metadata = excluded.metadata, updated_at = excluded.updated_at, schedule = excluded.schedule,
			keep_rules = excluded.keep_rules`,
		p.Name, bit(p.Configured), of, bit(p.Public), p.Quota, texts[0],
		p.Retention.Newest, p.Retention.Pulled.Milliseconds(), texts[1], texts[2], millis(time.Now()), p.Schedule, texts[3])
	if err != nil {
		return err
	}
	tx.projects[p.Name] = p.Hosted()
	return tx.changed()
}

// DeleteProject removes a project, its members, its robots and what other robots may do in it.
// ErrNotEmpty says that it has a repository that is listed, ErrNotFound that there is no such project;
// neither spoils the transaction.
func (tx *Tx) DeleteProject(name string) error {
	used := false
	err := tx.one(`SELECT EXISTS (SELECT 1 FROM repositories WHERE project = $1 AND listed = 1)`, []any{name}, &used)
	switch {
	case err != nil:
		return tx.spoil(err, "delete project %s", name)
	case used:
		if _, err := tx.AnyProject(name); err != nil {
			return err
		}
		return fmt.Errorf("catalog: delete project %s: %w", name, ErrNotEmpty)
	}
	if err := tx.DropProject(name); err != nil {
		return err
	}
	if err := errors.Join(tx.forgetGone(name), tx.deserted(name), tx.forgetPermissions(name), tx.forgetPolicies(name)); err != nil {
		return tx.spoil(err, "delete project %s", name)
	}
	return nil
}

// forgetGone removes what is known of repositories that are not listed: which tags upstream no longer
// has.
func (tx *Tx) forgetGone(project string) error {
	for repo := range tx.repos {
		if repo.Project == project {
			delete(tx.repos, repo)
		}
	}
	_, err := tx.exec(`DELETE FROM tags WHERE repository_id IN (SELECT id FROM repositories WHERE project = $1 AND listed = 0)`, project)
	if err == nil {
		_, err = tx.exec(`DELETE FROM repositories WHERE project = $1 AND listed = 0`, project)
	}
	return err
}

// DropProject removes the row of a project and nothing else. What a proxy has cached is evicted with
// the rest, and its members and robots are there should it come back.
func (tx *Tx) DropProject(name string) error {
	delete(tx.projects, name)
	return tx.alter("delete project "+name, `DELETE FROM projects WHERE name = $1`, name)
}

// changed tells whoever keeps projects, users or rights in memory that they are others now.
func (tx *Tx) changed() error {
	tx.tell(Change{Topic: Rules})
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

const projectColumns = `id, name, configured, registry_id, public, quota, immutable, keep_newest, keep_pulled, policy, metadata, created_at, updated_at, schedule, keep_rules`

// Projects lists all hosted projects, in the order of their names.
func (db *DB) Projects(ctx context.Context) ([]Project, error) {
	return list(ctx, db, "projects", `SELECT `+projectColumns+` FROM projects WHERE registry_id IS NULL ORDER BY name`, nil, scanProject)
}

// AllProjects lists all projects of either kind, in the order of their names.
func (db *DB) AllProjects(ctx context.Context) ([]Project, error) {
	return list(ctx, db, "projects", `SELECT `+projectColumns+` FROM projects ORDER BY name`, nil, scanProject)
}

// AllProjects is that of the DB, with what the transaction has changed.
func (tx *Tx) AllProjects() ([]Project, error) {
	return listed(tx, "projects", `SELECT `+projectColumns+` FROM projects ORDER BY name`, scanProject)
}

// Project returns a hosted project, or ErrNotFound.
func (tx *Tx) Project(name string) (Project, error) {
	return only(tx, "project "+name, `SELECT `+projectColumns+` FROM projects WHERE name = $1 AND registry_id IS NULL`, []any{name}, scanProject)
}

// AnyProject returns a project of either kind, or ErrNotFound.
func (tx *Tx) AnyProject(name string) (Project, error) {
	return only(tx, "project "+name, `SELECT `+projectColumns+` FROM projects WHERE name = $1`, []any{name}, scanProject)
}

func scanProject(scan func(...any) error) (Project, error) {
	var (
		p                                  Project
		of                                 sql.NullInt64
		immutable, policy, metadata, rules string
		pulled, created, updated           int64
	)
	err := scan(&p.ID, &p.Name, &p.Configured, &of, &p.Public, &p.Quota, &immutable, &p.Retention.Newest, &pulled,
		&policy, &metadata, &created, &updated, &p.Schedule, &rules)
	if err == nil {
		err = errors.Join(json.Unmarshal([]byte(immutable), &p.Immutable), json.Unmarshal([]byte(policy), &p.Policy),
			json.Unmarshal([]byte(metadata), &p.Metadata), json.Unmarshal([]byte(rules), &p.Retention.Rules))
	}
	if len(p.Retention.Rules) == 0 {
		p.Retention.Rules = nil
	}
	p.Registry = of.Int64
	p.Retention.Pulled = time.Duration(pulled) * time.Millisecond
	p.CreatedAt, p.UpdatedAt = fromMillis(created), fromMillis(updated)
	return p, err
}
