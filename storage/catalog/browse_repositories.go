package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
)

// Repository is what people are shown of a repository.
type Repository struct {
	ID          int64
	Repo        registry.Repo
	Description string
	Artifacts   int64     // manifests that it has directly
	Pulls       int64     // as far as PulledFrom was told
	CreatedAt   time.Time // zero: not known
	UpdatedAt   time.Time // when it last got a manifest, or a tag was seen to point to another
	PulledAt    time.Time // coarse; zero: never, as far as is known
}

// RepositoryOrder is what repositories are listed by.
type RepositoryOrder string

// The orders. Repositories of the same time are in that of their names.
const (
	ByName   RepositoryOrder = "" // in byte order
	ByUpdate RepositoryOrder = "updated"
	ByPull   RepositoryOrder = "pulled"
)

// RepositoryFilter says which repositories are listed, and how. The zero value lists all of them
// by name.
type RepositoryFilter struct {
	Projects   []string // those of these projects only, at most 16,384; none if it is empty but not nil
	Contains   string   // is part of the full name, whatever its case
	Name       string   // is the full name
	Order      RepositoryOrder
	Descending bool
}

// repositoryOrders are the columns of each order.
var repositoryOrders = map[RepositoryOrder][2]string{
	ByName:   {"r.name", "r.name DESC"},
	ByUpdate: {"r.updated_at, r.name", "r.updated_at DESC, r.name DESC"},
	ByPull:   {"r.pulled_at, r.name", "r.pulled_at DESC, r.name DESC"},
}

const repositoryColumns = `r.id, r.name, r.description, r.manifests, r.pulls, r.created_at, r.updated_at, r.pulled_at`

// BrowseRepositories returns a page of the repositories that have content or a tag that is not
// gone, as those of Repositories, and how many there are on all pages.
func (db *DB) BrowseRepositories(ctx context.Context, f RepositoryFilter, p Page) ([]Repository, int, error) {
	all, err := db.pageOfRepositories(ctx, f, p)
	if err != nil {
		return nil, 0, err
	}
	if total, ok := p.total(len(all)); ok {
		return all, total, nil
	}
	total, err := db.countRepositories(ctx, f)
	return all, total, err
}

// SearchRepositories returns at most n of the repositories that BrowseRepositories lists by name,
// without counting the others. projects are those that whoever searches may see; nil: all.
func (db *DB) SearchRepositories(ctx context.Context, projects []string, text string, n int) ([]Repository, error) {
	if n <= 0 {
		return nil, nil
	}
	return db.pageOfRepositories(ctx, RepositoryFilter{Projects: projects, Contains: text}, Page{Limit: n})
}

func (db *DB) pageOfRepositories(ctx context.Context, f RepositoryFilter, p Page) ([]Repository, error) {
	order, ok := repositoryOrders[f.Order]
	if !ok {
		return nil, fmt.Errorf("catalog: repositories cannot be listed by %q", f.Order)
	}
	by := order[bit(f.Descending)]
	c := f.conditions()
	// The page is found in an index alone, and its rows are read after that.
	query := `SELECT ` + repositoryColumns + ` FROM repositories r WHERE r.id IN
		(SELECT r.id FROM repositories r` + c.String() + ` ORDER BY ` + by + p.slice(&c) + `) ORDER BY ` + by
	return list(ctx, db, "repositories", query, c.args, scanRepository)
}

func (f RepositoryFilter) conditions() conditions {
	var c conditions
	c.where("r.listed = 1")
	if f.Projects != nil {
		// Not r.project itself: SQLite would take that for a reason to look up rows by project,
		// and to look into each whether it is listed, instead of staying in an index that says so.
		in(&c, "r.project || ''", f.Projects)
	}
	if len(f.Projects) == 1 && f.Order == ByName {
		// Its names are next to each other there; "0" comes next to "/".
		c.where("r.name >= %s AND r.name < %s", f.Projects[0], f.Projects[0]+"0")
	}
	if f.Name != "" {
		c.where("r.name = %s", f.Name)
	}
	c.contains("r.name", f.Contains)
	return c
}

func (db *DB) countRepositories(ctx context.Context, f RepositoryFilter) (int, error) {
	query, c := `SELECT COUNT(*) FROM repositories r`, f.conditions()
	if f.Name == "" && f.Contains == "" {
		query, c = `SELECT COALESCE(SUM(repositories), 0) FROM project_counts`, conditions{}
		if f.Projects != nil {
			in(&c, "project", f.Projects)
		}
	}
	var total int
	if err := db.read.one(ctx, query+c.String(), c.args, &total); err != nil {
		return 0, fmt.Errorf("catalog: count repositories: %w", db.explain(err))
	}
	return total, nil
}

// Repository returns a repository that BrowseRepositories lists, or ErrNotFound.
func (db *DB) Repository(ctx context.Context, repo registry.Repo) (Repository, error) {
	r, err := scanRepository(func(dest ...any) error {
		return db.read.one(ctx, `SELECT `+repositoryColumns+` FROM repositories r WHERE r.name = $1 AND r.listed = 1`,
			[]any{repo.String()}, dest...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Repository{}, fmt.Errorf("catalog: repository %s: %w", repo, db.explain(err))
	}
	return r, nil
}

func scanRepository(scan func(...any) error) (Repository, error) {
	var (
		r                        Repository
		name                     string
		created, updated, pulled int64
	)
	err := scan(&r.ID, &name, &r.Description, &r.Artifacts, &r.Pulls, &created, &updated, &pulled)
	r.Repo = registry.SplitRepo(name)
	r.CreatedAt, r.UpdatedAt, r.PulledAt = fromMillis(created), fromMillis(updated), fromMillis(pulled)
	return r, err
}

// SetDescription says what a repository is for. It goes with the repository. ErrNotFound says that
// there is none, and does not spoil the transaction.
func (tx *Tx) SetDescription(repo registry.Repo, text string) error {
	n, err := tx.exec(`UPDATE repositories SET description = $1 WHERE name = $2 AND listed = 1`, text, repo.String())
	if err != nil {
		return tx.spoil(err, "describe %s", repo)
	}
	if n == 0 {
		return fmt.Errorf("catalog: describe %s: %w", repo, ErrNotFound)
	}
	return nil
}

// PulledFrom adds n pulls to a repository, the last of them at the given time. There need be no
// such repository. It is meant for many pulls at once and now and then, as Touch.
func (tx *Tx) PulledFrom(repo registry.Repo, n int64, at time.Time) error {
	_, err := tx.exec(`UPDATE repositories SET pulls = pulls + $1,
		pulled_at = CASE WHEN pulled_at < $2 THEN $2 ELSE pulled_at END WHERE name = $3`, n, millis(at), repo.String())
	if err != nil {
		return tx.spoil(err, "note pulls of %s", repo)
	}
	return nil
}
