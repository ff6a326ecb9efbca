package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"roadstead/registry/registrytest"
)

// Rights can be given by our words and by Harbor's, in any project or in the system.
func TestRobotPermissions(t *testing.T) {
	for _, row := range []struct {
		project    string
		permission []string
		want       string // or what the refusal says
	}{
		{"", []string{"*:pull"}, "[{* [{repository pull}]}]"},
		{"production", []string{"artifact/list", "push", "repository/pull"}, "[{production [{repository pull} {repository push} {tag create} {artifact list}]}]"},
		{"", []string{"b:artifact/list", "/:registry/list", "a:pull", "b:tag/delete", "a:repository/list"},
			"[{a [{repository pull} {repository list}]} {/ [{registry list}]} {b [{artifact list} {tag delete}]}]"},
		{"production", nil, "[{production [{repository pull}]}]"},
		{"", []string{"artifact/list"}, "does not say where: write PROJECT:artifact/list"},
		{"production", []string{"unheard-of/read"}, `action "read" on resource "unheard-of" is nothing that a robot may do in projects`},
		{"", []string{"/:user/delete"}, "nothing that a robot may do in the system"},
		{"production", []string{"everything"}, `"everything" is nothing that a robot may do: pull, push, delete or warm`},
	} {
		got, err := (&RobotAdd{Project: row.project, Permission: row.permission}).permissions()
		if text := fmt.Sprint(got); err == nil && text != row.want || err != nil && !strings.Contains(plain(err).Error(), row.want) {
			t.Errorf("%q of %q: %s, %v; want %s", row.permission, row.project, text, err, row.want)
		}
	}
}

// Another secret leaves the end of a robot as it is, unless another one is given.
func TestRenewKeepsTheEndOfARobot(t *testing.T) {
	t.Chdir(t.TempDir())
	config := configuration(t, map[string]map[string]any{"up.example": proxied(registrytest.New(t))}, nil)
	p := serve(t, config)
	worked(t, "project", "create", "production", "--config", config)
	worked(t, "robot", "add", "ci", "--project", "production", "--days", "90", "--config", config)
	const name = "robot$production+ci"
	expires := func() string {
		t.Helper()
		_, row, _ := strings.Cut(worked(t, "robot", "list", "--config", config), name)
		fields := strings.Fields(row)
		if len(fields) < 2 {
			t.Fatalf("robot list says %q of it", row)
		}
		return fields[1] // after what it may
	}
	first := expires()
	if first == "never" {
		t.Fatal("a robot with an end has none")
	}
	worked(t, "robot", "renew", name, "--config", config)
	if got := expires(); got != first {
		t.Errorf("renewed: it ends %s, want %s", got, first)
	}
	worked(t, "robot", "renew", name, "--days", "180", "--config", config)
	if got := expires(); got <= first {
		t.Errorf("renewed with --days 180: it ends %s, want a day after %s", got, first)
	}
	worked(t, "robot", "renew", name, "--days", "0", "--config", config)
	if got := expires(); got != "never" {
		t.Errorf("renewed with --days 0: it ends %s, want never", got)
	}
	var details []string
	for line := range strings.Lines(worked(t, "audit", "--config", config)) {
		if _, detail, ok := strings.Cut(line, "secret"); ok {
			detail, _, _ = strings.Cut(strings.TrimSpace(detail), "20") // the year of an end
			details = append(details, detail)
		}
	}
	slices.Sort(details)
	if want := []string{"", ", until ", ", without an end"}; !slices.Equal(details, want) {
		t.Errorf("the audit log says of the secrets %q, want %q", details, want)
	}
	p.signal(syscall.SIGTERM)
	p.exit()
}
