package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roadstead/registry/registrytest"
)

// harborOf is a Harbor with a cache of a registry that wants a password, and a project that people push to.
const harborOf = `{
	"/systeminfo": {"auth_mode": "db_auth", "harbor_version": "v2.12.0", "external_url": "https://harbor.example.com", "registry_storage_provider_name": "filesystem"},
	"/users/current": {"user_id": 1, "username": "admin", "sysadmin_flag": true},
	"/registries": [{"id": 1, "name": "Upstream", "url": "UPSTREAM", "type": "docker-registry", "credential": {"type": "basic", "access_key": "USERNAME", "access_secret": "*****"}, "insecure": true}],
	"/projects": [
		{"project_id": 1, "name": "quay.io", "registry_id": 1, "metadata": {"public": "true", "retention_id": "1"}},
		{"project_id": 2, "name": "production", "registry_id": 0, "repo_count": 1, "metadata": {"public": "false"}}],
	"/retentions/1": {"id": 1, "rules": [{"template": "nDaysSinceLastPull", "params": {"nDaysSinceLastPull": 7}}]},
	"/projects/2/immutabletagrules": [{"id": 1, "tag_selectors": [{"decoration": "matches", "pattern": "v*"}], "scope_selectors": {"repository": [{"decoration": "repoMatches", "pattern": "**"}]}}],
	"/projects/2/members": [{"entity_name": "alice", "entity_type": "u", "role_name": "developer"}, {"entity_name": "admin", "entity_type": "u", "role_name": "projectAdmin"}],
	"/quotas?reference=project": [{"ref": {"id": 2}, "hard": {"storage": 1073741824}}],
	"/users": [{"user_id": 1, "username": "admin", "sysadmin_flag": true}, {"user_id": 3, "username": "alice", "email": "alice@example.com"}, {"user_id": 4, "username": "bob", "sysadmin_flag": true}],
	"/robots": [
		{"name": "robot$nodes", "level": "system", "expires_at": -1, "description": "it's \"for\" $(nodes)", "permissions": [{"kind": "project", "namespace": "*", "access": [{"resource": "repository", "action": "pull"}]}]},
		{"name": "robot$old", "level": "system", "expires_at": 1600000000, "permissions": [{"kind": "project", "namespace": "*", "access": [{"resource": "repository", "action": "pull"}]}]}],
	"/robots?q=Level=project,ProjectID=2": [
		{"name": "robot$production+ci", "level": "project", "expires_at": 4102444800, "permissions": [{"kind": "project", "namespace": "production", "access": [{"resource": "repository", "action": "push"}, {"resource": "repository", "action": "pull"}, {"resource": "tag", "action": "list"}]}]},
		{"name": "robot$production+off", "level": "project", "expires_at": -1, "disable": true, "permissions": [{"kind": "project", "namespace": "production", "access": [{"resource": "repository", "action": "pull"}]}]}],
	"/replication/policies": [], "/configurations": {}, "/system/gc/schedule": null, "/system/scanAll/schedule": null, "/system/purgeaudit/schedule": null, "/system/CVEAllowlist": {"items": []}
}`

// A Harbor moves as its guide says: its API is read, what it keeps to itself is filled in, its volume is
// adopted, its people and robots are made again, and clients find everything under the names it had.
func TestMovesFromHarbor(t *testing.T) {
	e2e(t)
	home := t.TempDir()
	// What Harbor's own registry, which is the stock one, has written.
	old := startUpstream(t, upstreamConfig{})
	web := recipe{seed: 510000}.make(t, "v1.0", "latest")
	cached := recipe{seed: 510100}.make(t, "1")
	old.push(t, "production/team/web", web)
	old.push(t, "quay.io/team/cached", cached)
	old.stop(t)
	// The upstream that it was a cache of.
	fresh := recipe{seed: 510200}.make(t, "1")
	open := startUpstream(t, upstreamConfig{})
	open.push(t, "team/cached", cached)
	open.push(t, "team/fresh", fresh)
	open.stop(t)
	up := startUpstream(t, upstreamConfig{dir: open.dir, tokens: startTokenServer(t, true)})
	h := registrytest.NewHarbor(t, []byte(strings.NewReplacer("UPSTREAM", up.url, "USERNAME", tokenUser).Replace(harborOf)), nil)

	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	n := &node{t: t, home: home, dir: old.dir, addr: freeAddress(t), http: newHTTPClient(nil), plain: true, config: filepath.Join(home, "roadstead.yaml")}
	n.url, n.admin = "http://"+n.addr, "http://"+freeAddress(t)
	t.Cleanup(func() { n.checkLog(t) })
	script := filepath.Join(home, "accounts.sh")
	run(t, environment(home), roadsteadCommand(t), "config", "import-harbor", "--url", h.URL(), "--password-file", file("harbor.password", h.Password+"\n"),
		"--data", n.dir, "-o", n.config, "--commands", script)
	if out, err := n.command("check"); err == nil || !strings.Contains(err.Error(), "password_file: the file cannot be read") {
		t.Errorf("before the password is there: %s, %v", out, err)
	}
	file("secrets/upstream", tokenSecret+"\n")
	written, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	file("roadstead.yaml", fmt.Sprintf("listen: %s\nadmin: %s\n%s", n.addr, strings.TrimPrefix(n.admin, "http://"), written))
	for _, command := range []string{"check", "adopt"} {
		if out, err := n.command(command); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}

	// The script wants the first user, whom the first start makes.
	makes := func() error {
		out, err := try(environment(home, "ROADSTEAD="+roadsteadCommand(t), "SECRETS="+home+"/made"), "sh", script, "--config", n.config)
		t.Logf("%s", out)
		return err
	}
	if err := makes(); err == nil || !strings.Contains(err.Error(), "start the server once before this") {
		t.Errorf("before the first start: %v", err)
	}
	n.start()
	secret := func(file, name string) account {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(home, "made", file))
		if err != nil {
			t.Fatal(err)
		}
		return account{name, strings.TrimSpace(string(b))}
	}
	var made []account
	for range 2 { // the second time nothing is changed
		if err := makes(); err != nil {
			t.Fatal(err)
		}
		now := []account{secret("user-alice", "alice"), secret("user-bob", "bob"), secret("robot-nodes", "robot$nodes"),
			secret("robot-production+ci", "robot$production+ci"), secret("robot-production+off", "robot$production+off")}
		if made != nil && fmt.Sprint(made) != fmt.Sprint(now) {
			t.Errorf("the second run has made other secrets")
		}
		made = now
	}
	alice, bob, nodes, ci, off := made[0], made[1], made[2], made[3], made[4]
	if _, err := os.Stat(filepath.Join(home, "made", "robot-old")); err == nil {
		t.Error("the robot that has expired is there")
	}
	eventually(t, 10*time.Second, "the server sees the accounts", func() bool { return n.as(alice).pull("production/team/web", "latest", web) == nil })

	pullCrane(t, n, reference{project: "quay.io", repo: "team/fresh", tag: "1"}, fresh)
	if err := n.pull("quay.io/team/cached", "1", cached); err != nil {
		t.Error(err)
	}
	if a := n.ask(http.MethodGet, manifestPath("production/team/web", "latest")); a.status == http.StatusOK {
		t.Error("the private project is served to everybody")
	}
	for _, who := range []account{bob, nodes, ci} {
		if err := n.as(who).pull("production/team/web", "v1.0", web); err != nil {
			t.Errorf("%s: %v", who.name, err)
		}
	}
	more := recipe{seed: 510300}.make(t, "v2.0")
	for _, row := range []struct {
		who account
		may bool
	}{{alice, true}, {ci, true}, {nodes, false}, {off, false}} {
		if err := n.as(row.who).push("production/team/new-"+strings.NewReplacer("robot$", "", "production+", "").Replace(row.who.name), more); (err == nil) != row.may {
			t.Errorf("a push by %s: %v", row.who.name, err)
		}
	}
	if err := n.as(alice).push("production/team/web", recipe{seed: 510400}.make(t, "v1.0")); err == nil {
		t.Error("an immutable tag has moved")
	}
	up.stop(t)
	if err := n.pull("quay.io/team/cached", "1", cached); err != nil {
		t.Errorf("what Harbor had cached, while upstream is away: %v", err)
	}
	if out := n.administer("project", "show", "production"); !strings.Contains(out, "1 GiB") || !strings.Contains(out, "**:v*") {
		t.Errorf("the project is\n%s", out)
	}
	if log, err := os.ReadFile(n.log); err != nil || bytes.Contains(log, []byte(alice.secret)) {
		t.Errorf("the log has a password in it, %v", err)
	}
}
