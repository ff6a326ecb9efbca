package main_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// An account is somebody whom a node knows: a user or a robot.
type account struct{ name, secret string }

// basic is the account as HTTP's Basic scheme and Docker's configuration have it.
func (a account) basic() string {
	return base64.StdEncoding.EncodeToString([]byte(a.name + ":" + a.secret))
}

// as is the node for whoever asks as a.
func (n *node) as(a account) *node {
	m := *n
	m.who = a
	return &m
}

// administer runs one of the subcommands that change a node's projects and accounts, beside the
// node that runs or before it does, and returns what it printed.
func (n *node) administer(args ...string) string {
	n.t.Helper()
	return string(run(n.t, environment(n.home), roadsteadCommand(n.t), append(args, "--config", n.config)...))
}

// addUser makes a user with a password of ours.
func (n *node) addUser(name string, more ...string) account {
	n.t.Helper()
	a := account{name, "Pass-of-" + name + "-1f8c"}
	file := filepath.Join(n.home, name+".password")
	if err := os.WriteFile(file, []byte(a.secret+"\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.administer(append([]string{"user", "add", name, "--password-file", file}, more...)...)
	return a
}

// addMember makes a user with a role in a project.
func (n *node) addMember(project, name, role string) account {
	n.t.Helper()
	a := n.addUser(name)
	n.administer("project", "member", "add", project, name, "--role", role)
	return a
}

// secretLine is a secret as the commands print one: alone, or at the end of a line.
var secretLine = regexp.MustCompile(`(?m)(\S{16,})\s*$`)

// addRobot makes a robot, whose secret is printed once. Its full name is Harbor's.
func (n *node) addRobot(project, name string, permissions ...string) account {
	n.t.Helper()
	args, full := []string{"robot", "add", name}, "robot$"+name
	if project != "" {
		args, full = append(args, "--project", project), "robot$"+project+"+"+name
	}
	for _, permission := range permissions {
		args = append(args, "--permission", permission)
	}
	out := n.administer(args...)
	found := secretLine.FindAllStringSubmatch(strings.TrimSpace(out), -1)
	if found == nil {
		n.t.Fatalf("robot add %s printed no secret: %q", name, out)
	}
	return account{full, found[len(found)-1][1]}
}

// keep writes the account where every client looks that knows Docker's configuration: into the
// home directory that it is given.
func (n *node) keep(t testing.TB, home string) {
	t.Helper()
	if n.who.name == "" {
		return
	}
	dir := filepath.Join(home, ".docker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	writeJSON(t, filepath.Join(dir, "config.json"), map[string]any{
		"auths": map[string]any{n.addr: map[string]any{"auth": n.who.basic()}},
	})
}
