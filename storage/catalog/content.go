package catalog

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
)

// content is a row of content as a transaction has it.
type content struct {
	id  int64  // 0 until it is saved
	key []byte // the packed digest
	row
	saved row // as the database has it

	removal removal // the last one; where several nodes write
	asked   bool    // it is known
}

type row struct {
	stored    bool
	size      int64
	mediaType sql.NullString // valid for a stored manifest whose references are known
	usedAt    int64
	holders   int64
}

const contentColumns = `c.id, c.digest, c.stored, c.size, c.media_type, c.used_at, c.holders_id`

// repository is a row of repositories, one for all of a transaction.
type repository struct {
	id        int64
	project   string
	listed    bool
	updatedAt int64
	changedAt int64 // the newest change of this transaction
	manifests int64 // how many more this transaction gives it
	unlinks   bool  // links of it are being removed, or were lately; where several nodes write
}

// AddManifest says that the content of m is stored, that repo has it, and what it refers to.
// The repository has from now on, too, what m is made of, wherever the content of that is; it
// does not get m's subject. Again is harmless.
//
// In a hosted project that is a note of what must not be collected and no more: content counts
// there, is kept for it and may be read (Held) only as far as it was linked itself. Or whoever
// pushes a manifest that names what others have could read it, keep it here, or learn from a
// quota that it is here.
//
// Where several nodes write it may fail with an [Unplaced], which does not spoil the transaction.
func (tx *Tx) AddManifest(repo registry.Repo, m registry.Manifest, refs registry.References) error {
	err := tx.addManifest(repo, m, refs)
	if _, ok := errors.AsType[*Unplaced](err); ok {
		return err
	}
	if err != nil {
		return tx.spoil(err, "add manifest %s to %s", m.Digest, repo)
	}
	return nil
}

func (tx *Tx) addManifest(repo registry.Repo, m registry.Manifest, refs registry.References) error {
	c, err := tx.find(m.Digest)
	if err == nil {
		err = tx.arrive(c, repo, m.Digest)
	}
	if err != nil {
		return err
	}
	known := c.mediaType.Valid
	c.keep(m.Size)
	c.mediaType = sql.NullString{String: m.MediaType, Valid: true}
	added, err := tx.link(c, repo)
	if err != nil {
		return err
	}
	if known && !added {
		return nil
	}
	if known {
		if err := tx.gain(repo, 1); err != nil {
			return err
		}
		children, err := tx.children(c)
		if err != nil {
			return err
		}
		return tx.lend(children, repo)
	}
	children, err := tx.addRefs(c, refs)
	if err != nil {
		return err
	}
	// Others may have linked it before anyone knew what it is made of.
	repos, err := tx.linkers(c)
	if err != nil {
		return err
	}
	if len(repos) > 1 || !added {
		if _, err := tx.exec(`UPDATE links SET manifest = 1 WHERE content_id = $1 AND direct = 1`, c.id); err != nil {
			return err
		}
	}
	for _, repo := range repos {
		if err := tx.gain(repo, 1); err != nil {
			return err
		}
		if err := tx.lend(children, repo); err != nil {
			return err
		}
	}
	return nil
}

// AddBlob says that the content of a blob is stored and that repo has it. Again is harmless,
// and corrects the size. Where several nodes write it may fail with an [Unplaced], which does not
// spoil the transaction.
func (tx *Tx) AddBlob(repo registry.Repo, d registry.Digest, size int64) error {
	c, err := tx.find(d)
	if err == nil {
		err = tx.arrive(c, repo, d)
	}
	if _, ok := errors.AsType[*Unplaced](err); ok {
		return err
	}
	if err == nil {
		c.keep(size)
		err = tx.linkWhole(c, repo)
	}
	if err != nil {
		return tx.spoil(err, "add blob %s to %s", d, repo)
	}
	return nil
}

// linkWhole links c, and what it is made of when it is a manifest.
func (tx *Tx) linkWhole(c *content, repo registry.Repo) error {
	added, err := tx.link(c, repo)
	if err != nil || !added || !c.mediaType.Valid {
		return err
	}
	if err := tx.gain(repo, 1); err != nil {
		return err
	}
	children, err := tx.children(c)
	if err != nil {
		return err
	}
	return tx.lend(children, repo)
}

// keep makes c stored content. New content counts as used now: it was just asked for, and
// what was adopted is given the same time to be asked for.
func (c *content) keep(size int64) {
	if !c.stored {
		c.usedAt = millis(time.Now())
	}
	c.stored, c.size = true, size
}

// link saves c and links it to repo directly. It says whether the link is new.
func (tx *Tx) link(c *content, repo registry.Repo) (added bool, err error) {
	r, err := tx.repository(repo)
	if err != nil {
		return false, err
	}
	if err := tx.hold(c, r.project); err != nil {
		return false, err
	}
	if err := tx.save(c); err != nil {
		return false, err
	}
	n, err := tx.exec(`INSERT INTO links (content_id, repository_id, direct, through, linked_at, manifest) VALUES ($1, $2, 1, 0, $3, $4)
		ON CONFLICT (content_id, repository_id) DO UPDATE SET direct = 1, linked_at = excluded.linked_at, manifest = excluded.manifest
		WHERE links.direct = 0`, c.id, r.id, millis(time.Now()), bit(c.mediaType.Valid))
	if err != nil {
		return false, err
	}
	return n > 0, tx.show(r)
}

// lend links children to a repository that has just got one more manifest made of them.
func (tx *Tx) lend(children []*content, repo registry.Repo) error {
	r, err := tx.repository(repo)
	if err != nil {
		return err
	}
	hosted, err := tx.hosted(r.project)
	if err != nil {
		return err
	}
	for _, c := range children {
		if !hosted {
			if err := tx.hold(c, r.project); err != nil {
				return err
			}
		}
		if err := tx.save(c); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO links (content_id, repository_id, direct, through) VALUES ($1, $2, 0, 1)
			ON CONFLICT (content_id, repository_id) DO UPDATE SET through = links.through + 1`, c.id, r.id)
		if err != nil {
			return err
		}
	}
	return nil
}

// addRefs writes what manifest m refers to, and returns what it is made of, each digest once.
func (tx *Tx) addRefs(m *content, refs registry.References) ([]*content, error) {
	var children []*content
	add := func(d registry.Descriptor, mediaType sql.NullString) error {
		c, err := tx.placeholder(d.Digest)
		if err != nil {
			return err
		}
		n, err := tx.exec(`INSERT INTO refs (manifest_id, child_id, size, media_type) VALUES ($1, $2, $3, $4)
			ON CONFLICT (manifest_id, child_id) DO NOTHING`, m.id, c.id, d.Size, mediaType)
		if n > 0 {
			children = append(children, c)
		}
		return err
	}
	for _, d := range refs.Blobs() {
		if err := add(d, sql.NullString{}); err != nil {
			return nil, err
		}
	}
	for _, d := range refs.Manifests {
		if err := add(d, sql.NullString{String: d.MediaType, Valid: true}); err != nil {
			return nil, err
		}
	}
	if refs.Subject == nil {
		return children, nil
	}
	return children, tx.addSubject(m, refs)
}

func (tx *Tx) addSubject(m *content, refs registry.References) error {
	subject, err := tx.placeholder(refs.Subject.Digest)
	if err != nil {
		return err
	}
	var annotations sql.NullString
	if len(refs.Annotations) > 0 {
		text, err := json.Marshal(refs.Annotations)
		if err != nil {
			return err
		}
		annotations = sql.NullString{String: string(text), Valid: true}
	}
	_, err = tx.exec(`INSERT INTO subjects (manifest_id, subject_id, artifact_type, annotations) VALUES ($1, $2, $3, $4)`,
		m.id, subject.id, refs.ArtifactType, annotations)
	return err
}

// children returns what a manifest whose references are known is made of.
func (tx *Tx) children(m *content) ([]*content, error) {
	var children []*content
	err := tx.each(`SELECT `+contentColumns+` FROM refs f JOIN content c ON c.id = f.child_id
		WHERE f.manifest_id = $1`, []any{m.id}, func(rows *sql.Rows) error {
		c, err := tx.scan(rows)
		children = append(children, c)
		return err
	})
	return children, err
}

// linkers returns the repositories that have c directly.
func (tx *Tx) linkers(c *content) ([]registry.Repo, error) {
	var repos []registry.Repo
	err := tx.each(`SELECT r.name FROM links l JOIN repositories r ON r.id = l.repository_id
		WHERE l.content_id = $1 AND l.direct = 1 ORDER BY r.name`, []any{c.id}, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		repos = append(repos, registry.SplitRepo(name))
		return err
	})
	return repos, err
}

// find returns the row of a digest. It is new, with id 0, if there is none.
func (tx *Tx) find(d registry.Digest) (*content, error) {
	key, err := pack(d)
	if err != nil {
		return nil, err
	}
	if c := tx.content[string(key)]; c != nil {
		return c, nil
	}
	c := &content{key: key}
	if tx.db.Shared() {
		err = tx.findShared(c)
	} else {
		err = tx.one(`SELECT `+contentColumns+` FROM content c WHERE c.digest = $1`, []any{key}, c.columns()...)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	c.key, c.saved = key, c.row
	tx.content[string(key)] = c
	return c, nil
}

// placeholder returns the row of a digest that something refers to.
func (tx *Tx) placeholder(d registry.Digest) (*content, error) {
	c, err := tx.find(d)
	if err != nil {
		return nil, err
	}
	return c, tx.save(c)
}

func (c *content) columns() []any {
	return []any{&c.id, &c.key, &c.stored, &c.size, &c.mediaType, &c.usedAt, &c.holders}
}

// scan reads contentColumns. A row that this transaction has seen is the one it has.
func (tx *Tx) scan(rows *sql.Rows) (*content, error) {
	c := &content{}
	if err := rows.Scan(c.columns()...); err != nil {
		return nil, err
	}
	if seen := tx.content[string(c.key)]; seen != nil {
		return seen, nil
	}
	c.saved = c.row
	tx.content[string(c.key)] = c
	return c, nil
}

// save writes c if it is new or has changed, and counts what that means for its holders.
func (tx *Tx) save(c *content) error {
	if c.id != 0 && c.row == c.saved {
		return nil
	}
	var err error
	if c.id == 0 {
		err = tx.one(`INSERT INTO content (digest, stored, size, media_type, used_at, holders_id)
			VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
			[]any{c.key, bit(c.stored), c.size, c.mediaType, c.usedAt, c.holders}, &c.id)
	} else {
		_, err = tx.exec(`UPDATE content SET stored = $1, size = $2, media_type = $3, used_at = $4, holders_id = $5
			WHERE id = $6`, bit(c.stored), c.size, c.mediaType, c.usedAt, c.holders, c.id)
	}
	if err != nil {
		return err
	}
	tx.account(c.saved, -1)
	tx.account(c.row, +1)
	c.saved = c.row
	return nil
}

// repository returns the row of a repository and makes it if there is none.
func (tx *Tx) repository(repo registry.Repo) (*repository, error) {
	if r, ok := tx.repos[repo]; ok {
		return r, nil
	}
	name := repo.String()
	r := &repository{project: registry.SplitRepo(name).Project}
	unlinks := `0`
	if tx.db.Shared() {
		unlinks = `CASE WHEN EXISTS (SELECT 1 FROM unlinks u WHERE u.repository = $1) THEN 1 ELSE 0 END`
	}
	err := tx.one(`SELECT id, listed, updated_at, `+unlinks+` FROM repositories WHERE name = $1`, []any{name}, &r.id, &r.listed, &r.updatedAt, &r.unlinks)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.one(`INSERT INTO repositories (name, project, created_at) VALUES ($1, $2, $3) RETURNING id, `+unlinks,
			[]any{name, r.project, millis(time.Now())}, &r.id, &r.unlinks)
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	tx.repos[repo] = r
	return r, nil
}
