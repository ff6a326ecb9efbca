package registries

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roadstead/rewrite"
)

var update = flag.Bool("update", false, "write what is found into the files that say what should be")

// house is the registry that the files in testdata mean.
func house(t testing.TB) House {
	t.Helper()
	table, err := rewrite.NewTable([]rewrite.Project{
		{Name: "docker.io", Hub: true}, {Name: "quay.io"}, {Name: "ghcr.io"}, {Name: "gcr.io"}, {Name: "production", Hosted: true},
	}, nil, "docker.io")
	if err != nil {
		t.Fatal(err)
	}
	return House{Table: table, Self: []string{"cache.example.com"}}
}

func read(t testing.TB, file string) *File {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return f
}

func findings(t testing.TB, f *File, house House) []Finding {
	t.Helper()
	all, err := Lint(t.Context(), f, house)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Each file of the corpus stands beside the findings that it has, all of them and no others.
func TestFindings(t *testing.T) {
	files, err := filepath.Glob("testdata/lint/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no files: %v", err)
	}
	found := map[string]bool{}
	for _, file := range files {
		var got strings.Builder
		for _, f := range findings(t, read(t, file), house(t)) {
			found[f.Rule] = true
			level := "note"
			if f.Breaks {
				level = "breaks"
			}
			fmt.Fprintf(&got, "%d: %s %s: %s\n", f.Line, level, f.Rule, f)
		}
		want := strings.TrimSuffix(file, ".yaml") + ".txt"
		if *update {
			if err := os.WriteFile(want, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(want)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(text) {
			t.Errorf("%s has these findings:\n%s\nwant:\n%s", file, got.String(), text)
		}
	}
	for _, rule := range Rules {
		if !found[rule] {
			t.Errorf("no file shows %q", rule)
		}
		delete(found, rule)
	}
	for rule := range found {
		t.Errorf("%q is not among the rules", rule)
	}
}

func TestWhatIsNoYAML(t *testing.T) {
	for text, line := range map[string]int{"a: [": 1, "mirrors:\n  docker.io:\n\tendpoint: []\n": 3, "a: *b": 1} {
		_, err := Parse([]byte(text))
		if err == nil || Line(err) != line {
			t.Errorf("%q: %v in line %d, want one in line %d", text, err, Line(err), line)
		}
	}
	for _, text := range []string{"", "# nothing\n", "mirrors:\n", "a: &a {<<: *a}", "mirrors: &a\n  x: *a\n", "- 1", "{}"} {
		f, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		findings(t, f, house(t))
		f.HostsTOML()
	}
}

// A pair of rules that are said to overlap nowhere does so for no name, and an example is one.
func TestExamplesOfAmbiguity(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want string // "" none, "?" any
	}{
		{"^rancher/(.*)", "(.*)", "rancher/mirrored-pause"},
		{"^rancher/(.*)", "^library/(.*)", ""},
		{"^rancher/", "pause$", "rancher/mirrored-pause"},
		{"^a{3}", "b{4}$", "?"},
		{"^[^/]+/[^/]+$", "^[^/]+/[^/]+/[^/]+$", ""},
		{"^[a-f]+/x$", "^[f-k]+/x$", "?"},
		{"^[a-e]+/x$", "^[f-k]+/x$", ""},
		{`^(?:q[0-9]){3}`, `(?:[0-9]/z){2}`, "?"},
		{"^x(y|z)+$", "^x(yz)*$", "?"},
		{"^rancher/mirrored-(.*)", "^rancher/(.*)", "rancher/mirrored-pause"},
		{"(?i)^RANCHER/(.*)", "^rancher/(.*)", "rancher/mirrored-pause"},
		{"^(rancher|longhornio)/(.*)", "^longhornio/(.*)", "?"},
	} {
		a, b := rewrite.Rule{Pattern: tt.a, Replace: "one/$0"}, rewrite.Rule{Pattern: tt.b, Replace: "two/$0"}
		l := linter{file: &File{}, left: mostWork}
		l.two(&Mirror{Host: "quay.io"}, Rewrite{Rule: a, Line: 1}, Rewrite{Rule: b, Line: 2})
		if (len(l.all) == 0) != (tt.want == "") {
			t.Errorf("%q and %q: %v", tt.a, tt.b, l.all)
			continue
		}
		if tt.want != "" && tt.want != "?" && !strings.Contains(l.all[0].What, `"`+tt.want+`"`) {
			t.Errorf("%q and %q: %s, want %s as the example", tt.a, tt.b, l.all[0].What, tt.want)
		}
	}
}

func TestProjectsAreLeftOutWhereNoneAreKnown(t *testing.T) {
	all := findings(t, read(t, "testdata/lint/results.yaml"), House{})
	if slices.ContainsFunc(all, func(f Finding) bool { return f.Rule == "project" }) {
		t.Errorf("projects are missed without a table: %v", all)
	}
}

// What is found by taking a mirror for this server, which nobody has said that it is, breaks nothing. What is
// wrong with it whoever it is, does.
func TestMirrorsThatMayBeOthers(t *testing.T) {
	f, err := Parse([]byte(`mirrors:
  docker.io:
    endpoint: [ "https://harbor.example.com" ]
    rewrite:
      "(^.+$)": "dockerhub-proxy/$1"
  quay.io:
    endpoint: [ "https://harbor.example.com/quay-proxy" ]
  example.com:
    endpoint: [ "https://harbor.example.com" ]
  "*":
    endpoint: [ "https://harbor.example.com" ]
    rewrite:
      "(^.+$)": "docker.io/$1"
`))
	if err != nil {
		t.Fatal(err)
	}
	h := house(t)
	projects := 0
	for _, one := range findings(t, f, h) {
		if one.Rule == "project" {
			t.Errorf("of a server elsewhere: %s", one)
		}
	}
	h.Self = nil
	for _, one := range findings(t, f, h) {
		if one.Rule == "project" {
			projects++
		}
		if one.Breaks != (one.Rule == "override-path") {
			t.Errorf("breaks is %v: %d: %s", one.Breaks, one.Line, one)
		}
		if one.Rule == "project" && !strings.Contains(one.Why, "if harbor.example.com is this server: --server says") {
			t.Errorf("it is not said how to be sure: %s", one)
		}
	}
	h.Self = []string{"harbor.example.com"}
	for _, one := range findings(t, f, h) {
		if !one.Breaks || one.Rule != "project" {
			t.Errorf("of this server: %d: %s", one.Line, one)
		}
		projects--
	}
	if projects != 0 {
		t.Errorf("%d more findings by the guess than when it is said", projects)
	}
}

// Files that nobody has written by hand end too, and say that not all was looked at.
func TestManyRules(t *testing.T) {
	for name, rule := range map[string]func(i int) string{
		"that begin alike":    func(i int) string { return fmt.Sprintf("^[a-z0-9]*x%d[a-z]{9}(.*)", i) },
		"that exclude others": func(i int) string { return fmt.Sprintf("^organisation-%05d/(.*)", i) },
	} {
		var text strings.Builder
		text.WriteString("mirrors:\n  quay.io:\n    endpoint: [ \"https://cache.example.com\" ]\n    rewrite:\n")
		for i := range 200 {
			fmt.Fprintf(&text, "      %q: \"quay.io/$0\"\n", rule(i))
		}
		f, err := Parse([]byte(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		all := findings(t, f, house(t))
		if !slices.ContainsFunc(all, func(f Finding) bool { return f.Rule == "unfinished" && !f.Breaks }) {
			t.Errorf("%s: nothing is said of what was not compared", name)
		}
	}
}

// Somebody who has waited long enough does not wait for more.
func TestLintIsStopped(t *testing.T) {
	h := house(t)
	why := errors.New("it is late")
	for _, at := range []string{"docker.io", "quay.io", "rancher.example"} {
		ctx, stop := context.WithCancelCause(t.Context())
		asked := 0
		h.Names = func(host string) []string {
			asked++
			if host == at {
				stop(why)
			}
			return nil
		}
		f := &File{}
		for _, host := range []string{"docker.io", "quay.io", "rancher.example"} {
			f.Mirrors = append(f.Mirrors, Mirror{Host: host, Line: 1, Rewrites: []Rewrite{{Rule: rewrite.Rule{Pattern: "^rancher/(.*)", Replace: "one/$1"}}, {Rule: rewrite.Rule{Pattern: "(.*)", Replace: "two/$1"}}}})
		}
		if _, err := Lint(ctx, f, h); !errors.Is(err, why) {
			t.Errorf("stopped at %s: %v", at, err)
		}
		if want := slices.IndexFunc(f.Mirrors, func(m Mirror) bool { return m.Host == at }) + 1; asked != want {
			t.Errorf("stopped at %s it has looked at %d mirrors", at, asked)
		}
	}
}
