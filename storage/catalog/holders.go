package catalog

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// nobody is the row of holders for content that no repository has.
const nobody int64 = 0

// sets remembers rows of holders. What a row stands for never changes, and rows are never
// removed, so a remembered one is right for ever, whichever node made it; or until a server comes
// back without its last transactions.
type sets struct {
	mu       sync.Mutex
	projects map[int64][]string // sorted
	ids      map[string]int64   // by the joined names
}

// setChanges are the sets that a transaction made. If it is not committed there are no such rows.
type setChanges struct {
	projects map[int64][]string
	ids      map[string]int64
}

// joinProjects is how a set is stored. No project has a "/" in its name.
func joinProjects(projects []string) string { return strings.Join(projects, "/") }

func splitProjects(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, "/")
}

func (s *sets) learn(changes setChanges) {
	if len(changes.ids) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids, s.projects = map[string]int64{}, map[int64][]string{}
	}
	maps.Copy(s.ids, changes.ids)
	maps.Copy(s.projects, changes.projects)
}

// forget forgets all of them.
func (s *sets) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids, s.projects = nil, nil
}

func (s *sets) byID(id int64) ([]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	projects, ok := s.projects[id]
	return projects, ok
}

func (s *sets) byName(joined string) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.ids[joined]
	return id, ok
}

func (c *setChanges) add(id int64, joined string) []string {
	if c.ids == nil {
		c.ids, c.projects = map[string]int64{}, map[int64][]string{}
	}
	c.ids[joined], c.projects[id] = id, splitProjects(joined)
	return c.projects[id]
}

// holders returns the projects of a set.
func (tx *Tx) holders(id int64) ([]string, error) {
	if projects, ok := tx.sets.projects[id]; ok {
		return projects, nil
	}
	if projects, ok := tx.db.sets.byID(id); ok {
		return projects, nil
	}
	var joined string
	if err := tx.one(`SELECT projects FROM holders WHERE id = $1`, []any{id}, &joined); err != nil {
		return nil, fmt.Errorf("read holders %d: %w", id, err)
	}
	return tx.sets.add(id, joined), nil
}

// holdersOf returns the set of some sorted projects and makes it if there is none.
func (tx *Tx) holdersOf(projects []string) (int64, error) {
	joined := joinProjects(projects)
	if joined == "" {
		return nobody, nil
	}
	if id, ok := tx.sets.ids[joined]; ok {
		return id, nil
	}
	if id, ok := tx.db.sets.byName(joined); ok {
		return id, nil
	}
	var id int64
	err := tx.one(`SELECT id FROM holders WHERE projects = $1`, []any{joined}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.one(`INSERT INTO holders (projects) VALUES ($1) RETURNING id`, []any{joined}, &id)
	}
	if err != nil {
		return 0, fmt.Errorf("holders %s: %w", joined, err)
	}
	tx.sets.add(id, joined)
	return id, nil
}

// hold adds a project to the holders of c. The caller saves c.
func (tx *Tx) hold(c *content, project string) error {
	projects, err := tx.holders(c.holders)
	if err != nil {
		return err
	}
	at, there := slices.BinarySearch(projects, project)
	if there {
		return nil
	}
	c.holders, err = tx.holdersOf(slices.Insert(slices.Clone(projects), at, project))
	return err
}

// release takes a project out of the holders of c unless one of its repositories still has c,
// of a hosted one directly, and saves c.
func (tx *Tx) release(c *content, project string) error {
	projects, err := tx.holders(c.holders)
	if err != nil {
		return err
	}
	at, there := slices.BinarySearch(projects, project)
	if !there {
		return nil
	}
	hosted, err := tx.hosted(project)
	if err != nil {
		return err
	}
	var still bool
	err = tx.one(`SELECT EXISTS (SELECT 1 FROM links l JOIN repositories r ON r.id = l.repository_id
		WHERE l.content_id = $1 AND r.project = $2 AND l.direct >= $3)`, []any{c.id, project, bit(hosted)}, &still)
	if err != nil || still {
		return err
	}
	if c.holders, err = tx.holdersOf(slices.Delete(slices.Clone(projects), at, at+1)); err != nil {
		return err
	}
	return tx.save(c)
}

// hosted reports whether a project is a hosted one.
func (tx *Tx) hosted(project string) (bool, error) {
	if is, known := tx.projects[project]; known {
		return is, nil
	}
	var is bool
	err := tx.one(`SELECT EXISTS (SELECT 1 FROM projects WHERE name = $1 AND registry_id IS NULL)`, []any{project}, &is)
	if err != nil {
		return false, err
	}
	tx.projects[project] = is
	return is, nil
}
