package main_test

import (
	"bufio"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A wharf is a node with projects that people push to, and the people: production is private,
// other is a second private one, and open is public.
type wharf struct {
	*node
	root    account            // the system's administrator
	robot   account            // may pull, push and delete everywhere
	members map[string]account // of production, by role
	puller  account            // a robot that may only pull from production
	foreign account            // project admin of other, and nothing in production
}

// roles are Harbor's, from the one who may least.
var roles = []string{"limitedGuest", "guest", "developer", "maintainer", "projectAdmin"}

// startWharf starts one. The projects are those of the configuration, so that they are there from
// the first moment; the accounts are made by the commands, beside the running node: the robot, and
// those that are asked for by role, "puller" and "foreign" among them. The maintainer is one of all
// three projects.
func startWharf(t testing.TB, c nodeConfig, accounts ...string) *wharf {
	t.Helper()
	projects := map[string]any{
		"production": map[string]any{"hosted": true},
		"other":      map[string]any{"hosted": true},
		"open":       map[string]any{"hosted": true, "public": true},
	}
	maps.Copy(projects, c.projects)
	c.projects = projects
	w := &wharf{root: account{"admin", "Pass-of-admin-1f8c"}, members: map[string]account{}}
	first := filepath.Join(t.TempDir(), "admin")
	if err := os.WriteFile(first, []byte(w.root.secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	more := map[string]any{"admin_password_file": first}
	maps.Copy(more, c.more)
	c.more = more
	w.node = startNode(t, c)
	for _, name := range accounts {
		switch name {
		case "puller":
			w.puller = w.addRobot("production", "puller", "pull")
		case "foreign":
			w.foreign = w.addMember("other", "foreign", "projectAdmin")
		default:
			w.members[name] = w.addMember("production", strings.ToLower(name), name)
		}
	}
	if a, ok := w.members["maintainer"]; ok {
		for _, project := range []string{"other", "open"} {
			w.administer("project", "member", "add", project, a.name, "--role", "maintainer")
		}
	}
	w.robot = w.addRobot("", "everywhere", "*:pull", "*:push", "*:delete")
	w.knows(w.robot)
	return w
}

// knows waits until the node knows an account, which it does within two seconds of its making.
func (n *node) knows(a account) {
	n.t.Helper()
	eventually(n.t, 10*time.Second, "a node that knows "+a.name, func() bool {
		return n.as(a).ask(http.MethodGet, "/v2/").status == http.StatusOK
	})
}

// logs waits until the node's log has so many lines of requests that have all of the words. A line is
// written after its answer, and a disk that is busy holds it up.
func (n *node) logs(t testing.TB, what string, least int, words ...string) {
	t.Helper()
	eventually(t, 5*time.Second, what, func() bool { return n.logged(t, words...) >= least })
}

// logged counts the lines of requests in the node's log that have all of the words.
func (n *node) logged(t testing.TB, words ...string) (count int) {
	t.Helper()
	f, err := os.Open(n.log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
next:
	for lines.Scan() {
		for _, word := range words {
			if !strings.Contains(lines.Text(), word) {
				continue next
			}
		}
		count++
	}
	return count
}
