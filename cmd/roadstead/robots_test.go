package main

import (
	"fmt"
	"strings"
	"testing"
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
