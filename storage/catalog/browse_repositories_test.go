package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

// testBrowseRepositories compares every filter, order and page with what comes of doing the same
// to a plain list.
func testBrowseRepositories(t *testing.T, db *DB) {
	names := []string{"docker.io/library/busybox", "docker.io/library/alpine", "docker.io/a_b", "docker.io/axb", "docker.io/a%b", `docker.io/a\b`,
		"quay.io/coreos/etcd", "quay.io/library/busybox", "gcr.io/pause", "gcr.io/pause-amd64", "production/web"}
	var all []Repository
	update(t, db, func(tx *Tx) error {
		for i, name := range names {
			repo := registry.SplitRepo(name)
			at := noon.Add(time.Duration(i*7%5) * time.Hour) // some at the same time
			err := errors.Join(tx.PutTag(repo, "latest", Tag{Descriptor: blob(name, 1), ChangedAt: at}), tx.PulledFrom(repo, int64(i), at.Add(time.Duration(i%3)*24*time.Hour)))
			if err != nil {
				return err
			}
			all = append(all, Repository{Repo: repo, Pulls: int64(i), UpdatedAt: at, PulledAt: at.Add(time.Duration(i%3) * 24 * time.Hour)})
		}
		return nil
	})
	orders := map[RepositoryOrder]func(a, b Repository) int{
		ByName:   func(a, b Repository) int { return 0 },
		ByUpdate: func(a, b Repository) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
		ByPull:   func(a, b Repository) int { return a.PulledAt.Compare(b.PulledAt) },
	}
	show := func(all []Repository) string {
		var lines []string
		for _, r := range all {
			lines = append(lines, fmt.Sprint(r.Repo, r.Pulls, r.UpdatedAt.Unix(), r.PulledAt.Unix()))
		}
		return strings.Join(lines, "\n")
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprint("absent", i))
	}
	check := func(f RepositoryFilter, p Page) {
		t.Helper()
		want := slices.DeleteFunc(slices.Clone(all), func(r Repository) bool {
			name := r.Repo.String()
			return f.Projects != nil && !slices.Contains(f.Projects, r.Repo.Project) || f.Name != "" && name != f.Name ||
				!strings.Contains(name, strings.ToLower(f.Contains))
		})
		slices.SortFunc(want, func(a, b Repository) int {
			c := cmp.Or(orders[f.Order](a, b), strings.Compare(a.Repo.String(), b.Repo.String()))
			if f.Descending {
				c = -c
			}
			return c
		})
		total := len(want)
		want = want[min(p.Offset, total):]
		if p.Limit > 0 {
			want = want[:min(p.Limit, len(want))]
		}
		got, n, err := db.BrowseRepositories(t.Context(), f, p)
		if err != nil || n != total || show(got) != show(want) {
			t.Errorf("%+v %+v:\n%s\n%d in all, %v; want\n%s\n%d in all", f, p, show(got), n, err, show(want), total)
		}
		if f.Name != "" || f.Order != ByName || f.Descending || p.Offset > 0 || p.Limit == 0 {
			return
		}
		if got, err := db.SearchRepositories(t.Context(), f.Projects, f.Contains, p.Limit); err != nil || show(got) != show(want) {
			t.Errorf("search %+v %+v:\n%s\n%v; want\n%s", f, p, show(got), err, show(want))
		}
	}
	for _, projects := range [][]string{nil, {}, {"docker.io"}, {"docker.io", "gcr.io"}, {"docker.io", "docker.io"}, append(many, "quay.io"), {"absent"}, {"d%"}} {
		for _, contains := range []string{"", "a", "BUSYBOX", "_", "%", `\`, "a_b", "io/library", "absent", "'", strings.Repeat("a", 100_000)} {
			exact := []string{""}
			if contains == "" || contains == "a" {
				exact = append(exact, "docker.io/a_b", "docker.io/a", "Docker.io/a_b")
			}
			for _, name := range exact {
				for order := range orders {
					for _, p := range []Page{{}, {0, 3}, {3, 3}, {9, 3}, {11, 3}, {12, 3}, {500, 3}, {4, 0}, {0, 11}} {
						check(RepositoryFilter{projects, contains, name, order, p.Offset%2 == 0}, p)
						check(RepositoryFilter{projects, contains, name, order, p.Offset%2 == 1}, p)
					}
				}
			}
		}
	}
	if _, _, err := db.BrowseRepositories(t.Context(), RepositoryFilter{Order: "name; DROP TABLE tags"}, Page{}); err == nil {
		t.Error("an order that there is not was taken")
	}
	if got, err := db.SearchRepositories(t.Context(), nil, "", 0); err != nil || len(got) != 0 {
		t.Errorf("a search for none: %v, %v", got, err)
	}
}

func testRepository(t *testing.T, db *DB) {
	start := time.Now().Truncate(time.Millisecond)
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "one", layers: []string{"layer"}}.add(tx, busybox),
			manifest{name: "two", layers: []string{"layer"}}.add(tx, busybox),
			manifest{name: "index", children: []string{"one", "three"}}.add(tx, busybox),
			tx.PutTag(busybox, "1", Tag{Descriptor: blob("one", 100), ChangedAt: noon}),
			tx.SetDescription(busybox, "a box"), tx.PulledFrom(busybox, 3, noon), tx.PulledFrom(busybox, 2, noon.Add(-time.Hour)),
			tx.PulledFrom(alpine, 1, noon),
		)
	})
	r, err := db.Repository(t.Context(), busybox)
	if err != nil || r.Repo != busybox || r.Description != "a box" || r.Artifacts != 3 || r.Pulls != 5 || !r.PulledAt.Equal(noon) {
		t.Errorf("Repository = %+v, %v", r, err)
	}
	if r.CreatedAt.Before(start) || r.UpdatedAt.Before(r.CreatedAt) || time.Since(r.UpdatedAt) > time.Minute {
		t.Errorf("created %s, updated %s, after %s", r.CreatedAt, r.UpdatedAt, start)
	}
	later := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutTag(busybox, "1", Tag{Descriptor: blob("two", 100), ChangedAt: later}), tx.Pulled(busybox, "1", later))
	})
	if again, err := db.Repository(t.Context(), busybox); err != nil || !again.UpdatedAt.Equal(later) || !again.PulledAt.Equal(later) || again.CreatedAt != r.CreatedAt {
		t.Errorf("after a tag moved and was pulled: %+v, %v", again, err)
	}
	if _, err := db.Repository(t.Context(), alpine); !errors.Is(err, ErrNotFound) {
		t.Errorf("a repository that is not there: %v", err)
	}
	update(t, db, func(tx *Tx) error {
		if err := tx.SetDescription(alpine, "none"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a repository that is not there was described: %v", err)
		}
		return nil // and that has not spoilt the transaction
	})
}

// testListed: a repository is shown as long as it has content or a tag that is not gone.
func testListed(t *testing.T, db *DB) {
	gone := Tag{Descriptor: blob("image", 100), CheckedAt: noon, ChangedAt: noon, Gone: true}
	there := gone
	there.Gone = false
	for _, step := range []struct {
		name   string
		change func(*Tx) error
		want   int
	}{
		{"a tag that upstream does not have", func(tx *Tx) error { return tx.PutTag(busybox, "1", gone) }, 0},
		{"has it now", func(tx *Tx) error { return tx.PutTag(busybox, "1", there) }, 1},
		{"has it no more", func(tx *Tx) error { return tx.PutTag(busybox, "1", gone) }, 0},
		{"it comes and goes at once", func(tx *Tx) error {
			return errors.Join(tx.PutTag(busybox, "1", there), tx.PutTag(busybox, "1", gone))
		}, 0},
		{"content comes", func(tx *Tx) error { return tx.AddBlob(busybox, dg("layer"), 10) }, 1},
		{"content goes", func(tx *Tx) error { _, err := tx.Forget(dg("layer")); return err }, 0},
		{"it goes and comes at once", func(tx *Tx) error {
			_, err := tx.Forget(dg("layer"))
			return errors.Join(err, tx.AddBlob(busybox, dg("layer"), 10))
		}, 1},
		{"the tag is deleted", func(tx *Tx) error { return tx.DeleteTag(busybox, "1") }, 1},
		{"all of it goes", func(tx *Tx) error { _, err := tx.Unlink(busybox, dg("layer")); return err }, 0},
	} {
		update(t, db, step.change)
		_, err := db.Repository(t.Context(), busybox)
		all, total, err2 := db.BrowseRepositories(t.Context(), RepositoryFilter{}, Page{Limit: 1})
		names, err3 := db.Repositories(t.Context(), "", -1)
		if (err == nil) != (step.want == 1) || total != step.want || len(all) != step.want || len(names) != step.want || err2 != nil || err3 != nil {
			t.Errorf("%s: %v, %d in all, %v, %v, want %d", step.name, err, total, all, names, step.want)
		}
		recount(t, db)
	}
}

func testSummaries(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.AddBlob(busybox, dg("layer"), 1000), tx.AddBlob(etcd, dg("layer"), 1000), tx.AddBlob(alpine, dg("own"), 10),
			manifest{name: "image", layers: []string{"layer"}}.add(tx, busybox), manifest{name: "image", layers: []string{"layer"}}.add(tx, alpine),
			manifest{name: "image", layers: []string{"layer"}}.add(tx, etcd),
		)
	})
	want := map[string]Summary{"docker.io": {2, 2, 1110}, "quay.io": {1, 1, 1100}}
	all, err := db.Summaries(t.Context())
	if err != nil || fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("Summaries = %v, %v, want %v", all, err, want)
	}
	for _, project := range []string{"docker.io", "quay.io", "absent"} {
		if got, err := db.Summary(t.Context(), project); err != nil || got != want[project] {
			t.Errorf("Summary(%s) = %v, %v, want %v", project, got, err, want[project])
		}
	}
	if got, err := db.Total(t.Context()); err != nil || got != (Summary{3, 3, 1110}) {
		t.Errorf("Total = %v, %v", got, err)
	}
	update(t, db, func(tx *Tx) error { return errors.Join(forget(tx, "image"), forget(tx, "layer"), forget(tx, "own")) })
	if got, err := db.Total(t.Context()); err != nil || got != (Summary{}) {
		t.Errorf("Total of nothing = %v, %v", got, err)
	}
}

func forget(tx *Tx, name string) error {
	_, err := tx.Forget(dg(name))
	return err
}
