package registry

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// The grammars as the specification writes them, to hold the hand-written ones against.
var (
	nameGrammar    = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	projectGrammar = regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`)
	tagGrammar     = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestGrammar  = regexp.MustCompile(`^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)
)

var names = []string{
	"library/busybox", "a", "a/b/c/d", "docker.io", "a.b", "a_b", "a__b", "a-b", "a---b", "0/9",
	"", "/", "a/", "/a", "a//b", "A", "a.", ".a", "a..b", "a___b", "a_.b", "a-_b", "a/../b", "..", "a/./b",
	"a b", "a\x00b", "ä", "a%2fb", "a\\b", "a:b", "a@b", strings.Repeat("a", 255), strings.Repeat("a", 256),
	"latest", "v1.0-rc.1_x", "-x", "_x", strings.Repeat("t", 128), strings.Repeat("t", 129),
	"sha256:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("a", 63),
	"sha512:" + strings.Repeat("0", 128), "sha384:" + strings.Repeat("0", 96), "sha256:../../x", "sha256:", ":", "md5:x",
}

func FuzzNames(f *testing.F) {
	for _, n := range names {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rows := []struct {
			what    string
			err     error
			code    Code
			grammar *regexp.Regexp
			most    int
		}{
			{"name", CheckName(s), NameInvalid, nameGrammar, MaxName},
			{"project", CheckProject(s), NameInvalid, projectGrammar, MaxName},
			{"tag", CheckTag(s), TagInvalid, tagGrammar, 128},
		}
		for _, row := range rows {
			want := row.grammar.MatchString(s) && len(s) <= row.most
			if (row.err == nil) != want || row.err != nil && !errors.Is(row.err, row.code) {
				t.Errorf("%s %q: got %v, want it well formed: %v", row.what, s, row.err, want)
			}
		}
		d, err := ParseDigest(s)
		if want := digestGrammar.MatchString(s); (err == nil) != want || err == nil && string(d) != s || err != nil && !errors.Is(err, DigestInvalid) {
			t.Errorf("digest %q: got %v, want it well formed: %v", s, err, want)
		}
	})
}

func TestRepo(t *testing.T) {
	rows := []struct{ full, project, name string }{
		{"docker.io/library/busybox", "docker.io", "library/busybox"},
		{"docker.io", "docker.io", ""},
	}
	for _, row := range rows {
		got := SplitRepo(row.full)
		if got != (Repo{row.project, row.name}) {
			t.Errorf("SplitRepo(%q) = %+v", row.full, got)
		}
	}
	if got := (Repo{Name: "library/busybox"}).String(); got != "library/busybox" {
		t.Errorf("at an upstream the name is %q", got)
	}
}
