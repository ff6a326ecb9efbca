package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Node is a process that shares the catalog with others.
type Node struct {
	ID      string // unique among all that are alive
	Address string // a URL by which the others reach it
}

// ErrTwin says that another process is alive that goes by the name of this one. The others reach now
// one and now the other, so what has been sent to the one in pieces is not found at the other.
var ErrTwin = errors.New("another process of the cluster has the same name")

// buried is how long after its last beat a node is still on the roll, for whoever looks there by
// hand for what has been.
const buried = 24 * time.Hour

// databaseTime is the one clock by which beats are compared.
const databaseTime = `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint`

// A beat does not wait for a turn to write, which others may have for longer than a node may be
// silent; and nobody needs it to survive the server, so it does not wait for the disk either. The
// latter is said in the statement itself: it is a transaction of its own. Nor does it wait for those who
// read: pages that are slow must not take a node off the roll.
//
// It also returns which process was there before.
const beat = `WITH before AS (SELECT process FROM nodes WHERE id = $1)
	INSERT INTO nodes (id, address, process, seen_at)
	SELECT $1, $2, $3, ` + databaseTime + ` FROM set_config('synchronous_commit', 'off', true)
	ON CONFLICT (id) DO UPDATE SET address = excluded.address, process = excluded.process, seen_at = excluded.seen_at
	RETURNING seen_at, COALESCE((SELECT process FROM before), '')`

// Beat says that a node is alive now, and returns all that have said so within the time given, by the
// clock of the database. It is two small statements, and now and then a third. With ErrTwin it still
// returns them: a process was there under this name since this one last said so. One that has ended, and
// whose place this one takes, is none.
//
// A catalog in a file has one node, which is all that is returned.
func (db *DB) Beat(ctx context.Context, n Node, within time.Duration) ([]Node, error) {
	if !db.Shared() {
		return []Node{n}, nil
	}
	var now int64
	var before string
	if err := db.alive.one(ctx, beat, []any{n.ID, n.Address, db.node}, &now, &before); err != nil {
		return nil, fmt.Errorf("catalog: sign node %s in: %w", n.ID, db.explain(err))
	}
	twin := db.beaten.Swap(true) && before != "" && before != db.node
	var alive []Node
	old := false
	err := db.alive.each(ctx, `SELECT id, address, seen_at FROM nodes ORDER BY id`, nil, func(rows *sql.Rows) error {
		var one Node
		var seen int64
		if err := rows.Scan(&one.ID, &one.Address, &seen); err != nil {
			return err
		}
		switch age := time.Duration(now-seen) * time.Millisecond; {
		case age <= within:
			alive = append(alive, one)
		case age > buried:
			old = true
		}
		return nil
	})
	if err == nil && old {
		err = db.strike(ctx, `seen_at < $1`, now-buried.Milliseconds())
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: read the roll of nodes: %w", db.explain(err))
	}
	if twin {
		return alive, fmt.Errorf("catalog: node %s: %w", n.ID, ErrTwin)
	}
	return alive, nil
}

// Leave takes a node off the roll. One that is not there, or whose name another process has by now, is no
// error.
func (db *DB) Leave(ctx context.Context, id string) error {
	if !db.Shared() {
		return nil
	}
	if err := db.strike(ctx, `id = $1 AND process = $2`, id, db.node); err != nil {
		return fmt.Errorf("catalog: sign node %s out: %w", id, db.explain(err))
	}
	return nil
}

// strike takes nodes off the roll, without a turn to write.
func (db *DB) strike(ctx context.Context, which string, args ...any) error {
	var n int
	return db.alive.one(ctx, `WITH gone AS (DELETE FROM nodes WHERE `+which+` RETURNING 1) SELECT COUNT(*) FROM gone`, args, &n)
}
