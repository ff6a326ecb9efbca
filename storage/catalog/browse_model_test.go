package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"roadstead/registry"
)

// testBrowseModel does random things and looks whether all counters are still right, and whether
// pages say what Revisions and RepositoryTags do.
func testBrowseModel(t *testing.T, db *DB) {
	random := rand.New(rand.NewPCG(20260502, 1))
	w := newWorld()
	w.repos = append(w.repos, web, api)
	update(t, db, func(tx *Tx) error { return tx.PutProject(Project{Name: "production"}) })
	back := errors.New("taken back")
	for round := 0; round < 300 && !t.Failed(); round++ {
		err := db.Update(t.Context(), func(tx *Tx) error {
			for range 1 + random.IntN(6) {
				if err := w.anyStep(random, tx); err != nil {
					return err
				}
			}
			if random.IntN(5) == 0 {
				return back
			}
			return nil
		})
		if err != nil && !errors.Is(err, back) {
			t.Fatal(err)
		}
		if round%6 == 5 {
			recount(t, db)
			for _, repo := range w.repos {
				checkPages(t, db, repo)
			}
		}
	}
}

func (w world) anyStep(random *rand.Rand, tx *Tx) error {
	repo := w.repos[random.IntN(len(w.repos))]
	d := dg(w.names[random.IntN(len(w.names))])
	tag := fmt.Sprint("tag", random.IntN(3))
	switch random.IntN(13) {
	case 0, 1, 2:
		return w.manifests[random.IntN(len(w.manifests))].add(tx, repo)
	case 3:
		return tx.AddBlob(repo, d, int64(random.IntN(1000)))
	case 4:
		return tx.LinkOnly(repo, d)
	case 5, 6:
		at := noon.Add(time.Duration(random.IntN(1000)) * time.Hour)
		return tx.PutTag(repo, tag, Tag{Descriptor: registry.Descriptor{Digest: d}, ChangedAt: at, Gone: random.IntN(3) == 0})
	case 7:
		return tx.DeleteTag(repo, tag)
	case 8:
		_, err := tx.Unlink(repo, d)
		return err
	case 9:
		_, err := tx.ForgetTagged(d)
		return errors.Join(err, dayAfter(tx))
	case 10, 11:
		_, err := tx.PutLastPull(repo, d, LastPull{noon, "alice"})
		return err
	}
	_, err := tx.Forget(d)
	return err
}

// checkPages compares the pages of a repository with what walks all of it.
func checkPages(t *testing.T, db *DB, repo registry.Repo) {
	t.Helper()
	var want, got, wantTags, gotTags []string
	err := db.Revisions(t.Context(), repo, func(r Revision) error {
		want = append(want, fmt.Sprint(r.Digest, r.Size, r.Subject, r.LinkedAt.UnixMilli()))
		return nil
	})
	tagged := map[registry.Digest]int{}
	err = errors.Join(err, db.RepositoryTags(t.Context(), repo, func(tag string, x Tag) error {
		if !x.Gone {
			wantTags = append(wantTags, fmt.Sprint(tag, x))
			tagged[x.Digest]++
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Repository(t.Context(), repo); errors.Is(err, ErrNotFound) {
		if len(want)+len(wantTags) > 0 {
			t.Errorf("%s has %q and %q, and is not there", repo, want, wantTags)
		}
		return
	}
	for offset := 0; ; offset += 2 {
		all, total, err := db.BrowseArtifacts(t.Context(), repo, ArtifactFilter{}, Page{offset, 2})
		if err != nil || total != len(want) {
			t.Errorf("%s has %d artifacts, %v, want %d", repo, total, err, len(want))
		}
		for _, a := range all {
			got = append(got, fmt.Sprint(a.Digest, a.Size, a.Subject, a.PushedAt.UnixMilli()))
			if len(a.Tags) != tagged[a.Digest] {
				t.Errorf("%s@%s has tags %v, want %d", repo, a.Digest, a.Tags, tagged[a.Digest])
			}
		}
		if len(all) == 0 {
			break
		}
	}
	tags, total, err := db.BrowseTags(t.Context(), repo, "", Page{})
	if err != nil || total != len(wantTags) {
		t.Errorf("%s has %d tags, %v, want %d", repo, total, err, len(wantTags))
	}
	for _, x := range tags {
		gotTags = append(gotTags, fmt.Sprint(x.Name, x.Tag))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || !slices.Equal(gotTags, wantTags) {
		t.Errorf("%s has %q %q, want %q %q", repo, got, gotTags, want, wantTags)
	}
}
