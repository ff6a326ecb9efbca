package catalog

import (
	"context"
	"fmt"

	"roadstead/registry"
)

// BrowseTags returns a page of the tags of a repository that are not gone and that have a text in
// their name, whatever its case; in byte order, with how many there are on all pages. ErrNotFound
// says that there is no such repository.
func (db *DB) BrowseTags(ctx context.Context, repo registry.Repo, contains string, p Page) ([]NamedTag, int, error) {
	what := "tags of " + repo.String()
	s, err := db.shelf(ctx, repo)
	if err != nil {
		return nil, 0, fmt.Errorf("catalog: %s: %w", what, db.explain(err))
	}
	var c conditions
	c.where("t.repository_id = %s AND t.gone = 0", s.id)
	c.contains("lower(t.tag)", contains)
	rest, counted := ` FROM tags t`+c.String(), c.args
	query := `SELECT t.tag, ` + tagColumns + rest + ` ORDER BY t.tag` + p.slice(&c)
	all, err := list(ctx, db, what, query, c.args, scanNamedTag)
	if err != nil {
		return nil, 0, err
	}
	total, ok := p.total(len(all))
	if !ok {
		err = db.read.one(ctx, `SELECT COUNT(*)`+rest, counted, &total)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("catalog: count the %s: %w", what, db.explain(err))
	}
	return all, total, nil
}

func scanNamedTag(scan func(...any) error) (NamedTag, error) {
	var n NamedTag
	t, err := scanTag(func(dest ...any) error { return scan(append([]any{&n.Name}, dest...)...) })
	n.Tag = t
	return n, err
}
