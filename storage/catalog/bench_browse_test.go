package catalog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"roadstead/registry"
)

// browsed is a catalog of a million digests in 100,000 repositories of five projects, of which one
// has 10,000 images and as many tags, and an index of a hundred of them. Beside them are 300,000
// records of the audit log.
var browsed = seeded{repo: browsedRepo, more: addBrowsed}

const (
	browsedLarge = 10_000
	browsedRepos = 100_000
	browsedAudit = 300_000
)

var largeRepo = registry.Repo{Project: "project0.io", Name: "library/large"}

func browsedRepo(image int) registry.Repo {
	if image < browsedLarge {
		return largeRepo
	}
	i := image % (browsedRepos - 1)
	return registry.Repo{
		Project: fmt.Sprintf("project%d.io", i%benchProject),
		Name:    fmt.Sprintf("team-%d/service-%d/image-%d", i%50, i%1000, i),
	}
}

func addBrowsed(ctx context.Context, db *DB) error {
	err := db.Update(ctx, func(tx *Tx) error {
		var refs registry.References
		for i := range 100 {
			refs.Manifests = append(refs.Manifests, registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: numbered('m', i), Size: 1500})
		}
		m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIIndex, Digest: numbered('i', 0), Size: 9000}}
		return errors.Join(tx.AddManifest(largeRepo, m, refs), tx.PutTag(largeRepo, "latest", Tag{Descriptor: m.Descriptor, ChangedAt: time.Now()}))
	})
	for from := 0; from < browsedAudit && err == nil; from += 10_000 {
		err = db.Update(ctx, func(tx *Tx) error {
			for i := from; i < from+10_000; i++ {
				e := Entry{At: time.UnixMilli(int64(1e12 + i*1000)), Actor: fmt.Sprint("user", i%300), Action: registry.Push, Kind: registry.Repository,
					Resource: browsedRepo(i).String(), Outcome: registry.Done}
				if err := tx.AddAudit(e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

// BenchmarkBrowse is about what a page of the API or the console costs. Each may take 100 ms.
func BenchmarkBrowse(b *testing.B) {
	ctx := b.Context()
	repositories := func(f RepositoryFilter, offset int) func(*DB) error {
		return func(db *DB) error {
			all, _, err := db.BrowseRepositories(ctx, f, Page{offset, 100})
			return some(len(all), err)
		}
	}
	artifacts := func(f ArtifactFilter, offset int) func(*DB) error {
		return func(db *DB) error {
			all, _, err := db.BrowseArtifacts(ctx, largeRepo, f, Page{offset, 100})
			return some(len(all), err)
		}
	}
	tags := func(contains string, offset int) func(*DB) error {
		return func(db *DB) error {
			all, _, err := db.BrowseTags(ctx, largeRepo, contains, Page{offset, 100})
			return some(len(all), err)
		}
	}
	audit := func(f AuditFilter, offset int) func(*DB) error {
		return func(db *DB) error {
			all, _, err := db.BrowseAudit(ctx, f, Page{offset, 100})
			return some(len(all), err)
		}
	}
	search := func(projects []string, text string) func(*DB) error {
		return func(db *DB) error {
			all, err := db.SearchRepositories(ctx, projects, text, 20)
			return some(len(all), err)
		}
	}
	one, three := []string{"project3.io"}, []string{"project1.io", "project2.io", "project3.io"}
	thousand := []string{"project3.io"}
	for i := range 1000 {
		thousand = append(thousand, fmt.Sprintf("other%d.io", i))
	}
	newest := RepositoryFilter{Order: ByUpdate, Descending: true}
	of := func(f RepositoryFilter, projects []string) RepositoryFilter { f.Projects = projects; return f }
	for _, bb := range []struct {
		name string
		ask  func(*DB) error
	}{
		{"repositories, all by name", repositories(RepositoryFilter{}, 0)},
		{"repositories, all by name, the last page", repositories(RepositoryFilter{}, 99_900)},
		{"repositories, all by name, descending, the last page", repositories(RepositoryFilter{Descending: true}, 99_900)},
		{"repositories, all by update", repositories(newest, 0)},
		{"repositories, all by update, the last page", repositories(newest, 99_900)},
		{"repositories, all by pull, the last page", repositories(RepositoryFilter{Order: ByPull, Descending: true}, 99_900)},
		{"repositories, all with a frequent text", repositories(RepositoryFilter{Contains: "image-1"}, 0)},
		{"repositories, all with a rare text", repositories(RepositoryFilter{Contains: "image-77777"}, 0)},
		{"repositories, all with a rare text by update", repositories(RepositoryFilter{Contains: "image-77777", Order: ByUpdate}, 0)},
		{"repositories, one by its name", repositories(RepositoryFilter{Name: largeRepo.String()}, 0)},
		{"repositories, of a project by name", repositories(of(RepositoryFilter{}, one), 0)},
		{"repositories, of a project by name, the last page", repositories(of(RepositoryFilter{}, one), 19_900)},
		{"repositories, of a project by update", repositories(of(newest, one), 0)},
		{"repositories, of a project by update, the last page", repositories(of(newest, one), 19_900)},
		{"repositories, of a project with a rare text", repositories(of(RepositoryFilter{Contains: "image-77778"}, one), 0)},
		{"repositories, of three projects by name, the last page", repositories(of(RepositoryFilter{}, three), 59_900)},
		{"repositories, of three projects by update, the last page", repositories(of(newest, three), 59_900)},
		{"repositories, of a thousand projects by name, the last page", repositories(of(RepositoryFilter{}, thousand), 19_900)},
		{"repositories, of a thousand projects with a rare text by update",
			repositories(RepositoryFilter{Projects: thousand, Contains: "image-77778", Order: ByUpdate}, 0)},
		{"repository", func(db *DB) error { _, err := db.Repository(ctx, largeRepo); return err }},
		{"search, all for a frequent text", search(nil, "image-1")},
		{"search, all for a rare text", search(nil, "image-77777")},
		{"search, a thousand projects for a rare text", search(thousand, "image-77778")},
		{"artifacts, of a small repository", func(db *DB) error {
			all, _, err := db.BrowseArtifacts(ctx, browsedRepo(50_000), ArtifactFilter{}, Page{0, 100})
			return some(len(all), err)
		}},
		{"artifacts, of 10,000", artifacts(ArtifactFilter{}, 0)},
		{"artifacts, of 10,000, the last page", artifacts(ArtifactFilter{}, 9_950)},
		{"artifacts, of 10,000 by tag", artifacts(ArtifactFilter{Tag: "v77"}, 0)},
		{"artifacts, of 10,000 by media type", artifacts(ArtifactFilter{MediaType: registry.MediaTypeOCIManifest}, 0)},
		{"artifacts, of 10,000 the tagged, the last page", artifacts(ArtifactFilter{Tagged: true}, 9_950)},
		{"artifacts, of 10,000 the roots, the last page", artifacts(ArtifactFilter{Roots: true}, 9_950)},
		{"artifact by digest", func(db *DB) error { _, err := db.Artifact(ctx, largeRepo, string(numbered('m', 7))); return err }},
		{"artifact by tag", func(db *DB) error { _, err := db.Artifact(ctx, largeRepo, "v7"); return err }},
		{"artifact, an index of 100", func(db *DB) error { _, err := db.Artifact(ctx, largeRepo, "latest"); return err }},
		{"children, 100", func(db *DB) error {
			all, err := db.Children(ctx, largeRepo, numbered('i', 0))
			return some(len(all), err)
		}},
		{"tags, of 10,000", tags("", 0)},
		{"tags, of 10,000, the last page", tags("", 9_950)},
		{"tags, of 10,000 with a text", tags("77", 0)},
		{"summary of a project", func(db *DB) error { _, err := db.Summary(ctx, one[0]); return err }},
		{"total of all projects", func(db *DB) error { _, err := db.Total(ctx); return err }},
		{"audit, all", audit(AuditFilter{}, 0)},
		{"audit, all, the last page", audit(AuditFilter{}, browsedAudit-100)},
		{"audit, of an actor", audit(AuditFilter{Actor: "user7"}, 0)},
		{"audit, of a project", audit(AuditFilter{Under: one[0]}, 0)},
		{"audit, of a repository", audit(AuditFilter{Under: browsedRepo(50_000).String()}, 0)},
		{"audit, by action and time", audit(AuditFilter{Action: registry.Push, Since: time.UnixMilli(1e12 + 1e8)}, 0)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			db := browsed.open(b)
			for b.Loop() {
				if err := bb.ask(db); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/call")
		})
	}
}

func some(n int, err error) error {
	if err == nil && n == 0 {
		return errors.New("nothing found")
	}
	return err
}
