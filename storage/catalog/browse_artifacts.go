package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
)

// Artifact is what people are shown of a manifest that a repository has directly.
type Artifact struct {
	ID           int64
	Digest       registry.Digest
	MediaType    string
	Size         int64           // of the manifest itself
	Total        int64           // of the manifest and all it is made of, each piece once, as manifests say
	ArtifactType string          // of one that has a subject; others are not asked for theirs
	Subject      registry.Digest // what it refers to, or ""
	PushedAt     time.Time       // when it was last pushed or, in a proxy project, came here
	PulledAt     time.Time       // coarse unless LastPull is known; zero: not since then, as far as is known
	LastPull     LastPull        // for those only who may know who does what in the project
	Tags         []NamedTag      // those that are not gone, in byte order
}

// NamedTag is a tag with its name.
type NamedTag struct {
	Name string
	Tag
}

// ArtifactFilter says which artifacts are listed. The zero value lists all.
type ArtifactFilter struct {
	Tag       string          // is part of one of its tags, whatever its case
	Digest    registry.Digest // is its own
	MediaType string          // is its own
	Tagged    bool            // those with a tag that is not gone
	Untagged  bool            // those without
	Subject   registry.Digest // is what they refer to
	Own       bool            // those that refer to nothing that the repository has
	Roots     bool            // those with such a tag, or that no other manifest of the repository is made of
}

// BrowseArtifacts returns a page of the stored manifests that a repository has directly, the newest
// push first, and how many there are on all pages. ErrNotFound says that there is no such
// repository.
func (db *DB) BrowseArtifacts(ctx context.Context, repo registry.Repo, f ArtifactFilter, p Page) ([]Artifact, int, error) {
	s, err := db.shelf(ctx, repo)
	var (
		all   []Artifact
		total int
	)
	if err == nil {
		all, err = db.artifacts(ctx, s, f, p)
	}
	if err == nil {
		total, err = db.countArtifacts(ctx, s, f, p, len(all))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("catalog: artifacts of %s: %w", repo, db.explain(err))
	}
	return all, total, nil
}

// Artifact returns what a tag or a digest stands for in a repository, or ErrNotFound.
func (db *DB) Artifact(ctx context.Context, repo registry.Repo, reference string) (Artifact, error) {
	a, err := db.artifact(ctx, repo, reference)
	if err != nil {
		return Artifact{}, fmt.Errorf("catalog: artifact %s of %s: %w", reference, repo, db.explain(err))
	}
	return a, nil
}

func (db *DB) artifact(ctx context.Context, repo registry.Repo, reference string) (Artifact, error) {
	d := registry.Digest(reference)
	if !strings.Contains(reference, ":") { // which no tag has in it
		t, err := db.Tag(ctx, repo, reference)
		if err == nil && (t.Gone || t.Digest == "") {
			err = ErrNotFound
		}
		if err != nil {
			return Artifact{}, err
		}
		d = t.Digest
	}
	if _, err := pack(d); err != nil {
		return Artifact{}, err
	}
	s, err := db.shelf(ctx, repo)
	if err != nil {
		return Artifact{}, err
	}
	all, err := db.artifacts(ctx, s, ArtifactFilter{Digest: d}, Page{})
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Artifact{}, err
	}
	return all[0], nil
}

// shelf is a repository as its artifacts need it.
type shelf struct {
	id        int64
	project   string
	hosted    bool
	manifests int
}

func (db *DB) shelf(ctx context.Context, repo registry.Repo) (s shelf, err error) {
	err = db.read.one(ctx, `SELECT r.id, r.project, EXISTS (SELECT 1 FROM projects p WHERE p.name = r.project AND p.registry_id IS NULL), r.manifests
		FROM repositories r WHERE r.name = $1 AND r.listed = 1`, []any{repo.String()}, &s.id, &s.project, &s.hosted, &s.manifests)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return s, err
}

// follows holds for what refers to another manifest that the repository has.
const follows = `EXISTS (SELECT 1 FROM subjects a JOIN links o ON o.content_id = a.subject_id
	WHERE a.manifest_id = l.content_id AND o.repository_id = %s AND o.manifest = 1)`

// CountArtifacts says of each of some repositories how many artifacts it has
// for itself, as Roots and Own list them. A repository is named by its ID.
func (db *DB) CountArtifacts(ctx context.Context, repositories []int64) (map[int64]int64, error) {
	counts := map[int64]int64{}
	for chunk := range slices.Chunk(repositories, step) {
		var c conditions
		ids := set(&c, chunk)
		err := db.read.each(ctx, `SELECT l.repository_id, COUNT(*) FROM links l JOIN content c ON c.id = l.content_id
			WHERE l.repository_id IN (`+ids+`) AND l.manifest = 1
			AND (l.through = 0 OR EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = l.repository_id AND t.digest = c.digest AND t.gone = 0))
			AND NOT `+fmt.Sprintf(follows, "l.repository_id")+` GROUP BY l.repository_id`, c.args, func(rows *sql.Rows) error {
			var id, n int64
			err := rows.Scan(&id, &n)
			counts[id] = n
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("catalog: count artifacts: %w", db.explain(err))
		}
	}
	return counts, nil
}

// query asks for columns of the links that a filter lets through.
func (f ArtifactFilter) query(s shelf, columns string) (string, conditions, error) {
	from := ` FROM links l`
	if f != (ArtifactFilter{}) {
		from += ` JOIN content c ON c.id = l.content_id`
	}
	var c conditions
	c.where("l.repository_id = %s AND l.manifest = 1", s.id)
	if f.Digest != "" {
		key, err := pack(f.Digest)
		if err != nil {
			return "", c, err
		}
		c.where("c.digest = %s", key)
	}
	if f.MediaType != "" {
		c.where("c.media_type = %s", f.MediaType)
	}
	const tagged = `c.digest IN (SELECT t.digest FROM tags t WHERE t.repository_id = %s AND t.gone = 0 AND t.digest IS NOT NULL`
	if f.Tag != "" {
		within := conditions{args: c.args}
		within.where(tagged, s.id)
		within.contains("lower(t.tag)", f.Tag)
		c.all, c.args = append(c.all, strings.Join(within.all, " AND ")+")"), within.args
	}
	if f.Tagged {
		c.where(tagged+")", s.id)
	}
	if f.Untagged {
		c.where("NOT "+tagged+")", s.id)
	}
	if f.Subject != "" {
		key, err := pack(f.Subject)
		if err != nil {
			return "", c, err
		}
		c.where("c.id IN (SELECT a.manifest_id FROM subjects a JOIN content o ON o.id = a.subject_id WHERE o.digest = %s)", key)
	}
	if f.Own {
		c.where("NOT "+follows, s.id)
	}
	if f.Roots {
		c.where("(l.through = 0 OR "+tagged+"))", s.id)
	}
	return `SELECT ` + columns + from + c.String(), c, nil
}

func (db *DB) countArtifacts(ctx context.Context, s shelf, f ArtifactFilter, p Page, n int) (int, error) {
	if f == (ArtifactFilter{}) {
		return s.manifests, nil
	}
	if total, ok := p.total(n); ok {
		return total, nil
	}
	query, c, err := f.query(s, `COUNT(*)`)
	if err != nil {
		return 0, err
	}
	var total int
	return total, db.read.one(ctx, query, c.args, &total)
}

func (db *DB) artifacts(ctx context.Context, s shelf, f ArtifactFilter, p Page) ([]Artifact, error) {
	query, c, err := f.query(s, `l.content_id`)
	if err != nil {
		return nil, err
	}
	const newest = ` ORDER BY l.linked_at DESC, l.content_id DESC`
	query += newest + p.slice(&c)
	repository := c.bind(s.id)
	var all []Artifact
	err = db.read.each(ctx, `SELECT c.id, c.digest, c.media_type, c.size, l.linked_at, c.used_at, h.projects, a.artifact_type, o.digest, p.pulled_at, p.pulled_by
		FROM links l JOIN content c ON c.id = l.content_id JOIN holders h ON h.id = c.holders_id
		LEFT JOIN subjects a ON a.manifest_id = c.id LEFT JOIN content o ON o.id = a.subject_id
		LEFT JOIN last_pulls p ON p.content_id = l.content_id AND p.repository_id = l.repository_id
		WHERE l.repository_id = `+repository+` AND l.content_id IN (`+query+`)`+newest, c.args, func(rows *sql.Rows) error {
		a, err := s.scan(rows)
		all = append(all, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, errors.Join(db.addTotals(ctx, s, all), db.addTags(ctx, s, all))
}

// scan reads an artifact but for its tags and total.
func (s shelf) scan(rows *sql.Rows) (a Artifact, err error) {
	var (
		key, subject []byte
		pushed, used int64
		projects     string
		kind, by     sql.NullString
		last         sql.NullInt64
	)
	if err := rows.Scan(&a.ID, &key, &a.MediaType, &a.Size, &pushed, &used, &projects, &kind, &subject, &last, &by); err != nil {
		return a, err
	}
	a.PushedAt, a.ArtifactType = fromMillis(pushed), kind.String
	// Content has one time of use, whoever used it: where other projects have it too, nobody
	// shall learn here when theirs was pulled. It is set when content comes, before the link.
	switch {
	case last.Valid:
		a.LastPull = LastPull{fromMillis(last.Int64), by.String}
		a.PulledAt = a.LastPull.At
	case used > pushed && projects == s.project:
		a.PulledAt = fromMillis(used)
	case !s.hosted:
		a.PulledAt = a.PushedAt // that it was pulled brought it here
	}
	if a.Digest, err = unpack(key); err == nil && subject != nil {
		a.Subject, err = unpack(subject)
	}
	return a, err
}
