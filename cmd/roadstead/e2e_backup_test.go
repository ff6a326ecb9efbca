package main_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// backUp makes a backup of a node and returns its folder.
func backUp(t *testing.T, n *node, dir string, args ...string) string {
	t.Helper()
	out, err := n.command("backup", append([]string{dir}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// sameFile reports whether two names are one file.
func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	one, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(one, other)
}

// What a node has is backed up while people push, delete and pull; the directory is lost; what is restored
// is the same registry. A backup is whole or it is not there.
func TestBackup(t *testing.T) {
	e2e(t)
	l := startLonely(t)
	dir := filepath.Join(t.TempDir(), "backups")
	robot := l.as(l.robot)

	// Images come and go meanwhile. Each that is in the backup is there with all it is made of.
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop()
	acknowledged := make(chan int, 10_000)
	busy.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			img := recipe{seed: 975_000 + uint64(i)*10, layers: 1, layerSize: 1000}.make(t, "1.0")
			repo := fmt.Sprintf("production/busy/%d", i)
			if err := robot.push(repo, img); err != nil {
				t.Error(err)
				return
			}
			acknowledged <- i
			if i%3 == 0 { // its manifest goes at once
				if a := l.as(l.root).ask(http.MethodDelete, manifestPath(repo, string(img.top().digest))); a.status != http.StatusAccepted {
					t.Errorf("delete: %v", a)
				}
			}
		}
	})
	for range 3 {
		<-acknowledged
	}
	certain := <-acknowledged
	first := backUp(t, l.node, dir)
	stop()
	busy.Wait()
	if info, err := os.Stat(first); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the backup is for %v, %v", info.Mode(), err)
	}
	// What was pushed after the backup is in no list of it.
	sizes := regexp.MustCompile(`[\d.]+ ([KM]iB|B)\b|used .*| +`)
	had := sizes.ReplaceAllString(listed(l.node), " ")
	l.terminate(20 * time.Second)
	l.up.Store(false)

	// Without a server, and with what proxies have: what did not change is not copied again.
	second := backUp(t, l.node, dir, "--content", "all")
	large := l.pushed["production/team/large"].blobOrder[0]
	if !sameFile(t, dataFile(filepath.Join(first, "data"), large), dataFile(filepath.Join(second, "data"), large)) {
		t.Error("what the first backup has was copied for the second")
	}
	if sameFile(t, dataFile(l.dir, large), dataFile(filepath.Join(first, "data"), large)) {
		t.Error("the backup has the node's own file")
	}
	for _, b := range []string{first, second} {
		scrub(t, filepath.Join(b, "data"))
		if out, err := l.command("backup", "--verify", b); err != nil || !strings.Contains(string(out), "is whole") {
			t.Errorf("%v: %s", err, out)
		}
		run(t, environment(b), "sh", "-c", `cd "$0" && sha256sum --check --quiet --strict SHA256SUMS`, b)
	}
	if err := filepath.WalkDir(first, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.Contains(path, "/repositories/locked.io/") {
			t.Errorf("what is cached is in it: %s", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}

	restore := func(from string) {
		t.Helper()
		if err := os.RemoveAll(l.dir); err != nil {
			t.Fatal(err)
		}
		run(t, environment(dir), "cp", "-a", filepath.Join(from, "data"), l.dir)
		l.start()
	}
	restore(first)
	if got := sizes.ReplaceAllString(listed(l.node), " "); got != had {
		t.Errorf("the lists were\n%s\nand are\n%s", had, got)
	}
	if status := l.ask(http.MethodGet, manifestPath("locked.io/team/cached", "1.0")).status; status == http.StatusNotFound || status == http.StatusOK {
		t.Errorf("what is cached and not in the backup, without upstream: %d", status)
	}
	l.up.Store(true)
	l.moved(t, l.node) // which pulls what was cached: from upstream again
	found := map[int]bool{}
	for i := 0; i <= certain+3; i++ {
		a := l.as(l.robot).ask(http.MethodGet, manifestPath(fmt.Sprintf("production/busy/%d", i), "1.0"))
		if found[i] = a.whole(); !found[i] {
			continue
		}
		if err := l.as(l.robot).pull(fmt.Sprintf("production/busy/%d", i), "1.0", recipe{seed: 975_000 + uint64(i)*10, layers: 1, layerSize: 1000}.make(t, "1.0")); err != nil {
			t.Errorf("an image is there in part: %v", err)
		}
	}
	if !found[1] || !found[2] { // pushed before, and not deleted
		t.Errorf("what was pushed before the backup is not in it: %v", found)
	}
	l.terminate(20 * time.Second)
	l.up.Store(false)
	restore(second)
	l.moved(t, l.node) // with what was cached, from the backup
	l.terminate(20 * time.Second)
	stock := startUpstream(t, upstreamConfig{dir: filepath.Join(first, "data")})
	pullKinds(t, &node{t: t, addr: stock.addr, url: stock.url, http: newHTTPClient(nil)}, l.pushed, "the stock registry, on the backup")
	stock.stop(t)

	t.Run("what is damaged", func(t *testing.T) { l.backsUpDamage(t, dir, second) })
	t.Run("old ones go", func(t *testing.T) {
		third := backUp(t, l.node, dir, "--content", "none", "--keep", "2")
		left, _ := filepath.Glob(filepath.Join(dir, "*"))
		if len(left) != 2 || !slices.Contains(left, third) {
			t.Errorf("left are %q", left)
		}
		if _, err := os.Stat(filepath.Join(third, "data", "docker")); err == nil {
			t.Error("content is in a backup without")
		}
	})
	t.Run("links", l.backsUpBesideLinks)
	t.Run("a full disk", func(t *testing.T) {
		small := smallDisk(t, "size=8m,mode=0700")
		if out, err := l.command("backup", small); err == nil || !strings.Contains(err.Error(), "make room in") {
			t.Errorf("%v: %s", err, out)
		}
		if left, err := os.ReadDir(small); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	})
}

// backsUpDamage backs up what is damaged in the storage, and finds what is in a backup.
func (l *lonely) backsUpDamage(t *testing.T, dir, backup string) {
	flip := func(path string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, other := l.pushed["production/team/large"].blobOrder[0], l.pushed["production/team/kind-0"].blobOrder[0]
	flip(dataFile(l.dir, one))
	if err := os.Remove(dataFile(l.dir, other)); err != nil {
		t.Fatal(err)
	}
	out, err := l.command("backup", filepath.Join(t.TempDir(), "elsewhere"))
	if err == nil || !strings.Contains(err.Error(), "2 pieces of content that were pushed are damaged") {
		t.Errorf("%v: %s", err, out)
	}
	for _, d := range []string{string(one), string(other)} {
		if !strings.Contains(string(out), d) {
			t.Errorf("%s is not told of:\n%s", d, out)
		}
	}
	flip(dataFile(filepath.Join(backup, "data"), one))
	if err := os.WriteFile(filepath.Join(backup, "data", "keys", "more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = l.command("backup", "--verify", backup)
	if err == nil || !strings.Contains(err.Error(), "2 files of") || !strings.Contains(string(out), one.Encoded()+"/data: damaged") || !strings.Contains(string(out), "keys/more") {
		t.Errorf("a damaged backup: %v: %s", err, out)
	}
}

// backsUpBesideLinks has root back up where somebody else could lead it elsewhere, and what leads elsewhere.
func (l *lonely) backsUpBesideLinks(t *testing.T) {
	needRoot(t)
	theirs := t.TempDir()
	if err := os.Chown(theirs, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if out, err := l.command("backup", filepath.Join(theirs, "backups")); err == nil || !strings.Contains(err.Error(), "others than root can change "+theirs) {
		t.Errorf("into somebody else's folder: %v: %s", err, out)
	}
	keys, secret := filepath.Join(l.dir, "keys"), filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(keys, secret); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, keys); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Remove(keys); err != nil {
			t.Error(err)
		}
		if err := os.Rename(secret, keys); err != nil {
			t.Error(err)
		}
	}()
	if out, err := l.command("backup", t.TempDir()); err == nil || !strings.Contains(err.Error(), "back up the keys") {
		t.Errorf("keys that are elsewhere: %v: %s", err, out)
	}
	// Nor does root give away what such a link leads to.
	if err := os.Chown(l.dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if out, err := l.command("project", "list"); err == nil {
		t.Logf("%s", out)
	}
	entries, err := os.ReadDir(secret)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || ownerOf(info) != 0 {
			t.Errorf("%s is %d's now, %v", entry.Name(), ownerOf(info), err)
		}
	}
}

// A catalog in PostgreSQL, and one of an older program, are not backed up, and it is said what to do.
func TestBackupRefuses(t *testing.T) {
	e2e(t)
	n := newNode(t, nodeConfig{plain: true, storage: map[string]any{"catalog": "postgres://roadstead@127.0.0.1:1/roadstead"}})
	out, err := n.command("backup", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), `pg_dump --format=custom --file=roadstead.dump "postgres://roadstead@127.0.0.1:1/roadstead"`) {
		t.Errorf("%v: %s", err, out)
	}
	n = newNode(t, nodeConfig{plain: true})
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{t.TempDir()}, "nothing to back up"},
		{[]string{t.TempDir(), "--keep=-1"}, "write how many"},
		{[]string{"--verify", t.TempDir()}, "there is no backup.json in it"},
		{[]string{"--verify", filepath.Join(t.TempDir(), "none")}, "no such file"},
	} {
		if out, err := n.command("backup", tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("backup %q: %v: %s", tt.args, err, out)
		}
	}
}

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }
