package main_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// A releaser is a repository with what this one has, commits of its own, and what a release is made with.
type releaser struct {
	dir string
	env []string
}

const (
	releaseDate  = "2026-02-03T04:05:06Z"
	releaseNotes = "## Before you upgrade\n\nNothing has to be done.\n\n- Answer *sooner*\n- Say less\n"
)

// newReleaser has release v0.9.0 behind it, and two commits and a merge since. It has what is here and matches
// a pathspec of git.
func newReleaser(t *testing.T, pathspec ...string) *releaser {
	t.Helper()
	for _, program := range []string{"git", "make", "tar", "gzip", "jq", "helm", "nfpm", "cyclonedx-gomod", "dpkg-deb"} {
		need(t, program)
	}
	home := t.TempDir()
	r := &releaser{dir: filepath.Join(t.TempDir(), "checkout")}
	r.env = environment(home,
		"PATH="+filepath.Join(moduleRoot(), ".tools", "bin")+":"+os.Getenv("PATH"),
		// What has been compiled and downloaded is as good for this home. Nothing else is downloaded.
		"GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOPROXY=off",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_AUTHOR_DATE="+releaseDate,
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com", "GIT_COMMITTER_DATE="+releaseDate)
	copyTheTree(t, r.dir, pathspec)
	if want := strings.Fields(runtime.Version())[0]; !strings.Contains(readFile(t, r.dir, "go.mod"), "\ngo "+strings.TrimPrefix(want, "go")+"\n") {
		run(t, r.env, "go", "mod", "edit", "-toolchain="+want, filepath.Join(r.dir, "go.mod")) // the one that is here
	}

	r.git(t, "init", "--quiet", "--initial-branch=main")
	r.git(t, "add", "--all")
	r.git(t, "commit", "--quiet", "--message=Be there")
	r.git(t, "tag", "v0.9.0")
	r.git(t, "switch", "--quiet", "--create=side")
	r.git(t, "commit", "--quiet", "--allow-empty", "--message=Answer sooner")
	r.git(t, "switch", "--quiet", "main")
	r.git(t, "commit", "--quiet", "--allow-empty", "--message=Say less\n\nNobody read it.")
	r.git(t, "merge", "--quiet", "--no-ff", "--message=Join the side", "side")
	return r
}

// copyTheTree copies what git knows here or would take, as it is on the disk, so that the test is of what
// somebody has just written and does not care how much of the history is here.
func copyTheTree(t *testing.T, to string, pathspec []string) {
	t.Helper()
	from := moduleRoot()
	list := run(t, os.Environ(), "git", append([]string{"-C", from, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"}, pathspec...)...)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // deleted and not committed, or a link to the tools
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(readFile(t, from, name)), info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(string(run(t, os.Environ(), "go", "env", name)))
}

func (r *releaser) git(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(string(run(t, r.env, "git", append([]string{"-C", r.dir}, args...)...)))
}

// make runs make with more in the environment, and returns all that it said.
func (r *releaser) make(target string, more ...string) (string, error) {
	cmd := exec.Command("make", "--no-print-directory", "-C", r.dir, target)
	cmd.Env = append(append(slices.Clone(r.env), "PLATFORMS="), more...) // without platforms nothing is built
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// made reads what is in dist by its name.
func (r *releaser) made(t *testing.T) map[string]string {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(r.dir, "dist"))
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]string{}
	for _, f := range files {
		made[f.Name()] = readFile(t, r.dir, "dist", f.Name())
	}
	return made
}

// A tagged commit becomes all that people install from, which says what it is, and the same bytes wherever
// and whenever it is made.
func TestRelease(t *testing.T) {
	e2e(t)
	r := newReleaser(t, ":(exclude)*_test.go", ":(exclude)*/testdata/*") // which no release needs
	platform := "linux/" + runtime.GOARCH
	draft, err := r.make("changelog", "VERSION=1.2.3")
	if want := "Roadstead 1.2.3\n\n- Say less\n- Answer sooner\n"; err != nil || !sameLines(draft, want) {
		t.Errorf("the draft of the changelog is %v\n%s\nwant\n%s", err, draft, want)
	}
	r.git(t, "tag", "--annotate", "--cleanup=whitespace", "--message=Roadstead 1.2.3\n\n"+releaseNotes, "v1.2.3")
	said, err := r.make("release", "PLATFORMS="+platform)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}

	made := r.made(t)
	folder := "roadstead_1.2.3_linux_" + runtime.GOARCH
	want := []string{
		"CHANGELOG.md", "SHA256SUMS", "roadstead-1.2.3.tgz",
		folder + ".cdx.json", folder + ".tar.gz", "roadstead_1.2.3_" + runtime.GOARCH + ".deb",
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(made)); !slices.Equal(got, want) {
		t.Errorf("made %q, want %q", got, want)
	}
	for _, name := range want {
		if !strings.Contains(said, name+"\n") {
			t.Errorf("%s is not among what it says that it made:\n%s", name, said)
		}
	}
	if want := "# Roadstead 1.2.3, 2026-02-03\n\n" + releaseNotes; made["CHANGELOG.md"] != want {
		t.Errorf("the changelog is\n%s\nwant\n%s", made["CHANGELOG.md"], want)
	}

	binary := r.checkInstallation(t, folder, made["CHANGELOG.md"])
	r.checkBinary(t, binary)
	checkSBOM(t, binary, made[folder+".cdx.json"])
	r.checkDebian(t, binary, "roadstead_1.2.3_"+runtime.GOARCH+".deb")
	r.checkChart(t, "roadstead-1.2.3.tgz", "1.2.3")

	// Somebody else, elsewhere, later, with habits of their own.
	other := &releaser{dir: filepath.Join(t.TempDir(), "somewhere", "else"), env: append(slices.Clone(r.env), "TZ=Asia/Tokyo", "LANG=C.UTF-8", "GZIP=-1", "GOFLAGS=-tags=theirs", "GOAMD64=v3")}
	run(t, r.env, "git", "clone", "--quiet", r.dir, other.dir)
	if err := filepath.WalkDir(other.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.Contains(path, "/.git/") {
			return err
		}
		return errors.Join(os.Chmod(path, 0o600), os.Chtimes(path, time.Time{}, time.Now()))
	}); err != nil {
		t.Fatal(err)
	}
	other.git(t, "config", "core.fileMode", "false")
	if said, err := other.make("release", "PLATFORMS="+platform); err != nil {
		t.Fatalf("a second time: %v\n%s", err, said)
	}
	again := other.made(t)
	for _, name := range slices.Sorted(maps.Keys(made)) {
		if again[name] != made[name] {
			t.Errorf("%s has other bytes when it is made again", name)
		}
	}
}

// checkInstallation follows the README, in another folder than the one with the files, and returns the
// binary that it leads to.
func (r *releaser) checkInstallation(t *testing.T, folder, changes string) string {
	t.Helper()
	_, section, _ := strings.Cut(readFile(t, moduleRoot(), "README.md"), "\n## From a release\n")
	_, block, found := strings.Cut(section, "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	if !found || !strings.Contains(block, "SHA256SUMS") || !strings.Contains(block, "roadstead version") {
		t.Fatalf("the README does not say how to install from a release:\n%s", block)
	}
	target := t.TempDir()
	block = strings.NewReplacer("linux_amd64", "linux_"+runtime.GOARCH, "sudo ", "", "/usr/local/bin", target).Replace(block)
	downloads := t.TempDir() // what people take of it
	for _, name := range []string{"SHA256SUMS", folder + ".tar.gz"} {
		if err := os.WriteFile(filepath.Join(downloads, name), []byte(readFile(t, r.dir, "dist", name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := func() ([]byte, error) {
		return try(append(slices.Clone(r.env), "PATH="+target+":"+os.Getenv("PATH")), "sh", "-ec", "cd "+downloads+"\n"+block)
	}
	out, err := install()
	if err != nil || !strings.Contains(string(out), folder+".tar.gz: OK\n") || !strings.Contains(string(out), "roadstead 1.2.3 (") {
		t.Fatalf("the README's installation: %v\n%s", err, out)
	}

	// What is in it, beside the binary.
	for name, want := range map[string]string{
		"README.md": readFile(t, r.dir, "README.md"), "LICENSE": readFile(t, r.dir, "LICENSE"), "CHANGELOG.md": changes,
		"docker-compose.yml":               readFile(t, r.dir, "docker-compose.yml"),
		"deploy/compose/nginx.conf":        readFile(t, r.dir, "deploy/compose/nginx.conf"),
		"deploy/helm/roadstead/Chart.yaml": readFile(t, r.dir, "deploy/helm/roadstead/Chart.yaml"),
		"deploy/systemd/roadstead.service": readFile(t, r.dir, "deploy/systemd/roadstead.service"),
	} {
		if got := readFile(t, downloads, folder, name); got != want {
			t.Errorf("%s in the archive is not that of the commit", name)
		}
	}
	archive := readFile(t, r.dir, "dist", folder+".tar.gz")
	checkHeaders(t, archive, folder+"/", regexp.MustCompile(`^roadstead$|^deploy/debian/|\.sh$`))

	// A byte that is not theirs.
	broken := []byte(archive)
	broken[len(broken)/2] ^= 1
	if err := os.WriteFile(filepath.Join(downloads, folder+".tar.gz"), broken, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := install(); err == nil || !strings.Contains(string(out), folder+".tar.gz: FAILED\n") {
		t.Errorf("the installation of a damaged archive: %v\n%s", err, out)
	}
	return filepath.Join(target, "roadstead")
}

// checkHeaders holds that an archive says nothing of who made it and when, and has what does not build
// nothing.
func checkHeaders(t *testing.T, archive, folder string, programs *regexp.Regexp) {
	t.Helper()
	unzipped, err := gzip.NewReader(strings.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if !unzipped.ModTime.IsZero() || unzipped.Name != "" {
		t.Errorf("the archive of %s was zipped as %q at %v", folder, unzipped.Name, unzipped.ModTime)
	}
	last := ""
	for entries := tar.NewReader(unzipped); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name, inside := strings.CutPrefix(h.Name, folder)
		mode := int64(0o644)
		if h.Typeflag == tar.TypeDir || programs.MatchString(name) {
			mode = 0o755
		}
		if !inside || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.Mode != mode || h.ModTime.UTC().Format(time.RFC3339) != releaseDate {
			t.Errorf("%s is of %d:%d (%q:%q), mode %o, of %v", h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.Mode, h.ModTime.UTC())
		}
		if strings.HasSuffix(name, "Dockerfile") || strings.HasSuffix(name, "release.sh") {
			t.Errorf("%s is of no use without the sources", h.Name)
		}
		last = h.Name
	}
	if last == "" {
		t.Errorf("nothing is in the archive of %s", folder)
	}
}

// checkBinary holds that the binary knows what it was made of, and runs anywhere.
func (r *releaser) checkBinary(t *testing.T, binary string) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal(run(t, r.env, binary, "version", "--json"), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"version": "1.2.3", "commit": r.git(t, "rev-parse", "v1.2.3^{commit}"), "date": releaseDate, "modified": false,
		"go": runtime.Version(), "platform": "linux/" + runtime.GOARCH,
	}
	if !maps.Equal(got, want) {
		t.Errorf("it says of itself\n%v\nwant\n%v", got, want)
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has %v", p.Type)
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		t.Error("the binary is not stripped")
	}
	if bytes.Contains([]byte(readFile(t, binary)), []byte(moduleRoot()+"/")) {
		t.Error("the binary has names of folders of the machine that made it")
	}
}

// checkSBOM holds that the list of what is in a binary is well formed, and is what Go says of the binary.
func checkSBOM(t *testing.T, binary, text string) {
	t.Helper()
	type component struct {
		Ref     string `json:"bom-ref"`
		Type    string
		Name    string
		Version string
		PURL    string
	}
	var bom struct {
		BOMFormat, SpecVersion, SerialNumber string
		Metadata                             struct {
			Timestamp string
			Component component
			Tools     []map[string]any
		}
		Components   []component
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	if err := json.Unmarshal([]byte(text), &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || bom.SerialNumber != "" || bom.Metadata.Timestamp != releaseDate {
		t.Errorf("the SBOM is %s %s, number %q, of %s", bom.BOMFormat, bom.SpecVersion, bom.SerialNumber, bom.Metadata.Timestamp)
	}
	main := bom.Metadata.Component
	if main.Type != "application" || main.Name != "roadstead" || main.Version != "v1.2.3" {
		t.Errorf("the SBOM is of %+v", main)
	}
	for _, tool := range bom.Metadata.Tools {
		if tool["hashes"] != nil {
			t.Errorf("the SBOM differs with the copy of the tool that wrote it: %v", tool)
		}
	}

	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std@" + info.GoVersion}
	for _, module := range info.Deps {
		module = cmp.Or(module.Replace, module)
		want = append(want, module.Path+"@"+module.Version)
	}
	var got []string
	refs := map[string]bool{main.Ref: true}
	for _, c := range bom.Components {
		if c.Type != "library" || !strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@"+c.Version) || refs[c.Ref] {
			t.Errorf("the SBOM has the component %+v", c)
		}
		refs[c.Ref] = true
		got = append(got, c.Name+"@"+c.Version)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || len(want) < 20 {
		t.Errorf("the SBOM has the modules\n%q\nand the binary\n%q", got, want)
	}
	for _, d := range bom.Dependencies {
		for _, ref := range append(d.DependsOn, d.Ref) {
			if !refs[ref] {
				t.Errorf("the SBOM has a dependency of or on %s, which it does not have", ref)
			}
		}
	}
}

func (r *releaser) checkDebian(t *testing.T, binary, name string) {
	t.Helper()
	deb := filepath.Join(r.dir, "dist", name)
	fields := run(t, r.env, "dpkg-deb", "--field", deb, "Package", "Version", "Architecture")
	if want := "Package: roadstead\nVersion: 1.2.3-1\nArchitecture: " + runtime.GOARCH + "\n"; string(fields) != want {
		t.Errorf("the Debian package says\n%swant\n%s", fields, want)
	}
	files := tar.NewReader(bytes.NewReader(run(t, r.env, "dpkg-deb", "--fsys-tarfile", deb)))
	found := false
	for h, err := files.Next(); !errors.Is(err, io.EOF); h, err = files.Next() {
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 && h.Gname == "root" || h.ModTime.UTC().Format(time.RFC3339) != releaseDate {
			t.Errorf("%s is of %d:%d, of %v", h.Name, h.Uid, h.Gid, h.ModTime.UTC())
		}
		if filepath.Clean("/"+h.Name) == "/usr/bin/roadstead" {
			b, err := io.ReadAll(files)
			found = err == nil && string(b) == readFile(t, binary)
		}
	}
	if !found {
		t.Error("the Debian package does not have the binary of the archive")
	}
}

func (r *releaser) checkChart(t *testing.T, name, version string) {
	t.Helper()
	path := filepath.Join(r.dir, "dist", name)
	var chart struct {
		Name, Version string
		AppVersion    string `yaml:"appVersion"`
	}
	if err := yaml.Unmarshal(run(t, r.env, "helm", "show", "chart", path), &chart); err != nil {
		t.Fatal(err)
	}
	if chart.Name != "roadstead" || chart.Version != version || chart.AppVersion != version {
		t.Errorf("the chart is %+v, want version %s", chart, version)
	}
	checkHeaders(t, readFile(t, path), "roadstead/", regexp.MustCompile(`^$`))
}

// What is not to be released, and what has to be said for it.
func TestReleaseRefusals(t *testing.T) {
	e2e(t)
	r := newReleaser(t, ".gitignore", "Makefile", "README.md", "LICENSE", "deploy", ".ci/tools", "go.mod")
	refused := func(name, want string, more ...string) string {
		t.Helper()
		said, err := r.make("release", more...)
		if err == nil || !strings.Contains(said, want) {
			t.Errorf("%s: %v\n%s\nwant a refusal that says %s", name, err, said, want)
		}
		if _, err := os.Stat(filepath.Join(r.dir, "dist")); err == nil {
			t.Errorf("%s: something was made", name)
		}
		return said
	}
	short := r.git(t, "rev-parse", "--short", "HEAD")
	refused("no tag", "commit "+short+" has no tag of a release (v1.2.3).\nrelease: Tag it, \"git tag -a v1.2.3\", or say what to call it: VERSION=1.2.3-rc.1 make release\n")
	refused("a tag of another commit", "v0.9.0 is the tag of another commit, ", "VERSION=0.9.0")
	for _, version := range []string{"1.2", "1.2.3+4", "01.2.3", "1.2.3-rc.01", "1.2.3/../../x"} {
		refused("no version", "VERSION="+version+" is not a version", "VERSION="+version)
	}
	r.git(t, "tag", "very-good") // which says nothing of a version
	refused("a tag of something else", "has no tag of a release")
	refused("no such platform", `PLATFORMS has "plan9/amd64", which no release is made for`, "VERSION=1.0.0", "PLATFORMS=plan9/amd64 linux/amd64")

	r.git(t, "tag", "v1.0.0-rc.1")
	if err := os.WriteFile(filepath.Join(r.dir, "deploy", "new"), []byte("new\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("a file that is not committed", "?? deploy/new")
	if err := os.Remove(filepath.Join(r.dir, "deploy", "new")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "LICENSE"), []byte("none\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("a changed file", "Commit them, or put them away with \"git stash --include-untracked\":\nrelease:  M LICENSE\n", "VERSION=1.0.0")
	r.git(t, "checkout", "--quiet", "LICENSE")

	// With the programs of the machine, less those of the tests.
	bare := t.TempDir()
	for _, program := range []string{"bash", "make", "git", "tar", "gzip", "sed", "dirname", "grep"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bare, program)); err != nil {
			t.Fatal(err)
		}
	}
	said := refused("missing programs", "release: ", "PATH="+bare, "PLATFORMS=linux/amd64")
	for _, want := range []string{
		"go is not here: see https://go.dev/doc/install", `jq is not here: "apt-get install jq"`, "sha256sum is not here",
		`cyclonedx-gomod is not here: "bash .ci/tools" installs it`, "go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v",
		"helm is not here", "nfpm is not here", "go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("missing programs:\n%s\nwant %s", said, want)
		}
	}

	// What may be made of a commit without platforms: the tag's without a text, and a trial's.
	for _, row := range []struct {
		version, want string
		prepare       func()
		more          []string
	}{
		{"1.0.0-rc.1", "1.0.0-rc.1 is commit " + short + ", tag v1.0.0-rc.1", func() {}, nil},
		{"1.0.0", "1.0.0 is commit " + short + ", tag v1.0.0", func() { r.git(t, "tag", "--annotate", "--message=Roadstead 1.0.0", "v1.0.0") }, nil},
		{"1.1.0-beta", "commit " + short + " has no tag v1.1.0-beta: it is called 1.1.0-beta because VERSION says so", func() {}, []string{"VERSION=v1.1.0-beta"}},
	} {
		row.prepare()
		said, err := r.make("release", row.more...)
		if err != nil || !strings.Contains(said, row.want) {
			t.Fatalf("%s: %v\n%s\nwant %s", row.version, err, said, row.want)
		}
		made := r.made(t)
		if want := []string{"CHANGELOG.md", "SHA256SUMS", fmt.Sprintf("roadstead-%s.tgz", row.version)}; !slices.Equal(slices.Sorted(maps.Keys(made)), want) {
			t.Errorf("%s: made %q, want %q", row.version, slices.Sorted(maps.Keys(made)), want)
		}
		heading, list, _ := strings.Cut(made["CHANGELOG.md"], "\n\n")
		if heading != "# Roadstead "+row.version+", 2026-02-03" || !sameLines(list, "- Say less\n- Answer sooner\n") {
			t.Errorf("%s: the changelog is\n%s", row.version, made["CHANGELOG.md"])
		}
		r.checkChart(t, "roadstead-"+row.version+".tgz", row.version)
	}
}

// sameLines does not mind the order of commits that were made at the same second.
func sameLines(got, want string) bool {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
