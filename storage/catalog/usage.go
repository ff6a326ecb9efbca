package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"roadstead/registry"
)

// Usage is an amount of stored content.
type Usage struct {
	Bytes int64
	Count int64
}

// account notes what a row is worth to the counters of its holders: sign is -1 for a row as it
// was and +1 for one as it is.
func (tx *Tx) account(r row, sign int64) {
	if !r.stored {
		return
	}
	u := tx.usage[r.holders]
	u.Bytes += sign * r.size
	u.Count += sign
	tx.usage[r.holders] = u
}

// count brings the counters up to date, each of them once in a transaction.
func (tx *Tx) count() error {
	for id, change := range tx.usage {
		if change == (Usage{}) {
			continue
		}
		if _, err := tx.exec(`UPDATE holders SET bytes = bytes + $1, count = count + $2 WHERE id = $3`, change.Bytes, change.Count, id); err != nil {
			return err
		}
	}
	return nil
}

// Usage returns how much content is stored. It reads counters, not content.
func (db *DB) Usage(ctx context.Context) (Usage, error) {
	var total Usage
	err := db.eachHolders(ctx, func(_ int64, _ []string, u Usage) {
		total.Bytes += u.Bytes
		total.Count += u.Count
	})
	if err != nil {
		return Usage{}, fmt.Errorf("catalog: usage: %w", err)
	}
	return total, nil
}

// ByProject returns how much stored content each project has. What several of them have counts
// for each. It reads counters, not content.
func (db *DB) ByProject(ctx context.Context) (map[string]Usage, error) {
	byProject := map[string]Usage{}
	err := db.eachHolders(ctx, func(_ int64, projects []string, u Usage) {
		for _, project := range projects {
			sum := byProject[project]
			sum.Bytes += u.Bytes
			sum.Count += u.Count
			byProject[project] = sum
		}
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: usage by project: %w", err)
	}
	return byProject, nil
}

// eachHolders calls fn for every set of projects that has stored content.
func (db *DB) eachHolders(ctx context.Context, fn func(id int64, projects []string, u Usage)) error {
	err := db.read.each(ctx, `SELECT id, projects, bytes, count FROM holders WHERE count > 0`, nil, func(rows *sql.Rows) error {
		var (
			id     int64
			joined string
			u      Usage
		)
		if err := rows.Scan(&id, &joined, &u.Bytes, &u.Count); err != nil {
			return err
		}
		fn(id, splitProjects(joined), u)
		return nil
	})
	return db.explain(err)
}

// Cold is stored content and when it was last used.
type Cold struct {
	Digest registry.Digest
	Size   int64
	UsedAt time.Time
}

// Coldest lists at most n pieces of stored content that only the given projects have, or that
// none has, and that were last used before usedBefore; the least recently used first. n < 0
// means all.
//
// To have content is meant as in Found.Linked, one manifest deep. The answer is true of the
// moment; whoever removes what it names makes sure that nobody links it meanwhile.
func (db *DB) Coldest(ctx context.Context, projects []string, usedBefore time.Time, n int) ([]Cold, error) {
	var sets []int64
	err := db.eachHolders(ctx, func(id int64, holders []string, _ Usage) {
		if subset(holders, projects) {
			sets = append(sets, id)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: coldest: %w", err)
	}
	// The coldest n of all are among the coldest n of each set, and those are the first n
	// entries of its part of the index.
	var coldest []Cold
	for _, id := range sets {
		err := db.read.each(ctx, `SELECT digest, size, used_at FROM content
			WHERE stored = 1 AND holders_id = $1 AND used_at < $2 ORDER BY used_at LIMIT $3`,
			[]any{id, millis(usedBefore), limit(n)}, func(rows *sql.Rows) error {
				cold, err := scanCold(rows)
				coldest = append(coldest, cold)
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("catalog: coldest: %w", db.explain(err))
		}
	}
	slices.SortFunc(coldest, func(a, b Cold) int {
		return cmp.Or(a.UsedAt.Compare(b.UsedAt), cmp.Compare(a.Digest, b.Digest))
	})
	if n >= 0 && len(coldest) > n {
		coldest = coldest[:n]
	}
	return coldest, nil
}

func scanCold(rows *sql.Rows) (Cold, error) {
	var (
		cold   Cold
		key    []byte
		usedAt int64
	)
	if err := rows.Scan(&key, &cold.Size, &usedAt); err != nil {
		return Cold{}, err
	}
	var err error
	cold.Digest, err = unpack(key)
	cold.UsedAt = fromMillis(usedAt)
	return cold, err
}

func subset(some, of []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(of, s) })
}
