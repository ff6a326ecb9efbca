package estate

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/hosted"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// A push that broke off before its manifest keeps no project: nobody can pull anything of it.
func TestDeleteProjectWithHalfAnImage(t *testing.T) {
	l := open(t)
	store, err := storage.New(storage.Config{Root: filepath.Join(t.TempDir(), "content"), Floor: -1})
	l.must(err)
	t.Cleanup(func() { store.Close() })
	house, err := hosted.New(hosted.Config{Store: store, Catalog: l.db})
	l.must(err)
	l.Estate.config.Hosted = house
	admin, ref := l.as("admin"), Ref{Name: "half"}
	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "half"})
	l.must(err)
	rows, err := l.db.Projects(t.Context())
	l.must(err, house.SetProjects(rows))
	u, err := house.StartUpload(t.Context(), registry.Repo{Project: "half", Name: "app"}, "", digest.SHA256)
	l.must(err, u.Append(t.Context(), 0, strings.NewReader("layer")), u.Commit(t.Context(), digest.FromString("layer")))

	p, err := l.Project(t.Context(), admin, ref)
	l.must(err)
	if p.Repositories != 1 || p.Artifacts != 0 {
		t.Fatalf("project %+v, want half an image", p)
	}
	l.must(l.Deletable(p), l.DeleteProject(t.Context(), admin, ref))
	if _, err := l.Project(t.Context(), admin, ref); err == nil {
		t.Error("it is still there")
	}

	p.Artifacts = 1
	l.refuses(l.Deletable(p), InUse, "delete them first")
}
