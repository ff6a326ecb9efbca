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

// Evictable returns how much content is stored that no hosted project has. It reads counters, not
// content.
func (db *DB) Evictable(ctx context.Context) (Usage, error) {
	hosted, err := db.Projects(ctx)
	if err != nil {
		return Usage{}, err
	}
	var total Usage
	err = db.eachHolders(ctx, func(_ int64, projects []string, u Usage) {
		if slices.ContainsFunc(hosted, func(p Project) bool { return slices.Contains(projects, p.Name) }) {
			return
		}
		total.Bytes += u.Bytes
		total.Count += u.Count
	})
	if err != nil {
		return Usage{}, fmt.Errorf("catalog: evictable content: %w", err)
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

// Mark is a place in the order of Coldest. The zero Mark is before everything.
type Mark struct {
	usedAt, id int64
}

// Coldest lists at most n pieces of stored content behind a mark that only the given projects
// have, or that none has, and that were last used before usedBefore; the least recently used
// first. n < 0 means all. It returns the mark behind the last of them, to go on from.
//
// To have content is meant as in Found.Linked, one manifest deep. The answer is true of the
// moment; ForgetCold asks again.
func (db *DB) Coldest(ctx context.Context, projects []string, usedBefore time.Time, after Mark, n int) ([]Cold, Mark, error) {
	coldest, next, err := db.coldest(ctx, projects, usedBefore, after, n)
	if err != nil {
		return nil, Mark{}, fmt.Errorf("catalog: coldest: %w", err)
	}
	return coldest, next, nil
}

func (db *DB) coldest(ctx context.Context, projects []string, usedBefore time.Time, after Mark, n int) ([]Cold, Mark, error) {
	var sets []int64
	err := db.eachHolders(ctx, func(id int64, holders []string, _ Usage) {
		if subset(holders, projects) {
			sets = append(sets, id)
		}
	})
	if err != nil {
		return nil, Mark{}, err
	}
	// The coldest n of all are among the coldest n of each set, and those are the first n
	// entries of its part of the index.
	type entry struct {
		Cold
		mark Mark
	}
	var all []entry
	for _, id := range sets {
		// Uses are written a minute's worth at a time, with one time for all, so within the mark's
		// own time the id decides.
		// Each part is cut short by itself, or PostgreSQL reads all of it to sort it.
		err := db.read.each(ctx, `SELECT digest, size, used_at, id FROM (SELECT digest, size, used_at, id FROM content
				WHERE stored = 1 AND holders_id = $1 AND used_at = $2 AND used_at < $3 AND id > $4 ORDER BY id LIMIT $5) AS within
			UNION ALL SELECT digest, size, used_at, id FROM (SELECT digest, size, used_at, id FROM content
				WHERE stored = 1 AND holders_id = $1 AND used_at > $2 AND used_at < $3 ORDER BY used_at, id LIMIT $5) AS behind
			ORDER BY 3, 4 LIMIT $5`,
			[]any{id, after.usedAt, millis(usedBefore), after.id, limit(n)}, func(rows *sql.Rows) error {
				cold, mark, err := scanCold(rows)
				all = append(all, entry{cold, mark})
				return err
			})
		if err != nil {
			return nil, Mark{}, db.explain(err)
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.mark.usedAt, b.mark.usedAt), cmp.Compare(a.mark.id, b.mark.id))
	})
	if n >= 0 && len(all) > n {
		all = all[:n]
	}
	var coldest []Cold
	for _, e := range all {
		coldest, after = append(coldest, e.Cold), e.mark
	}
	return coldest, after, nil
}

func scanCold(rows *sql.Rows) (Cold, Mark, error) {
	var (
		cold Cold
		mark Mark
		key  []byte
	)
	if err := rows.Scan(&key, &cold.Size, &mark.usedAt, &mark.id); err != nil {
		return Cold{}, Mark{}, err
	}
	var err error
	cold.Digest, err = unpack(key)
	cold.UsedAt = fromMillis(mark.usedAt)
	return cold, mark, err
}

func subset(some, of []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(of, s) })
}
