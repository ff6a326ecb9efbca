package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"roadstead/registry"
)

// Found is what is known of a digest in a repository.
type Found struct {
	// Linked: the repository has it. It was linked itself, or a manifest that the repository
	// has is made of it: the config or a layer of an image, a manifest of an index, or the
	// layers of such a manifest. Being the subject of a manifest is no such thing.
	Linked bool

	// Direct: it was linked itself.
	Direct bool

	// Stored: its content is in the store, whichever repository brought it there.
	Stored bool

	// Size in bytes is that of the stored content, else what a manifest of the repository says
	// of it, else -1.
	Size int64

	// MediaType is that of a manifest, as itself or as an index of the repository says. It is
	// empty for what is not known to be one.
	MediaType string
}

// Find says what is known of d in repo, in one question to the database. Nothing known is no
// error.
func (db *DB) Find(ctx context.Context, repo registry.Repo, d registry.Digest) (Found, error) {
	found, err := db.find(ctx, repo, d)
	if err != nil {
		return Found{}, fmt.Errorf("catalog: find %s in %s: %w", d, repo, db.explain(err))
	}
	return found, nil
}

func (db *DB) find(ctx context.Context, repo registry.Repo, d registry.Digest) (Found, error) {
	key, err := pack(d)
	if err != nil {
		return Found{}, err
	}
	var (
		found         Found
		size, claimed sql.NullInt64
		own, claim    sql.NullString
		parent        sql.NullInt64
	)
	// A link answers for what was linked directly and for what one manifest away is. The
	// rest is what p is for, a manifest that the repository has in either way and that is
	// made of d: it reaches the layers of an image that only an index names, and tells what
	// size to expect. It is looked for only if the link and the content do not say it all.
	//
	// Some content has a great many parents: the empty layer is in every second image. A
	// thousand of them are looked at, the newest first. More would let one request for a
	// blob that a repository does not have cost seconds; and not to find the parent costs no
	// more than a question to upstream.
	err = db.read.one(ctx, `SELECT c.stored, c.size, c.media_type, l.content_id IS NOT NULL, COALESCE(l.direct, 0), p.manifest_id, p.size, p.media_type
		FROM content c
		LEFT JOIN repositories r ON r.name = $1
		LEFT JOIN links l ON l.content_id = c.id AND l.repository_id = r.id
		LEFT JOIN refs p ON p.child_id = c.id AND p.manifest_id =
			CASE WHEN c.stored = 1 AND l.content_id IS NOT NULL THEN NULL ELSE
				(SELECT f.manifest_id
				FROM (SELECT manifest_id FROM refs WHERE child_id = c.id ORDER BY manifest_id DESC LIMIT 1000) f
				JOIN links pl ON pl.content_id = f.manifest_id AND pl.repository_id = r.id
				LIMIT 1)
			END
		WHERE c.digest = $2`,
		[]any{repo.String(), key}, &found.Stored, &size, &own, &found.Linked, &found.Direct, &parent, &claimed, &claim)
	if errors.Is(err, sql.ErrNoRows) {
		return Found{Size: -1}, nil
	}
	if err != nil {
		return Found{}, err
	}
	found.Linked = found.Linked || parent.Valid
	found.Size, found.MediaType = -1, own.String
	switch {
	case found.Stored:
		found.Size = size.Int64
	case parent.Valid:
		found.Size, found.MediaType = claimed.Int64, claim.String
	}
	return found, nil
}

// Referrers lists the manifests of a repository whose subject is d, in the order of their
// digests, with artifact type and annotations; only those of one artifact type unless it is
// empty. Whether d itself is here makes no difference.
func (db *DB) Referrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	referrers, err := db.referrers(ctx, repo, d, artifactType, 0)
	if err != nil {
		return nil, fmt.Errorf("catalog: referrers of %s in %s: %w", d, repo, db.explain(err))
	}
	return referrers, nil
}

func (db *DB) referrers(ctx context.Context, repo registry.Repo, d registry.Digest, artifactType string, direct int) ([]registry.Descriptor, error) {
	key, err := pack(d)
	if err != nil {
		return nil, err
	}
	var referrers []registry.Descriptor
	err = db.read.each(ctx, `SELECT m.digest, m.media_type, m.size, s.artifact_type, s.annotations
		FROM content c
		JOIN subjects s ON s.subject_id = c.id
		JOIN content m ON m.id = s.manifest_id
		JOIN repositories r ON r.name = $1
		JOIN links l ON l.content_id = m.id AND l.repository_id = r.id
		WHERE c.digest = $2 AND ($3 = '' OR s.artifact_type = $3) AND l.direct >= $4
		ORDER BY m.digest`, []any{repo.String(), key, artifactType, direct}, func(rows *sql.Rows) error {
		desc, err := scanReferrer(rows)
		referrers = append(referrers, desc)
		return err
	})
	return referrers, err
}

func scanReferrer(rows *sql.Rows) (registry.Descriptor, error) {
	var (
		desc        registry.Descriptor
		key         []byte
		annotations sql.NullString
	)
	if err := rows.Scan(&key, &desc.MediaType, &desc.Size, &desc.ArtifactType, &annotations); err != nil {
		return registry.Descriptor{}, err
	}
	if annotations.Valid {
		if err := json.Unmarshal([]byte(annotations.String), &desc.Annotations); err != nil {
			return registry.Descriptor{}, err
		}
	}
	var err error
	desc.Digest, err = unpack(key)
	return desc, err
}
