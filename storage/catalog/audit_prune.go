package catalog

import (
	"context"
	"fmt"
	"time"
)

// pruned is how many records of the audit log go in one transaction, which takes some milliseconds
// in which nobody else writes.
const pruned = 5000

// PruneAudit removes the records of the audit log from before a time, and returns how many these
// were. by is the record of that itself: it is added in the transaction in which the first of them
// go, and not at all if there are none. It must not be from before that time.
//
// It is no one transaction. What an error or a crash has left of them goes the next time.
func (db *DB) PruneAudit(ctx context.Context, before time.Time, by Entry) (int64, error) {
	if by.At.Before(before) {
		return 0, fmt.Errorf("catalog: prune the audit log up to %s: that has to be past", before.UTC().Format(time.RFC3339))
	}
	var total int64
	for {
		var n int64
		err := db.Update(ctx, func(tx *Tx) (err error) {
			if n, err = tx.pruneAudit(millis(before)); err != nil {
				return tx.spoil(err, "prune the audit log")
			}
			if n > 0 && total == 0 {
				return tx.AddAudit(by)
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < pruned {
			return total, nil
		}
	}
}

// pruneAudit removes the oldest records. The table lets go of records only as old as audit_pruning
// says, and no other transaction sees it say so.
func (tx *Tx) pruneAudit(before int64) (int64, error) {
	if _, err := tx.exec(`UPDATE audit_pruning SET before = $1`, before); err != nil {
		return 0, err
	}
	n, err := tx.exec(`DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at, id LIMIT $2)`, before, pruned)
	if err != nil {
		return 0, err
	}
	_, err = tx.exec(`UPDATE audit_pruning SET before = 0`)
	return n, err
}
