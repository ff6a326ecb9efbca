package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// tree is a directory in the layout of the stock registry, written as that does it: by its
// paths, not by our storage.
type tree struct {
	t   *testing.T
	dir string
}

func newTree(t *testing.T) tree { return tree{t, t.TempDir()} }

func (tr tree) write(path string, content []byte) {
	tr.t.Helper()
	path = filepath.Join(tr.dir, layoutFolder, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr tree) data(d digest.Digest) string {
	return "blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
}

// blob stores content and links it as a layer of repo, unless that is empty.
func (tr tree) blob(repo, content string) digest.Digest {
	tr.t.Helper()
	d := digest.FromString(content)
	tr.write(tr.data(d), []byte(content))
	if repo != "" {
		tr.write("repositories/"+repo+"/_layers/sha256/"+d.Encoded()+"/link", []byte(d))
	}
	return d
}

func (tr tree) tag(repo, tag string, d digest.Digest) {
	tr.t.Helper()
	tr.write("repositories/"+repo+"/_manifests/tags/"+tag+"/current/link", []byte(d))
	tr.write("repositories/"+repo+"/_manifests/tags/"+tag+"/index/sha256/"+d.Encoded()+"/link", []byte(d))
}

// manifest stores a manifest's bytes as a revision of repo and tags it, unless tag is empty.
func (tr tree) manifest(repo, tag, body string) digest.Digest {
	tr.t.Helper()
	d := digest.FromString(body)
	tr.write(tr.data(d), []byte(body))
	tr.write("repositories/"+repo+"/_manifests/revisions/sha256/"+d.Encoded()+"/link", []byte(d))
	if tag != "" {
		tr.tag(repo, tag, d)
	}
	return d
}

// image stores an image of one layer.
func (tr tree) image(repo, tag, layer string) (manifest, blob digest.Digest) {
	tr.t.Helper()
	config := tr.blob(repo, `{"architecture":"amd64","os":"linux","is":"`+layer+`"}`)
	blob = tr.blob(repo, layer)
	return tr.manifest(repo, tag, imageManifest(config, blob, len(layer))), blob
}

func imageManifest(config, layer digest.Digest, size int) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		registry.MediaTypeOCIManifest, config, len(`{"architecture":"amd64","os":"linux","is":""}`)+size, layer, size)
}

// openCatalog opens the catalog that a command has left.
func openCatalog(t *testing.T, dir string) *catalog.DB {
	t.Helper()
	db, err := catalog.Open(context.Background(), "sqlite:"+filepath.Join(dir, catalogFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestAdoptTakesAnOldTreeAsItIs(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	hub := registry.Repo{Project: "docker.io", Name: "library/good"}
	good, layer := tr.image(hub.String(), "1.0", "good layer")
	tr.tag(hub.String(), "latest", good)
	tr.image("private/team/app", "v1", "private layer")

	// What the years leave behind.
	gone := digest.FromString("collected long ago")
	tr.tag(hub.String(), "dangling", gone)
	tr.manifest(hub.String(), "html", "<html>")
	lost := digest.FromString("lost layer")
	config := tr.blob(hub.String(), `{"architecture":"amd64","os":"linux","is":"lost layer"}`)
	partial := tr.manifest(hub.String(), "partial", imageManifest(config, lost, len("lost layer")))
	cut := tr.blob(hub.String(), "cut layer")
	config = tr.blob(hub.String(), `{"architecture":"amd64","os":"linux","is":"cut layer"}`)
	tr.manifest(hub.String(), "cut", imageManifest(config, cut, len("cut layer")))
	tr.write(tr.data(cut), []byte("cut"))
	tr.image("bare", "v1", "layer without a project")
	orphan := tr.blob("", "nobody's blob")

	stdout, stderr, status := command("adopt", tr.dir)
	if status != 0 {
		t.Fatalf("exit status %d\n%s%s", status, stdout, stderr)
	}
	for _, want := range []string{
		"docker.io/library/good: tag dangling",
		"which is not a manifest",
		"manifest " + digest.FromString("<html>").String(),
		"blob " + lost.String() + ", which a manifest refers to, is not stored",
		"blob " + cut.String() + ": it has 3 bytes and should have 9",
		"bare: it is not below a project; it is left out",
		"adopted 2 repositories with 5 tags, 4 manifests and 6 blobs",
		"4 pieces of content (",
		"project private (1 repositories) is no proxy of the configuration: it is hosted from now on, and private",
		"serve it with: roadstead serve --data " + tr.dir,
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if t.Failed() {
		t.Logf("it says\n%s", stdout)
	}

	ctx := t.Context()
	db := openCatalog(t, tr.dir)
	for _, tag := range []string{"1.0", "latest"} {
		got, err := db.Tag(ctx, hub, tag)
		if err != nil || got.Digest != good || got.MediaType != registry.MediaTypeOCIManifest || !got.CheckedAt.IsZero() || got.Gone {
			t.Errorf("tag %s is %+v, %v", tag, got, err)
		}
	}
	for _, tag := range []string{"dangling", "html"} {
		if got, err := db.Tag(ctx, hub, tag); err == nil {
			t.Errorf("tag %s was adopted: %+v", tag, got)
		}
	}
	for _, row := range []struct {
		what           string
		d              digest.Digest
		linked, stored bool
	}{
		{"manifest", good, true, true},
		{"layer", layer, true, true},
		{"manifest without its layer", partial, true, true},
		{"layer that is missing", lost, true, false},
		{"layer that is cut", cut, true, false},
		{"blob of nobody", orphan, false, false},
		{"layer of another project", digest.FromString("private layer"), false, true},
	} {
		got, err := db.Find(ctx, hub, row.d)
		if err != nil || got.Linked != row.linked || row.linked && got.Stored != row.stored {
			t.Errorf("%s: got %+v, %v; want linked %v, stored %v", row.what, got, err, row.linked, row.stored)
		}
	}
}

func TestAdoptCanBeRunAgain(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	repo := registry.Repo{Project: "docker.io", Name: "library/app"}
	tr.image(repo.String(), "v1", "first layer")
	if stdout, stderr, status := command("adopt", tr.dir); status != 0 {
		t.Fatalf("exit status %d\n%s%s", status, stdout, stderr)
	}
	db := openCatalog(t, tr.dir)
	before, err := db.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checked, err := db.Tag(t.Context(), repo, "v1")
	if err != nil {
		t.Fatal(err)
	}
	checked.CheckedAt = checked.ChangedAt
	err = db.Update(t.Context(), func(tx *catalog.Tx) error { return tx.PutTag(repo, "v1", checked) })
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	if stdout, stderr, status := command("adopt", tr.dir); status != 0 || !strings.Contains(stdout, "adopted 1 repositories with 1 tags, 1 manifests and 2 blobs") {
		t.Fatalf("exit status %d\n%s%s", status, stdout, stderr)
	}
	db = openCatalog(t, tr.dir)
	if after, err := db.Usage(t.Context()); err != nil || after != before {
		t.Errorf("usage was %+v and is %+v, %v", before, after, err)
	}
	if again, err := db.Tag(t.Context(), repo, "v1"); err != nil || fmt.Sprint(again) != fmt.Sprint(checked) {
		t.Errorf("tag was %+v and is %+v, %v", checked, again, err)
	}
	tr.image(repo.String(), "v2", "second layer")
	if stdout, _, status := command("adopt", tr.dir); status != 0 || !strings.Contains(stdout, "2 tags") {
		t.Errorf("exit status %d\n%s", status, stdout)
	}
}

func TestDirectoriesThatAreNotDataDirectoriesAreExplained(t *testing.T) {
	for _, row := range []struct {
		name string
		make []string // directories
		want string
	}{
		{"Harbor's volume", []string{"registry/docker/registry/v2/blobs"}, "is a volume around a registry, as Harbor's are; the content is in"},
		{"inside the layout", []string{"blobs", "repositories"}, "looks like the inside of docker/registry/v2; name the directory that \"docker\" is in"},
		{"halfway inside the layout", []string{"registry/v2/blobs"}, "looks like the inside of docker/registry/v2; name the directory that it is in"},
		{"registry of version 1", []string{"docker/registry/v1"}, "holds a registry of an older layout than docker/registry/v2"},
		{"OCI image layout", []string{"oci-layout"}, "is an OCI image layout"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			for _, sub := range row.make {
				if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", dir}, {"adopt", dir}, {"scrub", "--data", dir}} {
				if _, stderr, status := command(args...); status != 1 || !strings.Contains(stderr, row.want) {
					t.Errorf("%s: status %d, %q; want %q", args[0], status, stderr, row.want)
				}
			}
			if exists(dir, catalogFile) {
				t.Error("a catalog was made there")
			}
		})
	}
}

func TestServeWantsContentAdopted(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	tr.image("docker.io/library/app", "v1", "layer")
	_, stderr, status := command("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", tr.dir)
	if status != 1 || !strings.Contains(stderr, `holds content and no catalog: run "roadstead adopt `+tr.dir+`" to take it over`) {
		t.Errorf("status %d, %q", status, stderr)
	}
}

func TestScrubSetsDamageAsideAndTellsTheCatalog(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	repo := registry.Repo{Project: "docker.io", Name: "library/app"}
	_, layer := tr.image(repo.String(), "v1", "a layer that rots")
	manifest, whole := tr.image(repo.String(), "v2", "a layer that does not")

	// Before it is adopted, looking makes no catalog of it.
	if stdout, stderr, status := command("scrub", "--data", tr.dir); status != 0 || exists(tr.dir, catalogFile) || !strings.Contains(stdout, "6 pieces of content") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	if _, stderr, status := command("adopt", tr.dir); status != 0 {
		t.Fatal(stderr)
	}
	tr.write(tr.data(layer), []byte("A layer that rots"))

	stdout, stderr, status := command("scrub", "--data", tr.dir)
	if status != 1 || !strings.Contains(stdout, "damaged, in quarantine now: "+layer.String()) ||
		!strings.Contains(stdout, "1 damaged, of which 1 are in quarantine now, and 0 could not be read") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	if !exists(tr.dir, "quarantine/sha256", layer.Encoded()) || exists(tr.dir, layoutFolder, tr.data(layer)) {
		t.Error("the layer is not in quarantine")
	}
	if links := filepath.Join(tr.dir, repositories, repo.String(), "_layers/sha256"); exists(links, layer.Encoded()) || !exists(links, whole.Encoded()) {
		t.Error("the links are not those of what is left")
	}
	db := openCatalog(t, tr.dir)
	for d, stored := range map[digest.Digest]bool{layer: false, whole: true, manifest: true} {
		if got, err := db.Find(t.Context(), repo, d); err != nil || got.Stored != stored || !got.Linked {
			t.Errorf("%s: %+v, %v; want stored %v", d, got, err, stored)
		}
	}
	tr.write(tr.data(manifest), []byte("{"))
	if stdout, _, status := command("scrub", "--data", tr.dir); status != 1 || !strings.Contains(stdout, manifest.String()) {
		t.Errorf("a damaged manifest: status %d\n%s", status, stdout)
	}
	if tag, err := db.Tag(t.Context(), repo, "v2"); !errors.Is(err, catalog.ErrNotFound) || exists(tr.dir, repositories, repo.String(), "_manifests/tags/v2") {
		t.Errorf("the tag of a damaged manifest is %+v, %v", tag, err)
	}
	if _, err := db.Tag(t.Context(), repo, "v1"); err != nil {
		t.Errorf("another tag: %v", err)
	}
	if stdout, stderr, status := command("scrub", "--data", tr.dir); status != 0 {
		t.Errorf("a third time: status %d\n%s%s", status, stdout, stderr)
	}
}

// Beside a server a scrub leaves the links to it: only the server knows what it is just bringing.
func TestScrubLeavesTheLinksToTheServer(t *testing.T) {
	tr := newTree(t)
	_, layer := tr.image("docker.io/library/app", "v1", "a layer that rots")
	if _, stderr, status := command("adopt", "--config", os.DevNull, tr.dir); status != 0 {
		t.Fatal(stderr)
	}
	tr.write(tr.data(layer), []byte("A layer that rots"))
	link := filepath.Join(tr.dir, repositories, "docker.io/library/app/_layers/sha256", layer.Encoded())

	lock, err := storage.Lock(tr.dir)
	if err != nil {
		t.Fatal(err)
	}
	if stdout, _, status := command("scrub", "--config", os.DevNull, "--data", tr.dir); status != 1 || !strings.Contains(stdout, "1 are in quarantine now") {
		t.Errorf("status %d\n%s", status, stdout)
	}
	if !exists(link) {
		t.Error("the link is gone under the server")
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	p := serve(t, configuration(t, map[string]map[string]any{"docker.io": {"endpoints": "https://docker.invalid"}}, map[string]any{"storage": map[string]any{"directory": tr.dir}}))
	for end := time.Now().Add(10 * time.Second); exists(link); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server has not taken the link away")
		}
	}
	p.signal(syscall.SIGTERM)
	p.exit()
}

func TestEvictMakesRoomUnderTheLimit(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	tr := newTree(t)
	old, _ := tr.image("docker.io/library/app", "v1", strings.Repeat("x", 3000))
	config := func(more string) {
		settings, err := json.Marshal(map[string]any{"directory": tr.dir, "max_size": "2kB"})
		if err != nil {
			t.Fatal(err)
		}
		write(t, "roadstead.yaml", "storage: "+string(settings)+"\nprojects: { docker.io: {"+more+"} }\n")
	}
	config("keep: 7d")
	if _, stderr, status := command("adopt", tr.dir); status != 0 {
		t.Fatal(stderr)
	}
	if _, stderr, status := command("evict"); status != 1 || !strings.Contains(stderr, `more should go and may not: it is pinned or was used within "keep"; lower keep, raise max_size, or make room on the disk`) {
		t.Errorf("within keep: status %d\n%s", status, stderr)
	}
	config("keep: 0s, pin: [ \"library/*\" ]")
	if _, stderr, status := command("evict"); status != 1 || !strings.Contains(stderr, "may not") {
		t.Errorf("pinned: status %d\n%s", status, stderr)
	}
	if !exists(tr.dir, layoutFolder, tr.data(old)) {
		t.Error("what is pinned was removed")
	}
	config("keep: 0s")
	stdout, stderr, status := command("evict")
	if status != 0 || !strings.HasPrefix(stdout, "evicted ") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	db := openCatalog(t, tr.dir)
	if usage, err := db.Usage(t.Context()); err != nil || usage.Bytes > 2000 {
		t.Errorf("%+v, %v", usage, err)
	}
	if stdout, stderr, status := command("evict", "--config", os.DevNull, "--data", tr.dir); status != 0 || !strings.Contains(stdout, `set "max_size" below "storage" in the configuration, such as 100GiB or 80%`) {
		t.Errorf("without a limit: status %d\n%s%s", status, stdout, stderr)
	}
}

// An adoption that was cut short is said until it has been done to its end, and what root makes
// of it belongs to whoever the directory belongs to.
func TestAdoptionThatWasCutShort(t *testing.T) {
	tr := newTree(t)
	tr.image("docker.io/library/app", "v1", "layer")
	if os.Geteuid() == 0 {
		if err := os.Chown(tr.dir, 4711, 4712); err != nil {
			t.Fatal(err)
		}
	}
	adopt := func() {
		t.Helper()
		if stdout, stderr, status := command("adopt", "--config", os.DevNull, tr.dir); status != 0 {
			t.Fatalf("status %d\n%s%s", status, stdout, stderr)
		}
		if exists(tr.dir, adoptingFile) {
			t.Error("it is marked as unfinished")
		}
	}
	adopt()
	whole, err := os.Stat(tr.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{catalogFile, "drafts", "lock"} {
		part, err := os.Stat(filepath.Join(tr.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := owner(part), owner(whole); got != want {
			t.Errorf("%s belongs to %s, want %s", name, got, want)
		}
	}
	write(t, filepath.Join(tr.dir, adoptingFile), "") // as a kill -9 leaves it
	p := start(t, "serve", "--config", configuration(t, nil, map[string]any{"builtin_projects": true, "storage": map[string]any{"directory": tr.dir}}))
	p.wait(`the directory is adopted in part only, because "adopt" was cut short: stop the server and run it again`)
	p.wait("serving")
	p.signal(syscall.SIGTERM)
	p.exit()
	adopt()
}

func owner(info os.FileInfo) string {
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(stat.Uid, ":", stat.Gid)
}

// What no proxy of the configuration has was pushed by somebody: it is hosted from then on, and
// only what a repository linked itself is its own.
func TestAdoptMakesHostedProjectsOfWhatWasPushed(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	web := registry.Repo{Project: "production", Name: "team/web"}
	manifest, layer := tr.image(web.String(), "v1", "a layer that was pushed")
	tr.image("public/app", "v1", "another one")
	tr.image("api/app", "v1", "a name that is ours")
	foreign := tr.blob("secret/app", "somebody else's layer")
	config := tr.blob(web.String(), `{"architecture":"amd64","os":"linux","is":"somebody else's layer"}`)
	tr.manifest(web.String(), "thief", imageManifest(config, foreign, len("somebody else's layer")))
	write(t, "roadstead.yaml", "projects: { public: { hosted: true, public: true, quota: 1GiB } }\n")

	stdout, stderr, status := command("adopt", tr.dir)
	if status != 0 {
		t.Fatalf("exit status %d\n%s%s", status, stdout, stderr)
	}
	for _, want := range []string{
		"project production (1 repositories) is no proxy of the configuration: it is hosted from now on, and private",
		"project secret (1 repositories)",
		`api/app: "api" cannot be the name of a project, /api is for Harbor's REST API; it is left out`,
		"blob " + foreign.String() + ", which manifest ",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(stdout, "project public") {
		t.Error("it tells of a project that the configuration hosts")
	}
	if t.Failed() {
		t.Logf("it says\n%s", stdout)
	}

	ctx, db := t.Context(), openCatalog(t, tr.dir)
	projects, err := db.Projects(ctx)
	if err != nil || len(projects) != 3 {
		t.Fatalf("hosted are %+v, %v", projects, err)
	}
	for i, want := range []catalog.Project{
		{Name: "production", Immutable: []string{}},
		{Name: "public", Configured: true, Public: true, Quota: 1 << 30, Immutable: []string{}},
		{Name: "secret", Immutable: []string{}},
	} {
		got := projects[i]
		got.ID, got.CreatedAt, got.UpdatedAt = 0, time.Time{}, time.Time{}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	for what, row := range map[string]struct {
		d    digest.Digest
		held bool
	}{"manifest": {manifest, true}, "layer": {layer, true}, "layer of another project": {foreign, false}} {
		if _, err := db.Held(ctx, web, row.d); (err == nil) != row.held {
			t.Errorf("%s: %v, want held %v", what, err, row.held)
		}
	}
	usage, err := db.ByProject(ctx)
	if want := int64(len("a layer that was pushed")); err != nil || usage["production"].Bytes < want || usage["production"].Count != 5 {
		t.Errorf("production has %+v, %v", usage["production"], err)
	}
}

// What was adopted is as old as its files, and not older than everything.
func TestAdoptedTagsAreRetainedByTheirAge(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	repo := registry.Repo{Project: "production", Name: "web"}
	for i, tag := range []string{"z-newest", "m-middle", "a-oldest"} {
		tr.image(repo.String(), tag, "layer "+tag)
		at := time.Now().Add(-time.Duration(i) * time.Hour) // all pushed within the last hours
		os.Chtimes(filepath.Join(tr.dir, layoutFolder, "repositories", repo.String(), "_manifests/tags", tag, "current/link"), at, at)
	}
	if out, errs, status := command("adopt", tr.dir); status != 0 {
		t.Fatal(out, errs)
	}
	for _, rule := range []string{"--keep-pulled=30d", "--keep-newest=1"} {
		if out, errs, status := command("project", "set", "production", "--data", tr.dir, "--keep-newest=0", "--keep-pulled=0s"); status != 0 {
			t.Log(rule, out, errs)
		}
		command("project", "set", "production", "--data", tr.dir, rule)
		out, errs, _ := command("project", "retain", "production", "--dry-run", "--data", tr.dir)
		if strings.Contains(out, "z-newest") || rule == "--keep-pulled=30d" && !strings.Contains(out, "would retire 0") {
			t.Errorf("%s: %s%s", rule, out, errs)
		}
	}
}
