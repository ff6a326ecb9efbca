package rewrite

import (
	"encoding/json"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// vector is what the containerd of K3s and wharfie really made of a name.
type vector struct {
	Pattern, Replace string
	Registry, Repo   string
	Containerd       string // path of the request, up to the repository
	ContainerdScope  string // name in the token's scope
	Wharfie          string
}

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/rewrite-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there are no vectors")
	}
	return all
}

func TestRealClients(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Pattern+" "+v.Repo, func(t *testing.T) {
			rules := []Rule{{v.Pattern, v.Replace}}
			requestPath, scope := Containerd(rules, v.Repo)
			if requestPath != v.Containerd || scope != v.ContainerdScope {
				t.Errorf("Containerd = %q, %q; want %q, %q", requestPath, scope, v.Containerd, v.ContainerdScope)
			}
			if got := Wharfie(rules, v.Registry, v.Repo); got != v.Wharfie {
				t.Errorf("Wharfie = %q, want %q", got, v.Wharfie)
			}
			containerd, wharfie := Outcomes(rules, v.Registry, v.Repo)
			if !slices.Equal(containerd, []string{v.ContainerdScope}) || !slices.Equal(wharfie, []string{v.Wharfie}) {
				t.Errorf("Outcomes = %q, %q; want %q, %q", containerd, wharfie, v.ContainerdScope, v.Wharfie)
			}
		})
	}
}

func TestTraps(t *testing.T) {
	for _, tt := range []struct {
		show       string
		rules      []Rule
		host, repo string
		path       string // of containerd
		scope      string
		wharfie    string
	}{
		{"no rules", nil, "docker.io", "library/busybox", "/v2/library/busybox", "library/busybox", "library/busybox"},
		{"the first rule that changes something wins",
			[]Rule{{"^quay/", "x/"}, {"^library/", "a/"}, {"(.*)", "b/$1"}},
			"docker.io", "library/busybox", "/v2/a/busybox", "a/busybox", "a/busybox"},
		{"a rule that changes nothing does not win",
			[]Rule{{"(.*)", "$1"}, {"^", "b/"}},
			"docker.io", "library/busybox", "/v2/b/library/busybox", "b/library/busybox", "b/library/busybox"},
		{"rules do not add up",
			[]Rule{{"^library/", "a/"}, {"^a/", "b/"}},
			"docker.io", "library/busybox", "/v2/a/busybox", "a/busybox", "a/busybox"},
		{"a bad pattern is skipped",
			[]Rule{{"(.*", "x/$1"}, {"^", "b/"}},
			"docker.io", "library/busybox", "/v2/b/library/busybox", "b/library/busybox", "b/library/busybox"},
		{"lookahead is a bad pattern",
			[]Rule{{"^(?!rancher)(.*)", "x/$1"}},
			"docker.io", "library/busybox", "/v2/library/busybox", "library/busybox", "library/busybox"},
		{"every match is replaced",
			[]Rule{{"/", "-"}},
			"quay.io", "a/b/c", "/v2/a-b-c", "a-b-c", "a-b-c"},
		{"patterns are not anchored",
			[]Rule{{"etcd", "x"}},
			"quay.io", "coreos/etcd-etcd", "/v2/coreos/x-x", "coreos/x-x", "coreos/x-x"},
		{"an underscore belongs to the group's name",
			[]Rule{{"^(.*)$", "m/$1_x"}},
			"quay.io", "coreos/etcd", "/v2/m", "m/", "m/"},
		{"a dash does not",
			[]Rule{{"^(.*)$", "m/$1-x"}},
			"quay.io", "coreos/etcd", "/v2/m/coreos/etcd-x", "m/coreos/etcd-x", "m/coreos/etcd-x"},
		{"the whole match",
			[]Rule{{".+", "m/$0"}},
			"quay.io", "coreos/etcd", "/v2/m/coreos/etcd", "m/coreos/etcd", "m/coreos/etcd"},
		{"only containerd cleans the path",
			[]Rule{{"^", "m//./"}},
			"quay.io", "coreos/etcd", "/v2/m/coreos/etcd", "m//./coreos/etcd", "m//./coreos/etcd"},
		{"capitals are no name to wharfie",
			[]Rule{{"^", "Mirror/"}},
			"quay.io", "coreos/etcd", "/v2/Mirror/coreos/etcd", "Mirror/coreos/etcd", "coreos/etcd"},
		{"wharfie goes on after a result that is no name",
			[]Rule{{"^", "Mirror/"}, {"^", "m/"}},
			"quay.io", "coreos/etcd", "/v2/Mirror/coreos/etcd", "Mirror/coreos/etcd", "m/coreos/etcd"},
		{"one character is no name to wharfie",
			[]Rule{{".+", "x"}},
			"quay.io", "coreos/etcd", "/v2/x", "x", "coreos/etcd"},
		{"one character is none on Docker Hub either",
			[]Rule{{".+", "x"}},
			"docker.io", "library/busybox", "/v2/x", "x", "library/busybox"},
		{"nothing left",
			[]Rule{{".+", ""}},
			"docker.io", "library/busybox", "/v2", "", "library/busybox"},
		{"255 characters are a name to wharfie",
			[]Rule{{".+", strings.Repeat("a", 255)}},
			"quay.io", "coreos/etcd", "/v2/" + strings.Repeat("a", 255), strings.Repeat("a", 255), strings.Repeat("a", 255)},
		{"256 are not",
			[]Rule{{".+", strings.Repeat("a", 256)}},
			"quay.io", "coreos/etcd", "/v2/" + strings.Repeat("a", 256), strings.Repeat("a", 256), "coreos/etcd"},
		{"library comes back on Docker Hub only",
			[]Rule{{"^library/", ""}},
			"quay.io", "library/busybox", "/v2/busybox", "busybox", "busybox"},
		{"library comes back under Docker Hub's other name",
			[]Rule{{"^library/", ""}},
			"index.docker.io", "library/busybox", "/v2/busybox", "busybox", "library/busybox"},
		{"a rule that takes library away wins, though it comes back",
			[]Rule{{"^library/", ""}, {"^", "m/"}},
			"docker.io", "library/busybox", "/v2/busybox", "busybox", "library/busybox"},
	} {
		t.Run(tt.show, func(t *testing.T) {
			requestPath, scope := Containerd(tt.rules, tt.repo)
			if requestPath != tt.path || scope != tt.scope {
				t.Errorf("Containerd = %q, %q; want %q, %q", requestPath, scope, tt.path, tt.scope)
			}
			if got := Wharfie(tt.rules, tt.host, tt.repo); got != tt.wharfie {
				t.Errorf("Wharfie = %q, want %q", got, tt.wharfie)
			}
		})
	}
}

func TestWharfieCompletesItsInput(t *testing.T) {
	if got, want := Wharfie([]Rule{{"^", "m/"}}, "docker.io", "busybox"), "m/library/busybox"; got != want {
		t.Errorf("Wharfie = %q, want %q", got, want)
	}
}

func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		show                string
		rules               []Rule
		host, repo          string
		containerd, wharfie []string
	}{
		{"no rules", nil, "quay.io", "coreos/etcd",
			[]string{"coreos/etcd"}, []string{"coreos/etcd"}},
		{"rules that exclude one another", []Rule{{"^coreos/", "a/"}, {"^rancher/", "b/"}}, "quay.io", "coreos/etcd",
			[]string{"a/etcd"}, []string{"a/etcd"}},
		{"rules that overlap", []Rule{{"^coreos/", "a/"}, {"^", "b/"}}, "quay.io", "coreos/etcd",
			[]string{"a/etcd", "b/coreos/etcd"}, []string{"a/etcd", "b/coreos/etcd"}},
		{"rules that overlap and agree", []Rule{{"^coreos/", "a/"}, {"coreos", "a"}}, "quay.io", "coreos/etcd",
			[]string{"a/etcd"}, []string{"a/etcd"}},
		{"only containerd can tell them apart", []Rule{{"^", "A/"}, {"^", "b/"}}, "quay.io", "coreos/etcd",
			[]string{"A/coreos/etcd", "b/coreos/etcd"}, []string{"b/coreos/etcd"}},
		{"unchanged is an outcome of wharfie's", []Rule{{"^library/", ""}, {"^", "m/"}}, "docker.io", "busybox",
			[]string{"busybox", "m/library/busybox"}, []string{"library/busybox", "m/library/busybox"}},
	} {
		t.Run(tt.show, func(t *testing.T) {
			containerd, wharfie := Outcomes(tt.rules, tt.host, tt.repo)
			if !slices.Equal(containerd, tt.containerd) || !slices.Equal(wharfie, tt.wharfie) {
				t.Errorf("Outcomes = %q, %q; want %q, %q", containerd, wharfie, tt.containerd, tt.wharfie)
			}
		})
	}
}

// noise is rules that never change a name: they must not count, wherever they stand.
var noise = []Rule{{"(", "x"}, {"(?=a)", "x"}, {"$.^", "x"}, {"(.*)", "$1"}}

func FuzzContainerd(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Pattern, v.Replace, v.Repo)
	}
	f.Fuzz(func(t *testing.T, pattern, replace, repo string) {
		rule := Rule{pattern, replace}
		requestPath, scope := Containerd([]Rule{rule}, repo)
		if !path.IsAbs(requestPath) || path.Clean(requestPath) != requestPath {
			t.Errorf("path %q is not clean", requestPath)
		}
		if _, err := regexp.Compile(pattern); err != nil && scope != repo {
			t.Errorf("a bad pattern made %q of %q", scope, repo)
		}
		noisy := slices.Concat(noise, []Rule{rule}, noise)
		if p, s := Containerd(noisy, repo); p != requestPath || s != scope {
			t.Errorf("rules that do nothing changed %q, %q to %q, %q", requestPath, scope, p, s)
		}
	})
}

func FuzzWharfie(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Pattern, v.Replace, v.Registry, v.Repo)
	}
	f.Fuzz(func(t *testing.T, pattern, replace, host, repo string) {
		rule := Rule{pattern, replace}
		got := Wharfie([]Rule{rule}, host, repo)
		unchanged := withLibrary(host, repo)
		if got != unchanged && !wharfieName(got) && !wharfieName(strings.TrimPrefix(got, "library/")) {
			t.Errorf("%q is no name to wharfie", got)
		}
		if host == "docker.io" && !strings.Contains(got, "/") {
			t.Errorf("%q has lost library/", got)
		}
		noisy := slices.Concat(noise, []Rule{rule}, noise)
		if again := Wharfie(noisy, host, repo); again != got {
			t.Errorf("rules that do nothing changed %q to %q", got, again)
		}
		_, outcomes := Outcomes([]Rule{rule, {"^", "other/"}}, host, repo)
		if !slices.Contains(outcomes, got) && got != unchanged {
			t.Errorf("%q is not among the outcomes %q", got, outcomes)
		}
	})
}
