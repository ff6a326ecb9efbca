package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Job is work that a process does because somebody has asked for it there, as the others see it: what
// it is and how far is in Body, which whoever keeps it understands.
type Job struct {
	ID      int64
	Process string // that does it
	Node    string // what that is called
	Task    string // of which one is done at a time
	Body    string
	SeenAt  time.Time // when the process last said that it is at it, by the clock of the database
	Lost    bool      // it has not ended, and its process has been silent for too long
}

const (
	// jobSilence is how long a process may say nothing of a job before others take it for gone. It says
	// something every two seconds; a database that starts again takes some more.
	jobSilence = 10 * time.Second

	// mostJobs is how many that have ended are remembered.
	mostJobs = 100
)

// AddJob writes a new job and returns its ID, which is set by that. ErrExists says that some process
// is at the same task.
func (db *DB) AddJob(ctx context.Context, j Job) (id int64, err error) {
	const over = `(ended = 1 OR seen_at < ` + databaseTime + ` - $1)`
	silence := jobSilence.Milliseconds()
	err = db.Update(ctx, func(tx *Tx) error {
		if err := tx.absent("add a job", `SELECT 1 FROM jobs WHERE task = $2 AND NOT `+over, silence, j.Task); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM jobs WHERE `+over+` AND id NOT IN (SELECT id FROM jobs WHERE `+over+` ORDER BY id DESC LIMIT $2)`, silence, mostJobs)
		if err == nil {
			err = tx.one(`INSERT INTO jobs (process, node, task, body, seen_at, ended, stopping) VALUES ($1, $2, $3, $4, `+databaseTime+`, 0, 0) RETURNING id`,
				[]any{j.Process, j.Node, j.Task, j.Body}, &id)
		}
		if err != nil {
			return tx.spoil(err, "add a job")
		}
		return nil
	})
	return id, err
}

// BeatJobs says that a process is alive and at its jobs, and returns those of them that somebody wants
// stopped.
func (db *DB) BeatJobs(ctx context.Context, process string) (stop []int64, err error) {
	err = db.read.each(ctx, `UPDATE jobs SET seen_at = `+databaseTime+` `+fast+` WHERE process = $1 AND ended = 0 RETURNING id, stopping`, []any{process},
		func(rows *sql.Rows) error {
			var id, stopping int64
			if err := rows.Scan(&id, &stopping); err != nil {
				return err
			}
			if stopping == 1 {
				stop = append(stop, id)
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("catalog: jobs: %w", db.explain(err))
	}
	return stop, nil
}

// KeepJob writes how far a job is. detail is what whoever lists jobs need not know, which may be a
// megabyte; "" leaves what is there. ErrNotFound is that it is forgotten.
func (db *DB) KeepJob(ctx context.Context, id int64, body, detail string, ended bool) error {
	_, err := lone(ctx, db, "job", `UPDATE jobs SET body = $2, detail = CASE WHEN $3 = '' THEN detail ELSE $3 END, ended = $4, seen_at = `+databaseTime+` `+fast+` WHERE id = $1 RETURNING 1`,
		[]any{id, body, detail, bit(ended)}, one)
	return err
}

// JobDetail returns what KeepJob was last told; "" when it was told nothing.
func (db *DB) JobDetail(ctx context.Context, id int64) (string, error) {
	return lone(ctx, db, "job", `SELECT detail FROM jobs WHERE id = $1`, []any{id}, func(scan func(...any) error) (detail string, err error) {
		err = scan(&detail)
		return detail, err
	})
}

// StopJob has the process of a job stop it. ErrNotFound is that it is forgotten.
func (db *DB) StopJob(ctx context.Context, id int64) error {
	_, err := lone(ctx, db, "job", `UPDATE jobs SET stopping = 1 WHERE id = $1 RETURNING 1`, []any{id}, one)
	return err
}

func one(scan func(...any) error) (n int, err error) { return n, scan(&n) }

// Jobs lists all jobs, the newest first.
func (db *DB) Jobs(ctx context.Context) ([]Job, error) {
	return list(ctx, db, "jobs", `SELECT id, process, node, task, body, seen_at, ended = 0 AND seen_at < `+databaseTime+` - $1 FROM jobs ORDER BY id DESC`,
		[]any{jobSilence.Milliseconds()}, func(scan func(...any) error) (j Job, err error) {
			var seen int64
			err = scan(&j.ID, &j.Process, &j.Node, &j.Task, &j.Body, &seen, &j.Lost)
			j.SeenAt = fromMillis(seen)
			return j, err
		})
}
