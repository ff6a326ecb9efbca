package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// The linker sets these (-ldflags "-X main.release=1.2.3") in a release, and where Go finds no repository to
// read them from, as in the build of the container image and in a worktree of git: the tag with or without
// its "v", the commit in full, the time of the commit in RFC 3339, and "true" of a tree with changes.
var release, commit, date, changed string

// Version is the command of that name.
type Version struct {
	JSON bool `help:"Print it as JSON, for scripts."`
}

// build is what is known of this binary. Of one that was built outside a repository, and that nobody has
// told, neither commit nor date are.
type build struct {
	Version  string `json:"version"` // of the release, without "v"; between releases Go's pseudo-version; or "devel"
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"` // of the commit, in RFC 3339
	Modified bool   `json:"modified"`       // built from a tree that had changes
	Go       string `json:"go"`
	Platform string `json:"platform"` // as linux/amd64
}

// Run prints the version.
func (v *Version) Run(std streams) error {
	b := thisBuild()
	if v.JSON {
		return json.NewEncoder(std.out).Encode(b)
	}
	_, err := fmt.Fprintln(std.out, b)
	return err
}

func (b build) String() string {
	from := b.Commit
	if b.Modified {
		from += " with changes"
	}
	if b.Date != "" {
		from += " of " + b.Date
	}
	if from != "" {
		from = " (" + strings.TrimSpace(from) + ")"
	}
	return fmt.Sprintf("roadstead %s%s, %s, %s", b.Version, from, b.Go, b.Platform)
}

func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return buildOf(info, build{Version: release, Commit: commit, Date: date, Modified: changed == "true"})
}

// buildOf takes what the linker was told, and the rest from what Go has noted of the repository. Of another
// commit than the one that it was told Go's notes say nothing.
func buildOf(info *debug.BuildInfo, b build) build {
	b.Go, b.Platform = runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
	noted := map[string]string{}
	for _, setting := range info.Settings {
		noted[setting.Key] = setting.Value
	}
	if b.Commit == "" {
		b.Commit = noted["vcs.revision"]
	}
	if b.Commit == noted["vcs.revision"] {
		b.Modified = b.Modified || noted["vcs.modified"] == "true"
		if b.Date == "" {
			b.Date = noted["vcs.time"]
		}
	}
	switch {
	case b.Version != "":
	case info.Main.Version == "" || info.Main.Version == "(devel)":
		b.Version = "devel"
	default:
		b.Version = info.Main.Version
	}
	b.Version = withoutV(b.Version)
	return b
}

// withoutV makes the version out of a release's tag: v1.2.3 is 1.2.3.
func withoutV(tag string) string {
	if rest, ok := strings.CutPrefix(tag, "v"); ok && rest != "" && '0' <= rest[0] && rest[0] <= '9' {
		return rest
	}
	return tag
}
