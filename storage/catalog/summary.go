package catalog

import (
	"context"
	"database/sql"
	"fmt"
)

// Summary is how much a project has.
type Summary struct {
	Repositories int64 // as BrowseRepositories lists them
	Artifacts    int64 // manifests that they have directly, each as often as there are such
	Bytes        int64 // of stored content, each piece once
}

// Summary returns how much a project has, which is nothing if there is none of that name. It reads
// counters, not content.
func (db *DB) Summary(ctx context.Context, project string) (Summary, error) {
	all, err := db.Summaries(ctx)
	return all[project], err
}

// Summaries is Summary for each project that has anything.
func (db *DB) Summaries(ctx context.Context) (map[string]Summary, error) {
	usage, err := db.ByProject(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[string]Summary, len(usage))
	for project, u := range usage {
		all[project] = Summary{Bytes: u.Bytes}
	}
	err = db.read.each(ctx, `SELECT project, repositories, manifests FROM project_counts WHERE repositories > 0`, nil, func(rows *sql.Rows) error {
		var (
			project string
			s       Summary
		)
		err := rows.Scan(&project, &s.Repositories, &s.Artifacts)
		s.Bytes = all[project].Bytes
		all[project] = s
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: summaries: %w", db.explain(err))
	}
	return all, nil
}

// Total is the summary of all projects together. What several of them have is stored once, and
// counts once among the bytes; so does what none has any more.
func (db *DB) Total(ctx context.Context) (Summary, error) {
	usage, err := db.Usage(ctx)
	if err != nil {
		return Summary{}, err
	}
	total := Summary{Bytes: usage.Bytes}
	err = db.read.one(ctx, `SELECT COALESCE(SUM(repositories), 0), COALESCE(SUM(manifests), 0) FROM project_counts`, nil,
		&total.Repositories, &total.Artifacts)
	if err != nil {
		return Summary{}, fmt.Errorf("catalog: total: %w", db.explain(err))
	}
	return total, nil
}
