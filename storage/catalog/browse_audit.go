package catalog

import (
	"context"
	"fmt"
	"time"

	"roadstead/registry"
)

// AuditFilter says which records of the audit log are listed. What is left zero lets all through.
type AuditFilter struct {
	Actor   string
	Action  registry.Action
	Kinds   []registry.Kind // any of them
	Under   string          // the resource of this name and those below it: a project is one, with its repositories
	Outcome registry.Result
	Since   time.Time // not before
	Until   time.Time // before
}

func (f AuditFilter) conditions() conditions {
	var c conditions
	if f.Actor != "" {
		c.where("actor = %s", f.Actor)
	}
	if f.Action != "" {
		c.where("action = %s", string(f.Action))
	}
	if len(f.Kinds) > 0 {
		kinds := make([]string, len(f.Kinds))
		for i, kind := range f.Kinds {
			kinds[i] = string(kind)
		}
		in(&c, "kind", kinds)
	}
	if f.Under != "" {
		// "0" comes next to "/". A range can be looked up, and what is below by LIKE cannot.
		c.where("resource >= %s AND resource < %s AND (resource = %s OR resource > %s)", f.Under, f.Under+"0", f.Under, f.Under+"/")
	}
	if f.Outcome != "" {
		c.where("outcome = %s", string(f.Outcome))
	}
	if !f.Since.IsZero() {
		c.where("at >= %s", millis(f.Since))
	}
	if !f.Until.IsZero() {
		c.where("at < %s", millis(f.Until))
	}
	return c
}

// BrowseAudit returns a page of the audit log, the newest record first, and how many there are on
// all pages.
func (db *DB) BrowseAudit(ctx context.Context, f AuditFilter, p Page) ([]Entry, int, error) {
	c := f.conditions()
	rest, counted := ` FROM audit`+c.String(), c.args
	const newest = ` ORDER BY at DESC, id DESC`
	query := `SELECT ` + auditColumns + ` FROM audit WHERE id IN (SELECT id` + rest + newest + p.slice(&c) + `)` + newest
	all, err := list(ctx, db, "audit", query, c.args, scanEntry)
	if err != nil {
		return nil, 0, err
	}
	total, ok := p.total(len(all))
	if !ok {
		err = db.read.one(ctx, `SELECT COUNT(*)`+rest, counted, &total)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("catalog: count the audit log: %w", db.explain(err))
	}
	return all, total, nil
}
