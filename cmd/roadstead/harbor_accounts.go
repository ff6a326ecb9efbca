package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
)

// takenAccounts are whom a Harbor knows, in the words of our commands.
type takenAccounts struct {
	users   []harborUser  // who get a password here
	admins  []string      // who sign in elsewhere, and administrate
	members []takenMember // of whoever is known when the commands run
	robots  []takenRobot
}

type takenMember struct {
	project, name, role string
	group               bool
}

type takenRobot struct {
	project, name, description string
	expires                    int64 // Unix time; 0: never
	disabled                   bool
	permissions                []string // as --permission takes them
}

// full is what a robot logs in as.
func (r takenRobot) full() string {
	return "robot$" + either(r.project != "", r.project+"+", "") + r.name
}

// takeAccounts takes over people and machines. Passwords and secrets are not Harbor's to give.
func (t *takeover) takeAccounts() {
	e, a := t.from, &t.accounts
	oidc := t.config.OIDC.Issuer != "" || cmp.Or(e.config["auth_mode"], e.info.AuthMode) == "oidc_auth"
	known := map[string]bool{"admin": true} // whom the first start makes
	for _, u := range e.users {
		switch {
		case u.Name == "admin":
		case access.CheckUser(u.Name) != nil:
			t.lose("user %q, who cannot be called so here: letters, digits and ._-@+", oneLine(u.Name))
		case oidc:
			known[u.Name] = true
			if u.Admin {
				a.admins = append(a.admins, u.Name)
			}
		default:
			known[u.Name] = true
			a.users = append(a.users, u)
		}
	}
	slices.Sort(a.admins)
	slices.SortFunc(a.users, func(x, y harborUser) int { return cmp.Compare(x.Name, y.Name) })
	for _, p := range e.projects {
		if projectNameFault(p.Name) == "" {
			t.takeMembers(p, oidc, known)
			for _, r := range p.robots {
				t.takeRobot(r, p.Name)
			}
		}
	}
	for _, r := range e.robots {
		if r.Level != "project" {
			t.takeRobot(r, "")
		}
	}
	slices.SortFunc(a.robots, func(x, y takenRobot) int { return cmp.Compare(x.full(), y.full()) })
}

// takeMembers takes over who has which role in a project.
func (t *takeover) takeMembers(p harborProject, oidc bool, known map[string]bool) {
	var strangers, groups []string
	var all []takenMember
	for _, m := range p.members {
		one := takenMember{project: p.Name, name: m.Name, role: m.Role, group: m.Type == "g"}
		switch {
		case !slices.Contains(access.Roles, access.Role(m.Role)):
			t.lose("%s as %q in project %s: there is no such role", oneLine(m.Name), oneLine(m.Role), p.Name)
		case one.group && !oidc:
			groups = append(groups, oneLine(m.Name))
		case one.group && (m.Name == "" || len(m.Name) > 255 || m.Name != oneLine(m.Name)), !one.group && access.CheckUser(m.Name) != nil:
			strangers = append(strangers, oneLine(m.Name))
		case !one.group && len(t.from.users) > 0 && !known[m.Name]:
			strangers = append(strangers, oneLine(m.Name)) // gone, or never one of those that are listed
		default:
			if !one.group && !oidc && !known[m.Name] { // Harbor has shown members, and no users
				known[m.Name] = true
				t.accounts.users = append(t.accounts.users, harborUser{Name: m.Name})
			}
			all = append(all, one)
		}
	}
	if len(groups) > 0 {
		t.lose("groups in project %s, which are those of an OIDC provider here: %s", p.Name, some(groups))
	}
	if len(strangers) > 0 {
		t.lose("members of project %s who are no users here: %s", p.Name, some(strangers))
	}
	slices.SortFunc(all, func(x, y takenMember) int {
		return cmp.Or(cmp.Compare(either(x.group, "1", "0"), either(y.group, "1", "0")), cmp.Compare(x.name, y.name))
	})
	t.accounts.members = append(t.accounts.members, all...)
}

// takeRobot takes over a robot with the rights that mean something here.
func (t *takeover) takeRobot(r harborRobot, project string) {
	one := takenRobot{project: project, name: r.Name, disabled: r.Disable, expires: max(r.ExpiresAt, 0)}
	one.description = oneLine(r.Description)
	one.description = strings.ToValidUTF8(one.description[:min(len(one.description), 1<<10)], "")
	if prefix := t.from.config["robot_name_prefix"]; prefix != "" {
		one.name = strings.TrimPrefix(one.name, prefix)
	}
	one.name = strings.TrimPrefix(one.name, "robot$")
	if project != "" {
		one.name = strings.TrimPrefix(one.name, project+"+")
	}
	if registry.CheckProject(one.name) != nil {
		t.lose("%s, which cannot be called so here", oneLine(r.Name))
		return
	}
	var lost []string
	for _, p := range r.Permissions {
		kind, namespace := cmp.Or(p.Kind, "project"), p.Namespace
		if kind == "system" {
			namespace = access.SystemScope
		}
		for _, w := range p.Access {
			_, err := access.PermissionOf(kind, namespace, []access.Word{w})
			if err == nil && project != "" && namespace != project {
				err = fmt.Errorf("a robot of a project has rights in that only")
			}
			if err != nil {
				lost = append(lost, oneLine(w.Action+" "+w.Resource+" in "+namespace))
				continue
			}
			permission := w.Resource + "/" + w.Action
			if project == "" {
				permission = namespace + ":" + permission
			}
			if !slices.Contains(one.permissions, permission) {
				one.permissions = append(one.permissions, permission)
			}
		}
	}
	slices.Sort(one.permissions)
	if len(lost) > 0 {
		slices.Sort(lost)
		t.lose("rights of %s: %s", oneLine(r.Name), some(slices.Compact(lost)))
	}
	if len(one.permissions) == 0 {
		t.lose("%s, which may do nothing", oneLine(r.Name))
		return
	}
	t.accounts.robots = append(t.accounts.robots, one)
}

// commandsHead is the beginning of the script. It is plain sh: it runs where the server does, which may be
// a machine with little else.
const commandsHead = `#!/bin/sh
# Makes the users, members and robots of the Harbor at %s.
# Written by "roadstead config import-harbor". Run it beside the server, once that has started:
#
#     sh %s --config roadstead.yaml
#
# Its arguments are given to each command. ROADSTEAD is how roadstead is called here, for example
# ROADSTEAD='docker compose exec -T roadstead /roadstead'. What is there already is left as it is, so
# this can be run again.
#
# Harbor gives nobody's password away, so new ones are made: each is in a file of its own in the folder
# SECRETS (harbor-secrets), which only you can read. Hand them out, and remove the folder.
set -uf
umask 077
ROADSTEAD=${ROADSTEAD:-roadstead}
SECRETS=${SECRETS:-harbor-secrets}
flags=$*
failed=0

call() { # shellcheck disable=SC2086
	$ROADSTEAD "$@" $flags </dev/null
}

fail() {
	echo "not done: $*" >&2
	failed=$((failed + 1))
}

# there LIST NAME: whether the first column of a list has a name.
there() { printf '%%s\n' "$1" | awk -v name="$2" '$1 == name { found = 1 } END { exit !found }'; }

# keep FILE COMMAND…: runs a command and keeps the secret that it prints.
keep() {
	file=$SECRETS/$1
	shift
	if secret=$(call "$@"); then
		printf '%%s\n' "$secret" >"$file" || fail "keep $file, whose secret is lost"
	else
		fail "$@"
	fi
}

# user NAME FLAG…
user() {
	if ! there "$users" "$1"; then keep "user-$1" user add "$@"; fi
}

# admin NAME: of somebody who signs in elsewhere.
admin() {
	if there "$users" "$1"; then call user admin "$1" || fail "user admin $1"; else absent "$1"; fi
}

# member PROJECT NAME FLAG…
member() {
	if there "$users" "$2"; then call project member add "$@" || fail "project member add $*"; else absent "$2"; fi
}

# group PROJECT NAME FLAG…
group() {
	call project member add "$@" --group || fail "project member add $* --group"
}

absent() {
	fail "$1 is no user yet: run this again after the first sign-in"
}

# robot FULL-NAME EXPIRES NAME FLAG…: EXPIRES is in seconds since 1970, 0 for never.
robot() {
	full=$1 expires=$2
	shift 2
	if there "$robots" "$full"; then return; fi
	if [ "$expires" -gt 0 ]; then
		left=$(((expires - $(date +%%s) + 86399) / 86400))
		if [ "$left" -le 0 ]; then
			echo "$full has expired and is left out" >&2
			return
		fi
		set -- "$@" --days "$left"
	fi
	keep "robot-${full#robot?}" robot add "$@"
}

# disabled FULL-NAME: of a robot.
disabled() {
	if there "$(call robot list)" "$1"; then call robot disable "$1" || fail "robot disable $1"; fi
}

users=$(call user list) || exit 1
robots=$(call robot list) || exit 1
if ! there "$users" admin; then
	echo "there is no user admin: start the server once before this, which makes it" >&2
	exit 1
fi
mkdir -p "$SECRETS" || exit 1
`

// commandsFoot is the end of the script.
const commandsFoot = `
if [ "$failed" -gt 0 ]; then
	echo "$failed commands have failed; run this again when their cause is gone" >&2
	exit 1
fi
`

// commands are a script that makes the accounts.
func (t *takeover) commands(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, commandsHead, t.from.base, oneLine(quoted(name)))
	section := func(title string) { fmt.Fprintf(&b, "\n# %s\n", title) }
	a := t.accounts
	if len(a.users) > 0 {
		section("People.")
	}
	for _, u := range a.users {
		fmt.Fprintf(&b, "user %s", quoted(u.Name))
		if u.Admin {
			b.WriteString(" --admin")
		}
		if u.Email != "" && u.Email == oneLine(u.Email) {
			b.WriteString(" --email=" + quoted(u.Email))
		}
		b.WriteString("\n")
	}
	if len(a.users) > 0 {
		b.WriteString("\nusers=$(call user list) || exit 1\n")
	}
	if len(a.admins) > 0 {
		section("Administrators, once they have signed in.")
	}
	for _, name := range a.admins {
		fmt.Fprintf(&b, "admin %s\n", quoted(name))
	}
	if len(a.members) > 0 {
		section("Who has which role in which project.")
	}
	for _, m := range a.members {
		fmt.Fprintf(&b, "%s %s %s --role %s\n", either(m.group, "group", "member"), quoted(m.project), quoted(m.name), m.role)
	}
	if len(a.robots) > 0 {
		section("Machines.")
	}
	for _, r := range a.robots {
		fmt.Fprintf(&b, "robot %s %d %s", quoted(r.full()), r.expires, quoted(r.name))
		if r.project != "" {
			b.WriteString(" --project " + quoted(r.project))
		}
		fmt.Fprintf(&b, " --permission %s", quoted(strings.Join(r.permissions, ",")))
		if r.description != "" {
			b.WriteString(" --description=" + quoted(r.description))
		}
		b.WriteString("\n")
		if r.disabled {
			fmt.Fprintf(&b, "disabled %s\n", quoted(r.full()))
		}
	}
	b.WriteString(commandsFoot)
	return b.String()
}

// quoted is a word as sh takes it literally.
func quoted(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+/") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
