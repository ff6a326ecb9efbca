package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"roadstead/registry"
)

// Verdict is what is known of whether a digest may be trusted in a repository. What a basis is worth is
// for whoever has put it there to say, and may change: it is asked for again each time.
type Verdict struct {
	Digest registry.Digest
	Basis  string          // the ID of a key, or another word; "": nothing was found that would do
	Root   registry.Digest // the manifest that it rests on; "": the digest itself
	Whole  bool            // all that a manifest names has a verdict on the same basis
	Actor  string          // who has said so, where that is somebody
	Reason string          // why
	At     time.Time
}

// PutVerdicts writes verdicts of a repository, over those on the same basis. One that was whole stays
// so, and rests on what it did; what somebody has said stays said by him.
func (tx *Tx) PutVerdicts(repo registry.Repo, all ...Verdict) error {
	for _, v := range all {
		key, err := pack(v.Digest)
		var root []byte
		if err == nil && v.Root != "" {
			root, err = pack(v.Root)
		}
		if err == nil {
			_, err = tx.exec(`INSERT INTO verdicts (repository, digest, basis, root, whole, actor, reason, at)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
				ON CONFLICT (repository, digest, basis) DO UPDATE SET
					whole = CASE WHEN verdicts.whole = 1 THEN 1 ELSE excluded.whole END,
					actor = CASE WHEN excluded.actor = '' THEN verdicts.actor ELSE excluded.actor END,
					reason = CASE WHEN excluded.actor = '' AND verdicts.actor <> '' THEN verdicts.reason ELSE excluded.reason END,
					at = excluded.at`,
				repo.String(), key, v.Basis, root, bit(v.Whole), v.Actor, v.Reason, millis(v.At))
		}
		if err != nil {
			return tx.spoil(err, "put a verdict on %s@%s", repo, v.Digest)
		}
		if v.Actor != "" {
			tx.tell(Change{Topic: Overruled, Repo: repo})
		}
	}
	return nil
}

// Said reports whether somebody has said the verdict on a digest that is on some basis, and has not taken
// it back.
func (tx *Tx) Said(repo registry.Repo, d registry.Digest, basis string) (bool, error) {
	key, err := pack(d)
	var n int64
	if err == nil {
		err = tx.one(`SELECT COUNT(*) FROM verdicts WHERE repository = $1 AND digest = $2 AND basis = $3 AND actor <> ''`, []any{repo.String(), key, basis}, &n)
	}
	if err != nil {
		return false, tx.spoil(err, "look for a verdict on %s@%s", repo, d)
	}
	return n > 0, nil
}

// DropVerdicts removes the verdicts on one basis: of one digest or, with "", of all in a repository, which
// takes back what somebody has said. There may be none.
func (tx *Tx) DropVerdicts(repo registry.Repo, d registry.Digest, basis string) error {
	query, args := `DELETE FROM verdicts WHERE repository = $1 AND basis = $2`, []any{repo.String(), basis}
	if d != "" {
		key, err := pack(d)
		if err != nil {
			return tx.spoil(err, "drop a verdict on %s", repo)
		}
		query, args = query+` AND digest = $3`, append(args, key)
	}
	if _, err := tx.exec(query, args...); err != nil {
		return tx.spoil(err, "drop verdicts on %s", repo)
	}
	if d == "" {
		tx.tell(Change{Topic: Overruled, Repo: repo})
	}
	return nil
}

// PruneVerdicts removes verdicts, and holds, older than some time on what the repository has no more:
// who asks for it again has it looked at again. What somebody has said stays. Tags that were evicted
// while they were held go with their holds.
func (tx *Tx) PruneVerdicts(before time.Time) error {
	_, err := tx.exec(`DELETE FROM verdicts WHERE at < $1 AND actor = '' AND NOT EXISTS (
			SELECT 1 FROM content c JOIN links l ON l.content_id = c.id JOIN repositories r ON r.id = l.repository_id
			WHERE c.digest = verdicts.digest AND r.name = verdicts.repository)`, millis(before))
	if err == nil {
		err = tx.pruneEvicted(before)
	}
	if err == nil {
		_, err = tx.exec(`DELETE FROM holds WHERE seen_at < $1 AND NOT EXISTS (
			SELECT 1 FROM tags t JOIN repositories r ON r.id = t.repository_id
			WHERE r.name = holds.repository AND t.tag = holds.tag)`, millis(before))
	}
	if err != nil {
		return tx.spoil(err, "prune verdicts")
	}
	return nil
}

// forgetPolicies removes what is known of a project that goes.
func (tx *Tx) forgetPolicies(project string) error {
	for _, table := range []string{"verdicts", "holds"} {
		// '0' is what comes after '/'.
		if _, err := tx.exec(`DELETE FROM `+table+` WHERE repository > $1 AND repository < $2`, project+"/", project+"0"); err != nil {
			return err
		}
	}
	return nil
}

// Verdicts lists what is known of a digest in a repository, the newest first.
func (db *DB) Verdicts(ctx context.Context, repo registry.Repo, d registry.Digest) ([]Verdict, error) {
	key, err := pack(d)
	if err != nil {
		return nil, fmt.Errorf("catalog: verdicts: %w", err)
	}
	return list(ctx, db, "verdicts", `SELECT digest, basis, root, whole, actor, reason, at FROM verdicts
		WHERE repository = $1 AND digest = $2 ORDER BY at DESC, basis`, []any{repo.String(), key}, scanVerdict)
}

func scanVerdict(scan func(...any) error) (Verdict, error) {
	var (
		v         Verdict
		key, root []byte
		at        int64
	)
	err := scan(&key, &v.Basis, &root, &v.Whole, &v.Actor, &v.Reason, &at)
	if err == nil {
		v.Digest, err = unpack(key)
	}
	if err == nil && root != nil {
		v.Root, err = unpack(root)
	}
	v.At = fromMillis(at)
	return v, err
}

// NamedBy lists at most n manifests of a repository that name a digest: as a layer, as a configuration,
// or in an index.
func (db *DB) NamedBy(ctx context.Context, repo registry.Repo, d registry.Digest, n int) ([]registry.Digest, error) {
	key, err := pack(d)
	if err != nil {
		return nil, fmt.Errorf("catalog: who names %s: %w", d, err)
	}
	var all []registry.Digest
	err = db.read.each(ctx, `SELECT m.digest FROM content c JOIN refs x ON x.child_id = c.id
		JOIN content m ON m.id = x.manifest_id JOIN links l ON l.content_id = m.id
		JOIN repositories r ON r.id = l.repository_id
		WHERE c.digest = $1 AND r.name = $2 ORDER BY m.id DESC LIMIT $3`, []any{key, repo.String(), limit(n)}, func(rows *sql.Rows) error {
		var packed []byte
		err := rows.Scan(&packed)
		if err != nil {
			return err
		}
		d, err := unpack(packed)
		all = append(all, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: who names %s@%s: %w", repo, d, db.explain(err))
	}
	return all, nil
}
