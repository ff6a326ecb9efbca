package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// gaps say what Harbor did not show.
func (t *takeover) gaps() []string {
	var all []string
	for _, g := range t.from.gaps {
		where := ""
		if len(g.projects) > 0 {
			where = " of " + oneLine(some(g.projects))
		}
		why := fmt.Sprintf("Harbor does not show it to %s (%d)", oneLine(cmp.Or(t.from.me.Username, "this user")), g.why.status)
		if g.why.status == 404 || g.why.status == 405 || g.why.status == 501 {
			why = fmt.Sprintf("this Harbor has no such thing (%d)", g.why.status)
		}
		all = append(all, fmt.Sprintf("%s%s: %s", g.what, where, why))
	}
	return all
}

// report says on the terminal what was done and what is to be done.
func (t *takeover) report(w io.Writer, c *ConfigImportHarbor, faults []Fault) {
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	e, a := t.from, t.accounts
	say("Harbor %sat %s, read as %s%s.", either(e.info.Version != "", oneLine(e.info.Version)+" ", ""), e.base, oneLine(e.me.Username), either(e.me.Admin, "", ", who is no administrator: see below what is missing"))
	var proxies, hosted []string
	for _, p := range t.projects {
		if p.Hosted {
			hosted = append(hosted, p.Name)
		} else {
			proxies = append(proxies, p.Name)
		}
	}
	say("\ntaken over into %s:", cmp.Or(c.Output, "standard output"))
	say("  %s: %s", howMany(len(proxies), "proxy", "proxies"), cmp.Or(some(proxies), "-"))
	say("  %s: %s", howMany(len(hosted), "project that people push to", "projects that people push to"), cmp.Or(some(hosted), "-"))
	if n := len(a.users) + len(a.admins) + len(a.members) + len(a.robots); n > 0 {
		say("%s:", either(c.Commands != "", "taken over into "+c.Commands, "not taken over without --commands FILE"))
		say("  %s, %s, %s", howMany(len(a.users), "user", "users"), howMany(len(a.members), "role in a project", "roles in projects"), howMany(len(a.robots), "robot", "robots"))
	}
	if len(t.fills) > 0 {
		say("\nto be filled in, as Harbor does not give it away:")
	}
	for _, f := range t.fills {
		say("  %s: %s (%s)", f.where, f.what, some(f.names))
	}
	if len(faults) > 0 {
		say("\nto be corrected by hand, or \"roadstead check\" refuses it:")
	}
	for _, f := range faults {
		say("  %s", f)
	}
	var lost []string
	for _, p := range t.projects {
		for _, text := range p.notes {
			lost = append(lost, fmt.Sprintf("project %s: %s", p.Name, text))
		}
	}
	if all := slices.Concat(t.gaps(), t.lost, lost); len(all) > 0 {
		say("\nnot taken over:")
		for _, text := range all {
			say("  - %s", text)
		}
	}
	t.next(say, c)
}

// next says what to do now.
func (t *takeover) next(say func(string, ...any), c *ConfigImportHarbor) {
	file := cmp.Or(c.Output, "roadstead.yaml")
	say("\nnext:")
	n := 0
	step := func(format string, args ...any) {
		n++
		say("  %d. %s", n, fmt.Sprintf(format, args...))
	}
	files := slices.ContainsFunc(t.fills, func(f harborFill) bool { return strings.HasPrefix(f.where, t.secrets) })
	if len(t.fills) > 0 {
		step("fill in what is named above%s, until this finds no fault: roadstead check --config %s", either(files, ", each into its file (install -D -m 600 /dev/stdin FILE)", ""), quoted(file))
	} else {
		step("look at it: roadstead check --config %s", quoted(file))
	}
	step("stop Harbor (docker compose down, where its docker-compose.yml is), and keep a copy or a snapshot of its content as the way back")
	bucket := t.from.info.Storage != "" && t.from.info.Storage != "filesystem"
	switch {
	case c.Data != "":
		step("take over what is stored, in place: roadstead adopt --config %s", quoted(file))
		step("start the server, as the owner of %s: roadstead serve --config %s", c.Data, quoted(file))
	case bucket:
		step("write Harbor's bucket (%s) into %s, as the comment there says, and take over what is stored, in place: roadstead adopt --config %s", oneLine(t.from.info.Storage), file, quoted(file))
		step("start the server: roadstead serve --config %s", quoted(file))
	default:
		step("take over what is stored, in place: roadstead adopt --config %s /data/registry", quoted(file))
		step("start the server, as the owner of the directory: roadstead serve --config %s --data /data/registry", quoted(file))
	}
	if c.Commands != "" {
		step("make users, members and robots beside it: sh %s --config %s%s", quoted(c.Commands), quoted(file), either(c.Data == "" && !bucket, " --data /data/registry", ""))
	}
	step("let the name of Harbor lead here (tls in %s), or give the nodes what this writes: roadstead registries --config %s --url https://mirror.example.com", file, quoted(file))
}
