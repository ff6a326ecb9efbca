package main_test

import (
	"bufio"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// A wharf is a node with projects that people push to, and the people: production is private,
// other is a second private one in which some of them have rights as well, and open is public.
// All accounts are made by the commands, beside the running node.
type wharf struct {
	*node
	root    account            // the system's administrator
	members map[string]account // of production, by role
	robot   account            // may pull, push and delete in production and other
	puller  account            // a robot that may only pull from production
	foreign account            // project admin of other, and nothing in production
}

// roles are Harbor's, from the one who may least.
var roles = []string{"limitedGuest", "guest", "developer", "maintainer", "projectAdmin"}

// startWharf starts one. Its projects are those of the configuration, so that they are there
// from the first moment.
func startWharf(t testing.TB, c nodeConfig) *wharf {
	t.Helper()
	projects := map[string]any{
		"production": map[string]any{"hosted": true},
		"other":      map[string]any{"hosted": true},
		"open":       map[string]any{"hosted": true, "public": true},
	}
	for name, p := range c.projects {
		projects[name] = p
	}
	c.projects = projects
	w := &wharf{node: startNode(t, c), members: map[string]account{}}
	w.root = w.addUser("root", "--admin")
	for _, role := range roles {
		w.members[role] = w.addMember("production", strings.ToLower(role), role)
	}
	for _, project := range []string{"other", "open"} {
		w.administer("project", "member", "add", project, w.members["maintainer"].name, "--role", "maintainer")
	}
	w.foreign = w.addMember("other", "foreign", "projectAdmin")
	w.robot = w.addRobot("", "everywhere", "pull", "push", "delete")
	w.puller = w.addRobot("production", "puller", "pull")
	w.knows(w.puller)
	return w
}

// knows waits until the node knows an account, which it does within two seconds of its making.
func (n *node) knows(a account) {
	n.t.Helper()
	eventually(n.t, 10*time.Second, "a node that knows "+a.name, func() bool {
		return n.as(a).ask(http.MethodGet, "/v2/").status == http.StatusOK
	})
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

// mounts counts the blobs that were mounted into a repository: the POSTs that made one.
func (n *node) mounts(t testing.TB, repo string) int {
	t.Helper()
	return n.logged(t, "POST", repo, `201`)
}
