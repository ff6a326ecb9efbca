package catalog

import (
	"context"
	"time"

	"roadstead/registry"
)

// Entry is a record of the audit log. No field of it is ever a secret, and none has a control
// character in it; whoever adds it sees to both.
type Entry struct {
	ID        int64 // set by AddAudit; grows
	At        time.Time
	Actor     string // who did it; "" for anybody
	Action    registry.Action
	Kind      registry.Kind // of the resource
	Resource  string        // its name: of a repository, user, robot, project …
	Reference string        // a tag or digest of it; "" where there is none
	Remote    string        // the address that the request came from; "" for a command
	Outcome   registry.Result
	Detail    string // what else there is to say; "" for nothing
}

// AddAudit appends to the audit log. Nothing else can be done to it but what PruneAudit does.
func (tx *Tx) AddAudit(e Entry) error {
	_, err := tx.exec(`INSERT INTO audit (at, actor, action, kind, resource, reference, remote, outcome, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, millis(e.At), e.Actor, string(e.Action), string(e.Kind),
		e.Resource, e.Reference, e.Remote, string(e.Outcome), e.Detail)
	if err != nil {
		return tx.spoil(err, "add to the audit log")
	}
	return nil
}

// Audit lists the newest n records of the audit log since a time, the oldest of them first.
// n < 0 means all of them.
func (db *DB) Audit(ctx context.Context, since time.Time, n int) ([]Entry, error) {
	return list(ctx, db, "audit", `SELECT `+auditColumns+` FROM
		(SELECT * FROM audit WHERE at >= $1 ORDER BY at DESC, id DESC LIMIT $2) AS newest ORDER BY at, id`,
		[]any{millis(since), limit(n)}, scanEntry)
}

const auditColumns = `id, at, actor, action, kind, resource, reference, remote, outcome, detail`

func scanEntry(scan func(...any) error) (Entry, error) {
	var (
		e                     Entry
		at                    int64
		action, kind, outcome string
	)
	err := scan(&e.ID, &at, &e.Actor, &action, &kind, &e.Resource, &e.Reference, &e.Remote, &outcome, &e.Detail)
	e.At = fromMillis(at)
	e.Action, e.Kind, e.Outcome = registry.Action(action), registry.Kind(kind), registry.Result(outcome)
	return e, err
}
