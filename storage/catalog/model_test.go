package catalog

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"roadstead/registry"
)

// model is what a catalog should know, kept in the plainest way.
type model struct {
	stored map[registry.Digest]Cold
	known  map[registry.Digest]manifest // stored manifests
	links  map[registry.Repo]map[registry.Digest]bool
}

func (m model) clone() model {
	links := map[registry.Repo]map[registry.Digest]bool{}
	for repo, digests := range m.links {
		links[repo] = maps.Clone(digests)
	}
	return model{maps.Clone(m.stored), maps.Clone(m.known), links}
}

func (m manifest) parts() []registry.Digest {
	parts := slices.Concat(dgs(m.layers...), dgs(m.children...))
	if m.config != "" {
		parts = append(parts, dg(m.config))
	}
	return parts
}

// has says whether a repository has d within one manifest's reach.
func (m model) has(repo registry.Repo, d registry.Digest) bool {
	if m.links[repo][d] {
		return true
	}
	for parent := range m.links[repo] {
		if slices.Contains(m.known[parent].parts(), d) {
			return true
		}
	}
	return false
}

func (m model) linked(repo registry.Repo, d registry.Digest) bool {
	if m.has(repo, d) {
		return true
	}
	for parent, made := range m.known {
		if slices.Contains(made.parts(), d) && m.has(repo, parent) {
			return true
		}
	}
	return false
}

func (m model) coldest(repos []registry.Repo, projects []string) []Cold {
	var coldest []Cold
	for d, cold := range m.stored {
		held := slices.ContainsFunc(repos, func(repo registry.Repo) bool {
			return !slices.Contains(projects, repo.Project) && m.has(repo, d)
		})
		if !held {
			coldest = append(coldest, cold)
		}
	}
	slices.SortFunc(coldest, func(a, b Cold) int { return a.UsedAt.Compare(b.UsedAt) })
	return coldest
}

func (m model) referrers(repo registry.Repo, d registry.Digest) []registry.Digest {
	var referrers []registry.Digest
	for digest, made := range m.known {
		if made.subject != "" && dg(made.subject) == d && m.has(repo, digest) {
			referrers = append(referrers, digest)
		}
	}
	slices.Sort(referrers)
	return referrers
}

// world is what random operations are about: few digests, so that they meet often.
type world struct {
	repos     []registry.Repo
	names     []string // of everything
	manifests []manifest
}

func newWorld() world {
	w := world{manifests: []manifest{
		{name: "image 0", config: "config 0", layers: []string{"layer 0", "layer 1"}},
		{name: "image 1", config: "config 1", layers: []string{"layer 0", "layer 2", "layer 2"}},
		{name: "image 2", config: "config 0", layers: []string{"layer 3"}},
		{name: "index 0", children: []string{"image 0", "image 1"}},
		{name: "index 1", children: []string{"image 1", "index 0", "absent"}},
		{name: "index 2", children: []string{"image 2"}, subject: "index 0"},
		{name: "signature 0", config: "config 0", layers: []string{"layer 4"}, subject: "image 0"},
		{name: "signature 1", layers: []string{"layer 4"}, subject: "signature 0"},
	}}
	for _, project := range []string{"docker.io", "gcr.io", "quay.io"} {
		for i := range 2 {
			w.repos = append(w.repos, registry.Repo{Project: project, Name: fmt.Sprint("repository", i)})
		}
	}
	for _, m := range w.manifests {
		w.names = append(w.names, m.name)
	}
	for i := range 5 {
		w.names = append(w.names, fmt.Sprint("layer ", i))
	}
	w.names = append(w.names, "config 0", "config 1", "absent", "bare")
	return w
}

// step does one random operation to both.
func (w world) step(random *rand.Rand, tx *Tx, m model, at time.Time) error {
	repo := w.repos[random.IntN(len(w.repos))]
	name := w.names[random.IntN(len(w.names))]
	d := dg(name)
	link := func() {
		if m.links[repo] == nil {
			m.links[repo] = map[registry.Digest]bool{}
		}
		m.links[repo][d] = true
	}
	switch random.IntN(10) {
	case 0, 1, 2:
		made := w.manifests[random.IntN(len(w.manifests))]
		d = dg(made.name)
		link()
		m.known[d] = made
		m.stored[d] = Cold{d, 100, at}
		return errors.Join(made.add(tx, repo), aged(tx, []registry.Digest{d}, at))
	case 3, 4, 5:
		size := int64(random.IntN(1000))
		link()
		m.stored[d] = Cold{d, size, at}
		return errors.Join(tx.AddBlob(repo, d, size), aged(tx, []registry.Digest{d}, at))
	case 6:
		link()
		return tx.LinkOnly(repo, d)
	case 7:
		if cold, ok := m.stored[d]; ok {
			m.stored[d] = Cold{d, cold.Size, at}
		}
		return aged(tx, []registry.Digest{d}, at)
	}
	var want []registry.Repo
	for repo, digests := range m.links {
		if digests[d] {
			want = append(want, repo)
			delete(digests, d)
		}
	}
	slices.SortFunc(want, func(a, b registry.Repo) int { return cmp.Compare(a.String(), b.String()) })
	delete(m.stored, d)
	delete(m.known, d)
	got, err := tx.Forget(d)
	if err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("Forget(%s) = %v, want %v", name, got, want)
	}
	return err
}

func (w world) check(t *testing.T, db *DB, m model) {
	t.Helper()
	for _, repo := range w.repos {
		for _, name := range w.names {
			got, cold := found(t, db, repo, name), m.stored[dg(name)]
			_, stored := m.stored[dg(name)]
			if got.Linked != m.linked(repo, dg(name)) || got.Stored != stored || stored && got.Size != cold.Size {
				t.Errorf("Find(%s, %s) = %+v, want linked %v, stored %v, size %d", repo, name, got, m.linked(repo, dg(name)), stored, cold.Size)
			}
			var referrers []registry.Digest
			list, err := db.Referrers(t.Context(), repo, dg(name), "")
			for _, desc := range list {
				referrers = append(referrers, desc.Digest)
			}
			if want := m.referrers(repo, dg(name)); err != nil || !slices.Equal(referrers, want) {
				t.Errorf("Referrers(%s, %s) = %v, %v, want %v", repo, name, referrers, err, want)
			}
		}
	}
	for _, projects := range [][]string{nil, {"docker.io"}, {"gcr.io", "quay.io"}, {"docker.io", "gcr.io", "quay.io"}} {
		got, _, err := db.Coldest(t.Context(), projects, noon.Add(1e6*time.Hour), Mark{}, -1)
		if want := m.coldest(w.repos, projects); err != nil || !slices.Equal(got, want) {
			t.Errorf("Coldest(%v) = %v, %v, want %v", projects, got, err, want)
		}
	}
	recount(t, db)
}

func testModel(t *testing.T, db *DB) {
	const seed = 20260501
	random := rand.New(rand.NewPCG(seed, 1))
	w := newWorld()
	m := model{map[registry.Digest]Cold{}, map[registry.Digest]manifest{}, map[registry.Repo]map[registry.Digest]bool{}}
	back := errors.New("taken back")
	at := noon
	for round := 0; round < 300 && !t.Failed(); round++ {
		next := m.clone()
		discard := random.IntN(5) == 0
		err := db.Update(t.Context(), func(tx *Tx) error {
			for range 1 + random.IntN(6) {
				at = at.Add(time.Hour)
				if err := w.step(random, tx, next, at); err != nil {
					return err
				}
			}
			if discard {
				return back
			}
			return nil
		})
		switch {
		case discard && errors.Is(err, back):
		case err != nil:
			t.Fatal(err)
		default:
			m = next
		}
		if round%6 == 5 {
			w.check(t, db, m)
		}
	}
}

// recount proves everything that the writes keep up to date against a count from scratch.
func recount(t testing.TB, db *DB) {
	t.Helper()
	for name, query := range map[string]string{
		"counters that are not the sum of their content": `SELECT COUNT(*) FROM holders h WHERE
			h.bytes <> COALESCE((SELECT SUM(c.size) FROM content c WHERE c.holders_id = h.id AND c.stored = 1), 0)
			OR h.count <> (SELECT COUNT(*) FROM content c WHERE c.holders_id = h.id AND c.stored = 1)`,
		"links that count their manifests wrong": `SELECT COUNT(*) FROM links l WHERE l.through <>
			(SELECT COUNT(*) FROM refs f JOIN links m ON m.content_id = f.manifest_id
				WHERE f.child_id = l.content_id AND m.repository_id = l.repository_id AND m.direct = 1)`,
		"links that are missing": `SELECT COUNT(*) FROM refs f JOIN links m ON m.content_id = f.manifest_id AND m.direct = 1
			WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.content_id = f.child_id AND l.repository_id = m.repository_id)`,
		"links of nothing":                     `SELECT COUNT(*) FROM links WHERE direct = 0 AND through = 0`,
		"references of what is not a manifest": `SELECT COUNT(*) FROM refs f JOIN content c ON c.id = f.manifest_id WHERE c.media_type IS NULL`,
		"manifests that are not stored":        `SELECT COUNT(*) FROM content WHERE stored = 0 AND (media_type IS NOT NULL OR size <> 0)`,
		"digests that nothing needs": `SELECT COUNT(*) FROM content c WHERE stored = 0
			AND NOT EXISTS (SELECT 1 FROM links WHERE content_id = c.id)
			AND NOT EXISTS (SELECT 1 FROM refs WHERE child_id = c.id)
			AND NOT EXISTS (SELECT 1 FROM subjects WHERE subject_id = c.id)`,
		"repositories without anything": `SELECT COUNT(*) FROM repositories r
			WHERE NOT EXISTS (SELECT 1 FROM links WHERE repository_id = r.id)
			AND NOT EXISTS (SELECT 1 FROM tags WHERE repository_id = r.id)`,
		"links that are wrong about being to a manifest": `SELECT COUNT(*) FROM links l JOIN content c ON c.id = l.content_id
			WHERE l.manifest <> CASE WHEN l.direct = 1 AND c.media_type IS NOT NULL THEN 1 ELSE 0 END`,
		"pulls of what is gone": `SELECT COUNT(*) FROM last_pulls p WHERE NOT EXISTS (SELECT 1 FROM links l
			WHERE l.content_id = p.content_id AND l.repository_id = p.repository_id AND l.manifest = 1)`,
		"repositories that count their manifests wrong": `SELECT COUNT(*) FROM repositories r
			WHERE r.manifests <> (SELECT COUNT(*) FROM links WHERE repository_id = r.id AND manifest = 1)`,
		"repositories that are listed wrongly": `SELECT COUNT(*) FROM repositories r WHERE r.listed <>
			CASE WHEN EXISTS (SELECT 1 FROM links WHERE repository_id = r.id)
				OR EXISTS (SELECT 1 FROM tags WHERE repository_id = r.id AND gone = 0) THEN 1 ELSE 0 END`,
		"projects whose counters are not the sum of their repositories": `SELECT COUNT(*) FROM project_counts p WHERE
			p.repositories <> (SELECT COALESCE(SUM(listed), 0) FROM repositories r WHERE r.project = p.project)
			OR p.manifests <> (SELECT COALESCE(SUM(manifests), 0) FROM repositories r WHERE r.project = p.project)`,
		"projects without counters": `SELECT COUNT(*) FROM repositories r WHERE listed = 1
			AND NOT EXISTS (SELECT 1 FROM project_counts p WHERE p.project = r.project)`,
	} {
		var wrong int
		if err := db.read.one(t.Context(), query, nil, &wrong); err != nil {
			t.Fatal(err)
		}
		if wrong > 0 {
			t.Errorf("%d %s", wrong, name)
		}
	}
	recountHolders(t, db)
}

func recountHolders(t testing.TB, db *DB) {
	t.Helper()
	held, said := map[int64][]string{}, map[int64]string{}
	err := db.read.each(t.Context(), `SELECT c.id, h.projects, COALESCE(r.project, '') FROM content c JOIN holders h ON h.id = c.holders_id
		LEFT JOIN links l ON l.content_id = c.id LEFT JOIN repositories r ON r.id = l.repository_id
			AND (l.direct = 1 OR r.project NOT IN (SELECT name FROM projects))`, nil, func(rows *sql.Rows) error {
		var (
			id               int64
			joined, projects string
		)
		err := rows.Scan(&id, &joined, &projects)
		said[id] = joined
		if projects != "" {
			held[id] = append(held[id], projects)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, joined := range said {
		slices.Sort(held[id])
		if want := joinProjects(slices.Compact(held[id])); joined != want {
			t.Errorf("digest %d is said to be held by %q, want %q", id, joined, want)
		}
	}
}

func rows(t testing.TB, db *DB, table string) (n int) {
	t.Helper()
	if err := db.read.one(t.Context(), `SELECT COUNT(*) FROM `+table, nil, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func testReadersBesideWriter(t *testing.T, db *DB) {
	const images = 200
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(r)))
			for last := 0; last < images; {
				i := random.IntN(images)
				image := found(t, db, busybox, fmt.Sprint("image ", i))
				if image.Linked {
					// It was added after its layer in one update, and found before it here.
					if layer := found(t, db, busybox, fmt.Sprint("layer ", i)); !layer.Stored {
						t.Errorf("image %d is seen without its layer", i)
					}
				}
				usage, err := db.Usage(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if usage.Count%2 != 0 || usage.Count < int64(2*last) {
					t.Errorf("Usage = %+v after %d images, want two pieces for each", usage, last)
					return
				}
				last = int(usage.Count / 2)
			}
		})
	}
	for i := range images {
		update(t, db, func(tx *Tx) error {
			layer := fmt.Sprint("layer ", i)
			return errors.Join(tx.AddBlob(busybox, dg(layer), 10), manifest{name: fmt.Sprint("image ", i), layers: []string{layer}}.add(tx, busybox))
		})
	}
	readers.Wait()
}
