package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// pruning is how long records of the audit log are kept, in nanoseconds; zero is without end. A reload
// may change it.
type pruning struct{ keep atomic.Int64 }

// pruneEvery is how often old records are looked for. They go by whole days, so that more often has
// no use, and a server that is restarted each night prunes too.
const pruneEvery = time.Hour

// run prunes the audit log until ctx ends.
func (p *pruning) run(ctx context.Context, db *catalog.DB, log *slog.Logger) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		err := prune(ctx, db, time.Duration(p.keep.Load()), time.Now(), log)
		if err != nil && ctx.Err() == nil {
			log.Warn("old records of the audit log stay until the next hour", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// prune removes what is older than keep, in transactions of some thousand records. It goes by whole
// days in UTC: the log has at most one record a day about what is no longer in it.
func prune(ctx context.Context, db *catalog.DB, keep time.Duration, now time.Time, log *slog.Logger) error {
	if keep == 0 {
		return nil
	}
	before := now.Add(-keep).UTC().Truncate(24 * time.Hour)
	n, err := db.PruneAudit(ctx, before, catalog.Entry{
		At: now, Actor: "(configuration)", Action: registry.Delete, Kind: access.Log, Outcome: registry.Done,
		Detail: fmt.Sprintf("what is from before %s, as audit.keep says", before.Format(time.DateOnly)),
	})
	if n > 0 {
		log.Info("audit log pruned", "records", n, "before", before)
	}
	return err
}
