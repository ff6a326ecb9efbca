package catalog

import (
	"database/sql"
	"errors"
	"time"

	"roadstead/registry"
)

// counts is what a transaction changes in the counters of a project.
type counts struct {
	repositories int64
	manifests    int64
}

// show says that a repository has something to show: content, or a tag that is not gone.
func (tx *Tx) show(r *repository) error {
	if r.listed {
		return nil
	}
	n, err := tx.exec(`UPDATE repositories SET listed = 1 WHERE id = $1 AND listed = 0`, r.id)
	if err != nil {
		return err
	}
	r.listed = true
	tx.tally(r.project, counts{repositories: n})
	return nil
}

// hide is the inverse of show, for a repository that has lost something and may still have more.
func (tx *Tx) hide(id int64) error {
	var project string
	err := tx.one(`UPDATE repositories SET listed = 0 WHERE id = $1 AND listed = 1
		AND NOT EXISTS (SELECT 1 FROM links WHERE repository_id = $1)
		AND NOT EXISTS (SELECT 1 FROM tags WHERE repository_id = $1 AND gone = 0) RETURNING project`, []any{id}, &project)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	tx.tally(project, counts{repositories: -1})
	return err
}

// gain notes that a repository has n more manifests directly. To get one is news of it; to lose
// one is not, or what is evicted would be shown first.
func (tx *Tx) gain(repo registry.Repo, n int64) error {
	r, err := tx.repository(repo)
	if err != nil {
		return err
	}
	r.manifests += n
	tx.tally(r.project, counts{manifests: n})
	if n > 0 {
		r.news(millis(time.Now()))
	}
	return nil
}

// news notes when a repository changed, unless something newer is known.
func (r *repository) news(at int64) { r.changedAt = max(r.changedAt, at) }

func (tx *Tx) tally(project string, more counts) {
	sum := tx.counts[project]
	sum.repositories += more.repositories
	sum.manifests += more.manifests
	tx.counts[project] = sum
}

// recount brings the counters of repositories and projects up to date, each of them once in a
// transaction. It comes when what is empty has been swept.
func (tx *Tx) recount() error {
	for _, r := range tx.repos {
		if r.manifests == 0 && r.changedAt <= r.updatedAt {
			continue
		}
		_, err := tx.exec(`UPDATE repositories SET manifests = manifests + $1,
			updated_at = CASE WHEN updated_at < $2 THEN $2 ELSE updated_at END WHERE id = $3`, r.manifests, r.changedAt, r.id)
		if err != nil {
			return err
		}
	}
	for project, change := range tx.counts {
		if change == (counts{}) {
			continue
		}
		_, err := tx.exec(`INSERT INTO project_counts (project, repositories, manifests) VALUES ($1, $2, $3)
			ON CONFLICT (project) DO UPDATE SET repositories = project_counts.repositories + excluded.repositories,
				manifests = project_counts.manifests + excluded.manifests`, project, change.repositories, change.manifests)
		if err != nil {
			return err
		}
	}
	return nil
}
