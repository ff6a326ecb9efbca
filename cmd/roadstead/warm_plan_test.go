package main

import (
	"strings"
	"testing"
	"time"
)

func TestPlans(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "list.txt", "docker.io/rancher/mirrored-pause:3.6\n")
	write(t, "bad.txt", "team/UPPER\n")
	c, faults := parse(t, `
warm:
  nightly: { file: list.txt, schedule: "0 0 3 * * *" }
  hourly: { images: [busybox], platforms: all, schedule: "@hourly" }
  other: { images: [busybox], platforms: [linux/amd64], schedule: never }
`)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	at, which := due(c.Plans, time.Date(2026, 11, 28, 2, 30, 0, 0, time.UTC))
	if want := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC); !at.Equal(want) || len(which) != 2 || which[0].Name != "nightly" || which[1].Name != "hourly" {
		t.Errorf("due are %+v at %s", which, at)
	}
	if at, which = due(c.Plans, at); at.Hour() != 4 || len(which) != 1 || !which[0].AllPlatforms {
		t.Errorf("then %+v at %s", which, at)
	}
	if at, which = due(c.Plans[2:], at); !at.IsZero() || which != nil {
		t.Errorf("never is %s", at)
	}

	_, faults = parse(t, `
warm:
  a: { schedule: "@daily" }
  b: { images: [busybox] }
  c: { images: [team/UPPER], schedule: "@daily" }
  d: { file: none.txt, schedule: "@daily" }
  e: { file: bad.txt, schedule: "@daily" }
  f: { images: [busybox], schedule: often }
  g: { images: [busybox], platforms: [linux], schedule: "@daily" }
  h: { images: [busybox], platforms: [all, linux/arm64], schedule: "@daily" }
`)
	for i, want := range []string{
		"a: there is no image", "b: it is not said when", `images: "team/UPPER" is not`, "file: open", "file: line 1:",
		`schedule: "often" is no schedule`, "platforms: platforms are at most", "platforms: all and some",
	} {
		if i >= len(faults) || !strings.Contains(faults[i].Error(), want) {
			t.Errorf("fault %d of %v, want %q", i, faults, want)
		}
	}
}
