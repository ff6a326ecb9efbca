package clients

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is generated as what is wanted")

// site is a server with projects of every kind.
func site(t testing.TB, at string) Site {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	return Site{URL: u, Default: "hub", Projects: []Project{
		{Name: "csi", Names: []string{"csi"}, Host: "quay.io", Prefix: "k8s.csi/deep"},
		{Name: "hub", Names: []string{"docker.io"}},
		{Name: "old", Names: []string{"old.lan:5000", "harbor.lan"}},
		{Name: "production", Hosted: true, Private: true},
		{Name: "prom", Names: []string{"prom"}, Host: "quay.io", Prefix: "prometheus"},
		{Name: "registry.k8s.io", Names: []string{"registry.k8s.io"}},
	}}
}

// sites are what the files in testdata are of.
func sites(t testing.TB) map[string]Site {
	plain, known, secure := site(t, "http://mirror.example.com:5000"), site(t, "https://mirror.example.com"), site(t, "https://mirror.example.com")
	secure.CA, secure.PEM = "/etc/ssl/certs/mirror.pem", "-----BEGIN CERTIFICATE-----\n"
	secure.Username, secure.Password = "robot$cluster", `it's "secret"`
	secure.Default = ""
	known.Projects = slices.Clone(known.Projects)
	known.Projects[1].Private = true
	return map[string]Site{"plain": plain, "private": known, "signs-in": secure}
}

func TestFilesOfClients(t *testing.T) {
	for name, s := range sites(t) {
		for _, c := range All {
			for _, wildcard := range []bool{false, true} {
				if s.Wildcard = wildcard; wildcard && !c.Wildcard {
					if _, err := c.Files(s); err == nil || !strings.Contains(err.Error(), c.Name) {
						t.Errorf("%s with a wildcard: %v, want an error", c.Name, err)
					}
					continue
				}
				files, err := c.Files(s)
				if err != nil {
					t.Errorf("%s: %v", c.Name, err)
				}
				golden := filepath.Join("testdata", name, c.Name+map[bool]string{true: "-wildcard"}[wildcard]+".txt")
				if *update {
					if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(golden, []byte(together(files)), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if got := together(files); got != string(want) {
					t.Errorf("%s is not as in %s:\n%s", c.Name, golden, got)
				}
			}
		}
	}
}

// together is files one after the other, with what there is to know of them.
func together(files []File) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "== %s\n", f.Path)
		for _, n := range f.Notes {
			fmt.Fprintf(&b, "-- %s\n", n)
		}
		b.WriteString(f.Text)
	}
	return b.String()
}

// Whoever reads a note is told something, and each note is of some file.
func TestNotes(t *testing.T) {
	used := map[Note]bool{}
	for _, s := range sites(t) {
		s.Projects = append(slices.Clone(s.Projects), Project{Name: "quay", Host: "quay.io", Prefix: "x"})
		for _, c := range All {
			for _, s.Wildcard = range []bool{false, c.Wildcard} {
				files, err := c.Files(s)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range files {
					for _, n := range f.Notes {
						if used[n] = true; n.English() == "" {
							t.Errorf("%s says nothing", n)
						}
					}
				}
			}
		}
	}
	for n := range Notes() {
		if !used[n] {
			t.Errorf("no file has the note %s", n)
		}
	}
}

// Files are taken whole or by hand: one path is one file, texts end their last line, and a password
// that nobody gave is nowhere.
func TestFilesAreFiles(t *testing.T) {
	for name, s := range sites(t) {
		for _, c := range All {
			files, err := c.Files(s)
			if err != nil {
				t.Fatal(err)
			}
			paths := map[string]bool{}
			for _, f := range files {
				if f.Path != "" && paths[f.Path] {
					t.Errorf("%s of %s: %s is there twice", c.Name, name, f.Path)
				}
				paths[f.Path] = true
				if !strings.HasSuffix(f.Text, "\n") || strings.Contains(f.Text, "\n\n\n") {
					t.Errorf("%s of %s: %q", c.Name, name, f.Text)
				}
				for line := range strings.Lines(f.Text) {
					if s.CA == "" && strings.Contains(line, someCA) && !strings.HasPrefix(strings.TrimSpace(line), "#") {
						t.Errorf("%s of %s names an authority that may not be there: %s", c.Name, name, line)
					}
				}
			}
		}
	}
}

func TestWhatCannotBe(t *testing.T) {
	if _, err := Find("abacus"); err == nil || !strings.Contains(err.Error(), "rke2") {
		t.Errorf("an unknown client: %v", err)
	}
	s := site(t, "https://mirror.example.com")
	s.Projects = s.Projects[2:]
	c, err := Find("system-default-registry")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Files(s); err == nil || !strings.Contains(err.Error(), "docker.io") {
		t.Errorf("RKE2's images without Docker Hub: %v", err)
	}
	// Without any project there is still something to say to most.
	s.Projects = nil
	for _, c := range All {
		if files, err := c.Files(s); c.Name != "system-default-registry" && err != nil {
			t.Errorf("%s of an empty site: %v, %v", c.Name, files, err)
		}
	}
}
