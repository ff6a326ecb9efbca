package catalog

import (
	"context"
	"database/sql"

	"roadstead/registry"
)

// Parted is what has to go from the layout after ForgetIn: some links, or a whole piece of content.
type Parted struct {
	Digest   registry.Digest
	Unlinked []Unlinked // when another repository has the content; end each with Relinked
	Removal  *Removal   // when none has; end it with Removed
}

// ForgetIn takes d, and the tags that point to it, out of a repository that has it directly: as
// Unlink does when another repository has it in whichever way, else as ForgetTagged. The repository
// keeps its claim to what other manifests of it are made of. ok says whether it had d.
func (tx *Tx) ForgetIn(repo registry.Repo, d registry.Digest) (p Parted, ok bool, err error) {
	var direct, elsewhere bool
	key, err := pack(d)
	if err == nil {
		err = tx.one(`SELECT
			EXISTS (SELECT 1 FROM links l JOIN content c ON c.id = l.content_id JOIN repositories r ON r.id = l.repository_id
				WHERE c.digest = $1 AND r.name = $2 AND l.direct = 1),
			EXISTS (SELECT 1 FROM links l JOIN content c ON c.id = l.content_id JOIN repositories r ON r.id = l.repository_id
				WHERE c.digest = $1 AND r.name <> $2)`, []any{key, repo.String()}, &direct, &elsewhere)
	}
	if err != nil {
		return Parted{}, false, tx.spoil(err, "look who has %s", d)
	}
	if !direct {
		return Parted{}, false, nil
	}
	p.Digest = d
	if elsewhere {
		p.Unlinked, err = tx.Unlink(repo, d)
		return p, true, err
	}
	r, err := tx.ForgetTagged(d)
	p.Removal = &r
	return p, true, err
}

// Parts returns what a stored manifest is made of: its config and layers, or the manifests of an
// index. What is no manifest, or unknown, has none.
func (tx *Tx) Parts(d registry.Digest) ([]registry.Digest, error) {
	parts, err := tx.digests(`SELECT p.digest FROM content c JOIN refs f ON f.manifest_id = c.id
		JOIN content p ON p.id = f.child_id WHERE c.digest = $1 ORDER BY p.id`, d)
	if err != nil {
		return nil, tx.spoil(err, "look what %s is made of", d)
	}
	return parts, nil
}

// EverTagged lists the tags of a repository that point to d, those that are gone upstream among
// them, in byte order.
func (tx *Tx) EverTagged(repo registry.Repo, d registry.Digest) ([]string, error) {
	key, err := pack(d)
	var tags []string
	if err == nil {
		err = tx.each(`SELECT t.tag FROM tags t JOIN repositories r ON r.id = t.repository_id
			WHERE r.name = $1 AND t.digest = $2 ORDER BY t.tag`, []any{repo.String(), key}, func(rows *sql.Rows) error {
			var tag string
			err := rows.Scan(&tag)
			tags = append(tags, tag)
			return err
		})
	}
	if err != nil {
		return nil, tx.spoil(err, "list the tags of %s@%s", repo, d)
	}
	return tags, nil
}

// About returns the manifests that a repository has directly and whose subject is d.
func (tx *Tx) About(repo registry.Repo, d registry.Digest) ([]registry.Digest, error) {
	// Few manifests have one subject; a repository may have very many links, so these come last.
	all, err := tx.digests(`SELECT m.digest FROM subjects s JOIN content m ON m.id = s.manifest_id
		WHERE s.subject_id = (SELECT id FROM content WHERE digest = $1)
		AND EXISTS (SELECT 1 FROM links l JOIN repositories r ON r.id = l.repository_id
			WHERE l.content_id = s.manifest_id AND r.name = $2 AND l.direct = 1)
		ORDER BY m.id`, d, repo.String())
	if err != nil {
		return nil, tx.spoil(err, "look for what is about %s in %s", d, repo)
	}
	return all, nil
}

// digests returns what a question about d answers.
func (tx *Tx) digests(query string, d registry.Digest, more ...any) ([]registry.Digest, error) {
	key, err := pack(d)
	if err != nil {
		return nil, err
	}
	var all []registry.Digest
	err = tx.each(query, append([]any{key}, more...), func(rows *sql.Rows) error {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return err
		}
		d, err := unpack(key)
		all = append(all, d)
		return err
	})
	return all, err
}

// RepositoryContent calls fn for all stored content that a repository has, one manifest deep, as
// ProjectContent does for those of a project.
func (db *DB) RepositoryContent(ctx context.Context, repo registry.Repo, fn func(registry.Digest) error) error {
	return db.repositoryContent(ctx, repo, fn)
}
