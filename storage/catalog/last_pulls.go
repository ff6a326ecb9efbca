package catalog

import (
	"database/sql"
	"time"

	"roadstead/registry"
)

// LastPull is the last pull of a manifest out of a repository.
type LastPull struct {
	At time.Time // zero: nobody has told of one
	By string    // as the audit log names who that was; "" for anybody
}

// PutLastPull says who pulled a manifest last out of a repository, unless a later pull is known, and
// reports whether the repository has it directly; where it does not, nothing is kept. What is kept
// goes when the repository has the manifest no longer. It is meant for many pulls at once and now
// and then, as Touch.
func (tx *Tx) PutLastPull(repo registry.Repo, d registry.Digest, p LastPull) (kept bool, err error) {
	key, err := pack(d)
	var id, shelf int64
	if err == nil {
		err = tx.each(`SELECT l.content_id, l.repository_id FROM content c
			JOIN links l ON l.content_id = c.id JOIN repositories r ON r.id = l.repository_id
			WHERE c.digest = $1 AND r.name = $2 AND l.manifest = 1`, []any{key, repo.String()}, func(rows *sql.Rows) error {
			return rows.Scan(&id, &shelf)
		})
	}
	if err == nil && id != 0 {
		_, err = tx.exec(`INSERT INTO last_pulls (content_id, repository_id, pulled_at, pulled_by) VALUES ($1, $2, $3, $4)
			ON CONFLICT (content_id, repository_id) DO UPDATE SET pulled_at = excluded.pulled_at, pulled_by = excluded.pulled_by
			WHERE last_pulls.pulled_at <= excluded.pulled_at`, id, shelf, millis(p.At), p.By)
	}
	if err != nil {
		return false, tx.spoil(err, "note who pulled %s@%s", repo, d)
	}
	return id != 0, nil
}

// forgetPulls takes back what PutLastPull was told of m, in all repositories.
func (tx *Tx) forgetPulls(m *content) error {
	_, err := tx.exec(`DELETE FROM last_pulls WHERE content_id = $1`, m.id)
	return err
}

// forgetPullsIn takes back what PutLastPull was told of m in one repository.
func (tx *Tx) forgetPullsIn(r *repository, m *content) error {
	_, err := tx.exec(`DELETE FROM last_pulls WHERE content_id = $1 AND repository_id = $2`, m.id, r.id)
	return err
}
