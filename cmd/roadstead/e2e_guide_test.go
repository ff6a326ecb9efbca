package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
	"roadstead/storage/processtest"
	"roadstead/storage/s3test"
)

// guideSections are the blocks of shell commands of the operations guide, by the title of their section.
func guideSections(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(), "deploy", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string][]string{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, rest, _ := strings.Cut(section, "\n")
		for _, block := range regexp.MustCompile("(?sm)^```sh\n(.*?)^```").FindAllStringSubmatch(rest, -1) {
			sections[title] = append(sections[title], block[1])
		}
	}
	return sections
}

// elsewhere are commands that another test runs, with what its package has to say for that.
var elsewhere = []struct{ command, test, word string }{
	{"roadstead config import-harbor", "TestMovesFromHarbor", `"config", "import-harbor", "--url"`},
	{"sh harbor-commands.sh", "TestMovesFromHarbor", `"sh", script, "--config"`},
}

// A guide is a machine on which somebody does what the guide says, below a folder instead of "/".
type guide struct {
	*node
	t      *testing.T
	root   string
	work   string   // where its commands run
	blocks []string // of the section, but for those that were run
	swaps  []string // what is written there, and what is meant here
	env    []string

	mu     sync.Mutex // guards what follows
	server *exec.Cmd
	ended  chan struct{}
}

// newGuide is a machine with Roadstead installed and not configured, nor started. What stands for something
// else in its commands is all in here: folders, the user and group of the server, and addresses. systemctl
// starts and stops the server, as the unit does.
func newGuide(t *testing.T) *guide {
	t.Helper()
	root := shortDir(t)
	g := &guide{t: t, root: root, work: filepath.Join(root, "work")}
	g.node = &node{t: t, home: root, dir: g.path("/var/lib/roadstead"), addr: freeAddress(t), http: newHTTPClient(nil), config: g.path("/etc/roadstead/roadstead.yaml")}
	g.url, g.admin = "http://"+g.addr, "http://"+freeAddress(t)
	for _, dir := range []string{"/var/lib", "/var/backups", "/etc/roadstead/tls", "/usr/bin", "/root", "/mnt/elsewhere", "/srv", "/data", "/shims", "/work"} {
		if err := os.MkdirAll(g.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"/var/lib/roadstead", "/var/backups/", "/etc/roadstead", "/etc/systemd", "/usr/bin/roadstead", "/root/", "/mnt/elsewhere/", "/srv/registry", "/data/registry"} {
		g.swaps = append(g.swaps, dir, g.root+dir)
	}
	me := fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
	g.swaps = append(g.swaps, "roadstead:roadstead", me, "root:roadstead", me, "http://127.0.0.1:5001", g.admin)
	g.install("/usr/bin/roadstead")
	supervisor := httptest.NewServer(http.HandlerFunc(g.supervise))
	t.Cleanup(func() {
		g.stop()
		supervisor.Close()
		if t.Failed() {
			t.Logf("the end of what the server said:\n%s", tail(g.path("/log"), 4<<10))
		}
	})
	shim := fmt.Sprintf("#!/bin/sh\nexec curl --no-progress-meter --fail-with-body --max-time 60 --request POST %s/$(echo \"$*\" | tr ' ' /)\n", supervisor.URL)
	if err := os.WriteFile(g.path("/shims/systemctl"), []byte(shim), 0o700); err != nil {
		t.Fatal(err)
	}
	g.env = environment(g.work, "ROADSTEAD_CONFIG="+g.config)
	g.env[0] = "PATH=" + g.path("/usr/bin") + ":" + g.path("/shims") + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin"
	for _, tool := range []string{"curl", "openssl", "tar", "bash"} {
		need(t, tool)
	}
	return g
}

func (g *guide) path(name string) string { return filepath.Join(g.root, name) }

// install puts the program somewhere.
func (g *guide) install(name string) {
	g.t.Helper()
	b, err := os.ReadFile(roadsteadCommand(g.t))
	if err == nil {
		err = os.WriteFile(g.path(name), b, 0o755)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// configure writes the configuration.
func (g *guide) configure(storage, more map[string]any) {
	g.t.Helper()
	if err := os.WriteFile(g.path("/etc/roadstead/admin"), []byte("Pass-of-admin-1f8c\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	config := map[string]any{
		"listen": g.addr, "admin": strings.TrimPrefix(g.admin, "http://"), "builtin_projects": false, "default_project": "",
		"admin_password_file": g.path("/etc/roadstead/admin"), "storage": storage,
		"projects": map[string]any{"production": map[string]any{"hosted": true}},
	}
	for key, value := range more {
		config[key] = value
	}
	writeJSON(g.t, g.config, config)
}

// supervise is what systemctl is in the commands.
func (g *guide) supervise(w http.ResponseWriter, r *http.Request) {
	var err error
	switch r.URL.Path {
	case "/start/roadstead":
		err = g.begin()
	case "/stop/roadstead.socket/roadstead": // the server alone would be started by who connects
		g.stop()
	case "/restart/roadstead":
		g.stop()
		err = g.begin()
	case "/daemon-reload":
	default:
		err = fmt.Errorf("nobody knows systemctl %s", r.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (g *guide) begin() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server != nil {
		return fmt.Errorf("it runs already")
	}
	log, err := os.OpenFile(g.path("/log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(g.path("/usr/bin/roadstead"), "serve")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = g.root, g.env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := processtest.Start(cmd); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	for range 600 {
		select {
		case <-ended:
			return fmt.Errorf("it has ended: %s", tail(g.path("/log"), 1<<10))
		case <-time.After(100 * time.Millisecond):
		}
		if res, err := http.Get(g.admin + "/readyz"); err == nil {
			res.Body.Close()
			g.server, g.ended = cmd, ended
			return nil
		}
	}
	_ = cmd.Process.Kill()
	return fmt.Errorf("it does not answer")
}

func (g *guide) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server == nil {
		return
	}
	_ = g.server.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.ended:
	case <-time.After(20 * time.Second):
		_ = g.server.Process.Kill()
		<-g.ended
	}
	g.server = nil
}

func (g *guide) started() {
	g.t.Helper()
	if err := g.begin(); err != nil {
		g.t.Fatal(err)
	}
}

// next runs the next block of the section, which begins as is said, and returns what it printed.
func (g *guide) next(begin string) string {
	g.t.Helper()
	out, err := g.try(begin)
	if err != nil {
		g.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (g *guide) try(begin string) (string, error) {
	g.t.Helper()
	if len(g.blocks) == 0 || !strings.HasPrefix(g.blocks[0], begin) {
		g.t.Fatalf("the next block is not that of %q: %q", begin, g.blocks)
	}
	block := g.blocks[0]
	g.blocks = g.blocks[1:]
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", strings.NewReplacer(g.swaps...).Replace(block))
	cmd.Dir, cmd.Env = g.work, g.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return out.String(), err
}

// section begins a section of the guide.
func (g *guide) section(all map[string][]string, title string) {
	g.t.Helper()
	if len(g.blocks) > 0 {
		g.t.Fatalf("nobody has run %q", g.blocks)
	}
	g.blocks = slices.Clone(all[title])
	delete(all, title)
}

// done says that all blocks were run.
func (g *guide) done() {
	g.t.Helper()
	if len(g.blocks) > 0 {
		g.t.Errorf("nobody has run %q", g.blocks)
	}
}

// has says whether an image is there for somebody.
func (g *guide) has(who account, repo string, img *image) {
	g.t.Helper()
	if err := g.as(who).pull(repo, "1.0", img); err != nil {
		g.t.Error(err)
	}
}

func (g *guide) pushes(who account, repo string, seed uint64) *image {
	g.t.Helper()
	img := recipe{seed: seed, layerSize: 10_000}.make(g.t, "1.0")
	if err := g.as(who).push(repo, img); err != nil {
		g.t.Fatal(err)
	}
	return img
}

// Each block of shell commands in the operations guide does what is said of it, one after the other.
func TestTheGuide(t *testing.T) {
	e2e(t)
	all := guideSections(t)
	t.Run("one node", func(t *testing.T) { guideToOneNode(t, all) })
	t.Run("a cluster", func(t *testing.T) { guideToACluster(t, all) })
	t.Run("registry:2", func(t *testing.T) { guideFromRegistry(t, all) })
	t.Run("Harbor", func(t *testing.T) { guideFromHarbor(t, all) })
	for title, blocks := range all {
		t.Errorf("nobody runs what %q says: %q", title, blocks)
	}
}

func guideToOneNode(t *testing.T, all map[string][]string) {
	g := newGuide(t)
	need(t, "sqlite3")
	storage := map[string]any{"directory": g.dir, "floor": "1MiB"}
	g.configure(storage, nil)
	g.started()
	admin := account{"admin", "Pass-of-admin-1f8c"}
	robot := g.addRobot("production", "ci", "push")
	alice := g.addMember("production", "alice", "guest")
	eventually(t, 10*time.Second, "a robot that the node knows", func() bool { return g.as(robot).ask(http.MethodGet, "/v2/").status == http.StatusOK })
	one := g.pushes(robot, "production/one", 980_000)

	g.section(all, "Backup")
	if out := g.next("roadstead backup"); !strings.Contains(out, "pieces of content (") {
		t.Errorf("a backup says %s", out)
	}
	if out := g.next("last="); !strings.Contains(out, "is whole") {
		t.Errorf("verifying says %s", out)
	}
	g.next("last=")
	if b, err := os.ReadFile(g.path("/mnt/elsewhere/roadstead.tar.enc")); err != nil || !bytes.HasPrefix(b, []byte("Salted__")) {
		t.Errorf("what leaves the machine begins with %.20q, %v", b, err)
	}

	g.section(all, "Restore")
	two := g.pushes(robot, "production/two", 980_100)
	g.next("last=")
	g.has(robot, "production/one", one)
	g.has(alice, "production/one", one)
	if a := g.as(robot).ask(http.MethodGet, manifestPath("production/two", "1.0")); a.status != http.StatusNotFound {
		t.Errorf("what was pushed since: %v", a)
	}

	g.section(all, "Upgrade")
	g.install("/work/roadstead")
	g.next("roadstead backup")
	g.has(robot, "production/one", one)

	g.section(all, "Downgrade")
	if err := g.as(robot).push("production/two", two); err != nil {
		t.Fatal(err)
	}
	g.stop()
	newer := func(file string) {
		t.Helper()
		run(t, g.env, need(t, "sqlite3"), file, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000000, 1)")
	}
	newer(filepath.Join(g.dir, "catalog.db"))
	if err := g.begin(); err == nil || !strings.Contains(err.Error(), "its schema is version 1000000") {
		t.Errorf("an older program on a newer catalog: %v", err)
	}
	g.install("/work/roadstead-older")
	if out := g.next("last="); !strings.Contains(out, "adopted 2 repositories") {
		t.Errorf("adopt says %s", out)
	}
	g.has(robot, "production/one", one)
	g.has(robot, "production/two", two)

	g.section(all, "Changing keys and passwords")
	g.next("roadstead robot renew")
	renewed := account{robot.name, secretIn(t, g.path("/work/ci.secret"))}
	eventually(t, 10*time.Second, "the old secret being void", func() bool { return g.as(robot).ask(http.MethodGet, "/v2/").status == http.StatusUnauthorized })
	g.has(renewed, "production/one", one)
	changed := account{"alice", secretIn(t, g.path("/work/alice.password"))}
	eventually(t, 10*time.Second, "the new password being good", func() bool { return g.as(changed).ask(http.MethodGet, "/v2/").status == http.StatusOK })
	g.has(changed, "production/one", one)
	first := newCertificate(t, g.path("/work"))
	certificate, key := g.path("/etc/roadstead/tls/tls.crt"), g.path("/etc/roadstead/tls/tls.key")
	for to, from := range map[string]string{certificate: first.file, key: first.key} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	g.stop()
	g.configure(storage, map[string]any{"tls": map[string]any{"certificate": certificate, "key": key}})
	g.started()
	shown := func() string {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", g.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if name := shown(); name == "mirror.example.com" {
		t.Fatalf("the first certificate is of %s", name)
	}
	g.next("openssl req")
	eventually(t, 30*time.Second, "the new certificate being shown", func() bool { return shown() == "mirror.example.com" })
	g.stop()
	g.configure(storage, nil)
	g.started()
	token := g.as(renewed).tokenOf(t, "production/one")
	pull := func() int {
		return g.as(account{}).ask(http.MethodGet, manifestPath("production/one", "1.0"), "Authorization: Bearer "+token).status
	}
	if status := pull(); status != http.StatusOK {
		t.Fatalf("with a token: %d", status)
	}
	g.next("systemctl stop")
	if status := pull(); status != http.StatusUnauthorized {
		t.Errorf("with a token of the key that is gone: %d", status)
	}
	g.has(renewed, "production/one", one)

	g.section(all, "When something is lost")
	for _, name := range []string{"catalog.db", "catalog.db-wal"} {
		if err := os.WriteFile(filepath.Join(g.dir, name), bytes.Repeat([]byte("lost"), 10_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.next("last=")
	g.has(robot, "production/one", one) // whose secret is that of the backup
	g.has(robot, "production/two", two)
	damaged := dataFile(g.dir, one.blobOrder[0])
	if err := os.WriteFile(damaged, bytes.Repeat([]byte{0}, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := g.next("roadstead scrub"); !strings.Contains(out, "in quarantine now") || !strings.Contains(out, "push that again") {
		t.Errorf("scrub says %s", out)
	}
	if err := g.as(robot).push("production/one", one); err != nil {
		t.Error(err)
	}
	g.has(robot, "production/one", one)

	g.section(all, "Watching it")
	if out := g.next("curl"); !strings.Contains(out, `roadstead_part_up{part="storage"} 1`) {
		t.Errorf("metrics are %s", out)
	}
	g.done()
	if a := g.as(admin).ask(http.MethodGet, "/v2/"); a.status != http.StatusOK {
		t.Errorf("admin logs in: %v", a)
	}
}

// secretIn is the secret that a command has written into a file.
func secretIn(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := secretLine.FindAllStringSubmatch(strings.TrimSpace(string(b)), -1)
	if found == nil {
		t.Fatalf("%s has no secret: %q", file, b)
	}
	return found[len(found)-1][1]
}

func guideToACluster(t *testing.T, all map[string][]string) {
	defer func() {
		if t.Skipped() { // which CI takes for a failure
			delete(all, "Backup of a cluster")
		}
	}()
	g := newGuide(t)
	database, s := postgrestest.New(t), s3test.MinIO(t)
	bucket := s.Bucket(t)
	storage := onPostgreSQL(t, database)
	for key, value := range bucketStorage(t, s, s.Endpoint, bucket) {
		storage[key] = value
	}
	storage["directory"] = g.dir
	g.configure(storage, map[string]any{"cluster": map[string]any{"listen": freeAddress(t), "secret": clusterSecret, "name": "one"}})
	place := storage["catalog"].(string)
	g.swaps = append(g.swaps, "postgres://roadstead@db.example:5432/roadstead", place, "https://s3.example.com/images?", s.Endpoint+"/"+bucket+"?")
	g.env = append(g.env, "PGPASSWORD="+postgrestest.Password, "ACCESS_KEY="+s.AccessKey, "SECRET_KEY="+s.SecretKey)
	g.started()
	robot := g.addRobot("production", "ci", "push")
	eventually(t, 30*time.Second, "a robot that the node knows", func() bool { return g.as(robot).ask(http.MethodGet, "/v2/").status == http.StatusOK })
	one := g.pushes(robot, "production/one", 981_000)

	g.section(all, "Backup of a cluster")
	g.next("pg_dump")
	g.next("body=")
	if is, err := s.Client(t).GetBucketVersioning(t.Context(), bucket); err != nil || !is.Enabled() {
		t.Errorf("versions: %+v, %v", is, err)
	}
	two := g.pushes(robot, "production/two", 981_100)
	g.addRobot("production", "late", "push")
	g.stop()
	run(t, g.env, need(t, "psql"), "--quiet", "--command", "DROP SCHEMA public CASCADE; CREATE SCHEMA public", place)
	if out := g.next("pg_restore"); !strings.Contains(out, "adopted 2 repositories") {
		t.Errorf("adopt says %s", out)
	}
	g.done()
	g.started()
	g.has(robot, "production/one", one)
	g.has(robot, "production/two", two)
	if robots := g.administer("robot", "list"); strings.Contains(robots, "late") {
		t.Errorf("a robot of after the dump:\n%s", robots)
	}
}

// mayWrite says whether the unit was told of a folder.
func (g *guide) mayWrite(dir string) {
	g.t.Helper()
	b, err := os.ReadFile(g.path("/etc/systemd/system/roadstead.service.d/content.conf"))
	if want := "[Service]\nReadWritePaths=" + g.path(dir) + "\n"; err != nil || string(b) != want {
		g.t.Errorf("the unit is told %q, want %q, %v", b, want, err)
	}
}

// stocked is a folder of a stock registry that has two images.
func (g *guide) stocked(dir string, repos ...string) map[string]*image {
	g.t.Helper()
	u := startUpstream(g.t, upstreamConfig{dir: g.path(dir)})
	stock := &node{t: g.t, addr: u.addr, url: u.url, http: newHTTPClient(nil)}
	images := map[string]*image{}
	for i, repo := range repos {
		images[repo] = recipe{seed: 982_000 + uint64(i)*100, layerSize: 10_000}.make(g.t, "1.0")
		if err := stock.push(repo, images[repo]); err != nil {
			g.t.Fatal(err)
		}
	}
	u.stop(g.t)
	return images
}

func guideFromRegistry(t *testing.T, all map[string][]string) {
	g := newGuide(t)
	g.dir = g.path("/srv/registry")
	images := g.stocked("/srv/registry", "team/app", "alone")
	g.configure(map[string]any{"directory": g.dir, "floor": "1MiB"}, map[string]any{"projects": map[string]any{}})
	g.section(all, "From registry:2")
	out := g.next("chown")
	for _, want := range []string{"adopted 1 repositories", "alone: it is not below a project", "project team (1 repositories)"} {
		if !strings.Contains(out, want) {
			t.Errorf("adopt does not say %q: %s", want, out)
		}
	}
	g.next("mkdir")
	g.mayWrite("/srv/registry")
	g.next("systemctl start")
	g.done()
	eventually(t, 10*time.Second, "a project that is public", func() bool { return g.as(account{}).pull("team/app", "1.0", images["team/app"]) == nil })
	for name, file := range map[string]string{"robot$team+ci": "ci.secret", "alice": "alice.password"} {
		who := account{name, secretIn(t, g.path("/work/"+file))}
		eventually(t, 10*time.Second, name+" being known", func() bool { return g.as(who).ask(http.MethodGet, "/v2/").status == http.StatusOK })
		g.pushes(who, "team/of-"+strings.TrimPrefix(name, "robot$team+"), 982_500)
	}
}

func guideFromHarbor(t *testing.T, all map[string][]string) {
	g := newGuide(t)
	g.dir = g.path("/data/registry")
	images := g.stocked("/data/registry", "production/web", "docker.io/library/busybox")
	g.configure(map[string]any{"directory": g.dir, "floor": "1MiB"}, map[string]any{"projects": map[string]any{
		"production": map[string]any{"hosted": true, "public": true}, "docker.io": project("http://127.0.0.1:1", map[string]any{"hub": true, "insecure": true, "username": "somebody", "password_file": "secrets/docker-hub", "public": true}),
	}})
	if err := os.Rename(g.config, g.path("/work/roadstead.yaml")); err != nil { // as import-harbor leaves it
		t.Fatal(err)
	}
	if err := os.Mkdir(g.path("/work/secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.path("/work/secrets/docker-hub"), []byte("a password\n"), 0o600); err != nil { // as is told in step 2
		t.Fatal(err)
	}
	g.section(all, "From Harbor")
	g.blocks = slices.DeleteFunc(g.blocks, func(block string) bool { return runElsewhere(t, block) })
	g.next("cp -a")
	if out := g.next("chown"); !strings.Contains(out, "adopted 2 repositories") || !strings.Contains(out, "production") {
		t.Errorf("it says %s", out)
	}
	g.done()
	g.mayWrite("/data/registry")
	for repo, img := range images { // upstream is away
		g.has(account{}, repo, img)
	}
	if _, err := os.Stat(g.path("/data/registry.before/docker/registry/v2")); err != nil {
		t.Error(err)
	}
}

// runElsewhere reports whether another test runs a block, and looks whether it is there.
func runElsewhere(t *testing.T, block string) bool {
	t.Helper()
	for _, e := range elsewhere {
		if !strings.Contains(block, e.command) {
			continue
		}
		files, err := filepath.Glob(filepath.Join(moduleRoot(), "cmd", "roadstead", "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		test, word := false, false
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(file) != "e2e_guide_test.go" {
				test = test || bytes.Contains(b, []byte("\nfunc "+e.test+"("))
				word = word || bytes.Contains(b, []byte(e.word))
			}
		}
		if !test || !word {
			t.Errorf("%q is run by %s with %s, it is said, and there is none", e.command, e.test, e.word)
		}
		return true
	}
	return false
}
