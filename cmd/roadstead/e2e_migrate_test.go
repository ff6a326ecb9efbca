package main_test

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/storage/postgrestest"
	"roadstead/storage/s3test"
)

// A lonely node has all that there is to move: what was pushed, what was cached through a registry that
// wants a password, people, a robot, rules, and what was done.
type lonely struct {
	*wharf
	upstream *upstream
	up       atomic.Bool // the upstream, to whoever has the password
	locked   string      // its URL
	projects map[string]any
	more     map[string]any
	pushed   map[string]*image
	cached   *image
	token    string // of the robot, for what it pushed
}

const lockedUser, lockedSecret = "locksmith", "Pass-of-upstream-77ce"

func startLonely(t *testing.T) *lonely {
	t.Helper()
	l := &lonely{upstream: startUpstream(t, upstreamConfig{})}
	l.up.Store(true)
	target, err := url.Parse(l.upstream.url)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	lock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		switch {
		case !l.up.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case user != lockedUser || secret != lockedSecret:
			w.Header().Set("WWW-Authenticate", `Basic realm="locked"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(lock.Close)
	l.locked = lock.URL

	l.more = map[string]any{"url": "http://mirror.example.com"} // what tokens are for
	l.wharf = startWharf(t, nodeConfig{plain: true, more: l.more}, "maintainer")
	l.projects = map[string]any{
		"production": map[string]any{"hosted": true}, "other": map[string]any{"hosted": true}, "open": map[string]any{"hosted": true, "public": true},
	}
	admin := l.as(l.root)
	path := admin.call(201, "POST", v2+"/registries", fmt.Sprintf(`{"name":"locked","type":"docker-registry","url":%q,"insecure":true,"allow_private":true,"access_key":%q,"access_secret":%q}`,
		l.locked, lockedUser, lockedSecret)).header.Get("Location")
	admin.call(201, "POST", v2+"/projects", `{"project_name":"locked.io","public":true,"registry_id":`+path[strings.LastIndex(path, "/")+1:]+`}`)
	l.administer("project", "create", "kept", "--keep-newest", "7", "--immutable", "**:v*")

	l.pushed = pushKinds(t, l.as(l.robot), "production", 970_000)
	large := recipe{seed: 971_000, layers: 2, layerSize: 20 << 20}.make(t, "1.0", "latest")
	l.pushed["production/team/large"] = large
	if err := l.as(l.robot).push("production/team/large", large); err != nil {
		t.Fatal(err)
	}
	l.cached = recipe{seed: 972_000, platforms: []string{"amd64", "arm64"}, layers: 2}.make(t, "1.0")
	l.upstream.push(t, "team/cached", l.cached)
	if err := l.pull("locked.io/team/cached", "1.0", l.cached); err != nil {
		t.Fatal(err)
	}
	l.token = l.as(l.robot).tokenOf(t, "production/team/large")
	return l
}

// tokenOf asks for a token to pull with, wherever clients are told to ask.
func (n *node) tokenOf(t *testing.T, repo string) string {
	t.Helper()
	var token struct{ Token string }
	decode(t, n.ask(http.MethodGet, "/service/token?service=mirror.example.com&scope=repository:"+repo+":pull").body, &token)
	return token.Token
}

// listed is all that commands say of a node's accounts and rules.
func listed(n *node) (all string) {
	for _, args := range [][]string{
		{"user", "list"}, {"robot", "list"}, {"project", "list"}, {"project", "show", "kept"}, {"project", "show", "production"}, {"project", "member", "list", "production"},
	} {
		all += strings.Join(args, " ") + "\n" + n.administer(args...)
	}
	return all
}

// everyFile is what a directory has, with the times of files, but for the lock.
func everyFile(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() == "lock" || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintln(&all, path, info.ModTime().UnixNano(), digest.FromBytes(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// A node alone becomes two: by a command that is killed in the middle, again and again, and run once
// more. Nothing that it had is lost, and nothing of it is changed.
func TestMigrate(t *testing.T) {
	e2e(t)
	l := startLonely(t)
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	proxy, bucket := s.Proxy(t), s.Bucket(t)
	store := onPostgreSQL(t, database)
	maps.Copy(store, bucketStorage(t, s, proxy.Endpoint, bucket))
	nodes := l.heirs(t, store)

	if out, err := nodes[0].command("migrate", l.dir); err == nil || !strings.Contains(err.Error(), "stop the node that serves it") {
		t.Errorf("while it is served: %v: %s", err, out)
	}
	had := listed(l.node)
	l.terminate(20 * time.Second)
	l.up.Store(false)
	before := everyFile(t, l.dir)

	if out, err := nodes[0].command("migrate", "--dry-run", l.dir); err != nil || !strings.Contains(string(out), "nothing was copied") {
		t.Errorf("a dry run: %v: %s", err, out)
	}
	if log := proxy.Sorted(); strings.Contains(strings.Join(log, " "), "PUT") {
		t.Errorf("a dry run has written: %q", log)
	}
	for _, after := range []int{5, 65} { // in content, and in the links
		l.killed(t, nodes[0], proxy, after)
		if out, err := nodes[1].command("serve"); err == nil || !strings.Contains(err.Error(), "is being moved here") {
			t.Errorf("served in part: %v: %s", err, out)
		}
	}
	proxy.Requests()
	out, err := nodes[0].command("migrate", l.dir)
	if err != nil || !strings.Contains(string(out), "already") || !strings.Contains(string(out), "was not changed") {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
	if again := proxy.Requests(); len(again) > 150 {
		t.Errorf("%d requests were made to go on: %q", len(again), again)
	}
	if after := everyFile(t, l.dir); after != before {
		t.Errorf("the old directory was\n%s\nand is\n%s", before, after)
	}
	if out, err := nodes[0].command("migrate", l.dir); err != nil || !strings.Contains(string(out), "nothing to do") {
		t.Errorf("again: %v: %s", err, out)
	}
	if out, err := nodes[0].command("migrate", t.TempDir()); err == nil || !strings.Contains(err.Error(), "name the data directory") {
		t.Errorf("of an empty directory: %v: %s", err, out)
	}
	if entries, err := filepath.Glob(filepath.Join(nodes[0].dir, "migrate-*")); err != nil || len(entries) > 0 {
		t.Errorf("copies of the catalog are left: %q, %v", entries, err)
	}

	if got := listed(nodes[0]); got != had {
		t.Errorf("the lists were\n%s\nand are\n%s", had, got)
	}
	for _, i := range []int{1, 0} { // the one that did not migrate comes first: the keys are in the catalog
		nodes[i].start()
		l.moved(t, nodes[i])
	}
	if audit := nodes[1].administer("audit", "-n", "1000", "--json"); !strings.Contains(audit, `"locked.io"`) {
		t.Errorf("the audit log has lost how a project was made:\n%s", audit)
	}
	t.Run("what is new", func(t *testing.T) { l.goOn(t, nodes) })
	for _, n := range nodes {
		n.terminate(20 * time.Second)
	}
	stock := startUpstream(t, upstreamConfig{bucket: stockBucket(s, bucket)})
	pullKinds(t, &node{t: t, addr: stock.addr, url: stock.url, http: newHTTPClient(nil)}, l.pushed, "the stock registry")

	store = onPostgreSQL(t, database)
	maps.Copy(store, bucketStorage(t, s, s.Endpoint, bucket))
	if out, err := l.heirs(t, store)[0].command("migrate", l.dir); err == nil || !strings.Contains(err.Error(), "holds content of something else") {
		t.Errorf("into a bucket that is used: %v: %s", err, out)
	}
	store = onPostgreSQL(t, database)
	maps.Copy(store, bucketStorage(t, s, s.Endpoint, s.Bucket(t)))
	t.Run("what is damaged", func(t *testing.T) { l.damaged(t, l.heirs(t, store)[0]) })
}

// heirs are two nodes, not started, that are to have what the lonely one has.
func (l *lonely) heirs(t *testing.T, store map[string]any) (nodes []*node) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(clusterSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		more := map[string]any{"cluster": map[string]any{"listen": freeAddress(t), "secret_file": secret, "name": fmt.Sprintf("node-%d", i)}}
		maps.Copy(more, l.more)
		nodes = append(nodes, newNode(t, nodeConfig{plain: true, storage: store, projects: l.projects, more: more}))
	}
	return nodes
}

// killed runs migrate and kills it when it has put so many objects.
func (l *lonely) killed(t *testing.T, n *node, proxy *s3test.Proxy, after int) {
	t.Helper()
	var puts atomic.Int64
	reached := make(chan struct{})
	proxy.Fail(func(r s3test.Request) s3test.Fault {
		if r.Kind == "PUT" || r.Kind == "PART" {
			if puts.Add(1) == int64(after) {
				close(reached)
			}
			return s3test.Fault{Stall: puts.Load() >= int64(after)}
		}
		return s3test.Fault{}
	})
	defer proxy.Fail(nil)
	p := start(t, n.home, "migrate", roadsteadBinary(t), "migrate", "--config", n.config, l.dir)
	select {
	case <-reached:
	case <-p.done:
		t.Fatalf("it ended before it put %d objects: %v\n%s", after, p.err, tail(p.log, 4<<10))
	case <-time.After(time.Minute):
		t.Fatalf("it did not put %d objects: %s", after, tail(p.log, 4<<10))
	}
	p.kill()
}

// moved looks at a node that has come to what the lonely one had, without upstream.
func (l *lonely) moved(t *testing.T, n *node) {
	t.Helper()
	pullKinds(t, n.as(l.robot), l.pushed, "moved")
	if err := n.pull("locked.io/team/cached", "1.0", l.cached); err != nil {
		t.Error(err)
	}
	for _, a := range []account{l.root, l.robot, l.members["maintainer"]} {
		if got := n.as(a).ask(http.MethodGet, "/v2/"); got.status != http.StatusOK {
			t.Errorf("%s logs in: %v", a.name, got)
		}
	}
	path := manifestPath("production/team/large", "1.0")
	if got := n.ask(http.MethodGet, path, "Authorization: Bearer "+l.token); !got.whole() {
		t.Errorf("with a token of before: %v", got)
	}
	if got := n.ask(http.MethodGet, path); got.status != http.StatusUnauthorized {
		t.Errorf("without one: %v", got)
	}
}

// goOn does on two nodes what the lonely one would have done next.
func (l *lonely) goOn(t *testing.T, nodes []*node) {
	l.up.Store(true)
	cold := recipe{seed: 973_000}.make(t, "1.0")
	l.upstream.push(t, "team/cold", cold)
	eventually(t, 15*time.Second, "a pull that the stored password is for", func() bool { return nodes[1].pull("locked.io/team/cold", "1.0", cold) == nil })
	fresh := recipe{seed: 974_000}.make(t, "1.0")
	if err := nodes[0].as(l.members["maintainer"]).push("production/team/fresh", fresh); err != nil {
		t.Error(err)
	}
	if err := nodes[1].as(l.robot).pull("production/team/fresh", "1.0", fresh); err != nil {
		t.Error(err)
	}
	late := nodes[0].addUser("late")
	nodes[1].knows(late)
}

// damaged moves to a node what has been damaged since. That does not go along: what upstream has comes
// again, and of what was pushed it is said where it has to be pushed.
func (l *lonely) damaged(t *testing.T, n *node) {
	cached, pushed, missing := l.cached.blobOrder[0], l.pushed["production/team/large"].blobOrder[0], l.pushed["production/team/kind-0"].blobOrder[0]
	for _, d := range []digest.Digest{cached, pushed} {
		b, err := os.ReadFile(dataFile(l.dir, d))
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(dataFile(l.dir, d), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(dataFile(l.dir, missing)); err != nil {
		t.Fatal(err)
	}
	out, err := n.command("migrate", l.dir)
	if err == nil || !strings.Contains(err.Error(), "2 pieces of what was pushed are not there") {
		t.Errorf("%v", err)
	}
	for _, d := range []struct {
		digest digest.Digest
		says   []string
	}{
		{cached, []string{"damaged", "from upstream again: locked.io/team/cached"}},
		{pushed, []string{"damaged", "NOBODY ELSE HAS IT", "production/team/large"}},
		{missing, []string{"missing", "NOBODY ELSE HAS IT", "production/team/kind-0"}},
	} {
		found := false
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, string(d.digest)) {
				continue
			}
			found = true
			for _, word := range d.says {
				if !strings.Contains(line, word) {
					t.Errorf("%q does not say %q", line, word)
				}
			}
		}
		if !found {
			t.Errorf("nothing is said of %s:\n%s", d.digest, out)
		}
	}
	n.start()
	if err := n.pull("locked.io/team/cached", "1.0", l.cached); err != nil {
		t.Errorf("what upstream has: %v", err)
	}
	robot := n.as(l.robot)
	if a := robot.ask(http.MethodGet, blobPath("production/team/large", pushed)); a.whole() {
		t.Errorf("what is damaged is served: %v", a)
	}
	for repo, d := range map[string]digest.Digest{"production/team/large": pushed, "production/team/kind-0": missing} {
		if err := robot.pushBlob(repo, d, l.pushed[repo].blobs[d]); err != nil {
			t.Errorf("pushed again: %v", err)
		}
	}
	pullKinds(t, robot, l.pushed, "mended")
}
