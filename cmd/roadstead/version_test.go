package main

import (
	"encoding/json"
	"reflect"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersionOfABuild(t *testing.T) {
	const (
		one, other = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"
		when       = "2026-11-29T01:02:03Z"
	)
	info := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: "roadstead", Version: version}, Settings: settings}
	}
	noted := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: one},
			{Key: "vcs.time", Value: when}, {Key: "vcs.modified", Value: modified},
		}
	}
	for _, row := range []struct {
		name string
		info *debug.BuildInfo
		told build
		want build
		line string // of "roadstead version", before the version of Go
	}{
		{"nothing known", info(""), build{}, build{Version: "devel"}, "roadstead devel"},
		{"outside a repository", info("(devel)"), build{}, build{Version: "devel"}, "roadstead devel"},
		{"at a tag", info("v1.2.3", noted("false")...), build{},
			build{Version: "1.2.3", Commit: one, Date: when}, "roadstead 1.2.3 (" + one + " of " + when + ")"},
		{"after a tag, with changes", info("v1.2.4-0.20261129010203-111111111111+dirty", noted("true")...), build{},
			build{Version: "1.2.4-0.20261129010203-111111111111+dirty", Commit: one, Date: when, Modified: true},
			"roadstead 1.2.4-0.20261129010203-111111111111+dirty (" + one + " with changes of " + when + ")"},
		{"told by the linker alone", info("(devel)"), build{Version: "v1.2.3", Commit: other, Date: when},
			build{Version: "1.2.3", Commit: other, Date: when}, "roadstead 1.2.3 (" + other + " of " + when + ")"},
		{"told a version in a repository with changes", info("v1.2.2", noted("true")...), build{Version: "1.2.3"},
			build{Version: "1.2.3", Commit: one, Date: when, Modified: true}, "roadstead 1.2.3 (" + one + " with changes of " + when + ")"},
		{"told of another commit than the repository's", info("v1.2.2", noted("true")...), build{Version: "1.2.3", Commit: other},
			build{Version: "1.2.3", Commit: other}, "roadstead 1.2.3 (" + other + ")"},
		{"told of changes", info("(devel)"), build{Version: "v1.2.3-4-g22222222", Commit: other, Modified: true},
			build{Version: "1.2.3-4-g22222222", Commit: other, Modified: true}, "roadstead 1.2.3-4-g22222222 (" + other + " with changes)"},
		{"a name that begins with v", info(""), build{Version: "vnext"}, build{Version: "vnext"}, "roadstead vnext"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.want.Go, row.want.Platform = runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
			got := buildOf(row.info, row.told)
			if got != row.want {
				t.Errorf("got  %+v\nwant %+v", got, row.want)
			}
			if want := row.line + ", " + row.want.Go + ", " + row.want.Platform; got.String() != want {
				t.Errorf("said %q\nwant %q", got, want)
			}
		})
	}
}

// Scripts find every field under its name; only what is not known is left out.
func TestVersionInJSON(t *testing.T) {
	stdout, stderr, status := command("version", "--json")
	var got map[string]any
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 0 || stderr != "" {
		t.Fatalf("status %d, %v\n%s%s", status, err, stdout, stderr)
	}
	want := map[string]any{
		"version": "devel", "modified": false, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("of a test binary, which Go notes nothing of, it said\n%v\nwant\n%v", got, want)
	}
}
