package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is set by the linker (-ldflags "-X main.release=1.2.3") where there is no
// repository to read the version from, as in the build of the container image.
var release string

// Version is the command of that name.
type Version struct {
	JSON bool `help:"Print it as JSON, for scripts."`
}

// build is what is known of this binary.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree that had changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Run prints the version.
func (v *Version) Run(std streams) error {
	b := thisBuild()
	if v.JSON {
		return json.NewEncoder(std.out).Encode(b)
	}
	revision := b.Revision
	if b.Modified {
		revision += " with changes"
	}
	if revision != "" {
		revision = " (" + revision + ")"
	}
	_, err := fmt.Fprintf(std.out, "roadstead %s%s, %s, %s\n", b.Version, revision, b.Go, b.Platform)
	return err
}

func thisBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	b.Version = cmp.Or(release, b.Version)
	if !ok {
		return b
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}
