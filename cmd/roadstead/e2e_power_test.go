package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// powerCuts is how many the test makes on each file system. ROADSTEAD_POWER_CUTS asks for more.
func powerCuts(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("ROADSTEAD_POWER_CUTS"))
	if err != nil {
		return 8
	}
	return n
}

// The power goes at any moment of pushes, deletions and collections, and takes with it what the
// file system has not brought to its device: of the content, of the layout, and of the catalog,
// which is there too. All that was acknowledged is whole afterwards (promise 5, FAULTS P2, S8).
func TestPowerLossOfANode(t *testing.T) {
	e2e(t)
	needRoot(t)
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cuts := powerCuts(t)
			shutdown := need(t, "xfs_io")
			dir := loopDisk(t, kind)
			w := startWharf(t, nodeConfig{plain: true, dir: filepath.Join(dir.at, "data"), more: collecting("15s", "300ms")})
			w.kill()
			n := w.as(w.robot)
			all := newAcked()
			for cut := range cuts {
				all.round = fmt.Sprint("cut ", cut)
				w.start()
				if cut%8 == 0 {
					all.check(t, n)
				}
				var workers sync.WaitGroup
				for i := range 4 {
					workers.Go(func() {
						all.work(t, n, "production", uint64(100*cut+i+1), recipe{seed: 390000, layers: 1, layerSize: 16 << 10})
					})
				}
				all.await(rand.IntN(8))
				time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
				out, err := exec.Command(shutdown, "-x", "-c", "shutdown", dir.at).CombinedOutput()
				w.kill()
				workers.Wait()
				if err != nil {
					t.Fatalf("shutdown: %v\n%s", err, out)
				}
				dir.unmount(t)
				dir.mount(t)
				scrub(t, w.dir)
				if t.Failed() {
					t.Fatalf("cut %d", cut)
				}
			}
			w.start()
			all.check(t, n)
			w.terminate(10 * time.Second)
			t.Logf("%d objects were acknowledged between %d cuts; %d images are there", all.objects, cuts, len(all.there))
			if all.pushed < 2*cuts {
				t.Error("next to nothing was pushed: the test shows nothing")
			}
		})
	}
}

// A disk is a file system in a file.
type disk struct {
	kind, image, at string
	mounted         bool
}

func loopDisk(t *testing.T, kind string) *disk {
	t.Helper()
	d := &disk{kind: kind, image: filepath.Join(t.TempDir(), "image"), at: shortDir(t)}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 1<<30); err != nil {
		t.Fatal(err)
	}
	args := []string{"-q", d.image}
	if kind == "ext4" {
		// Everything that is initialised later would write behind the test's back.
		args = []string{"-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", d.image}
	}
	if out, err := exec.Command(need(t, "mkfs."+kind), args...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s: %v\n%s", kind, err, out)
	}
	t.Cleanup(func() { d.unmount(t) })
	d.mount(t)
	return d
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("mount", "-t", d.kind, "-o", "loop", d.image, d.at).CombinedOutput(); err != nil {
		lack(t, "mount a loop device: %v\n%s", err, out)
	}
	d.mounted = true
}

// unmount waits for whoever is just starting a program: until its exec that has our files open. A
// container has a copy of all mounts until it has its own root; mounted again before that, this
// would be the same file system once more, shut down as it was.
func (d *disk) unmount(t *testing.T) {
	t.Helper()
	if !d.mounted {
		return
	}
	eventually(t, 10*time.Second, "a file system that nobody uses", func() bool { return unix.Unmount(d.at, 0) == nil })
	d.mounted = false
	eventually(t, time.Minute, "a loop device without the image", func() bool {
		files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		return !slices.ContainsFunc(files, func(file string) bool {
			image, err := os.ReadFile(file)
			return err == nil && strings.TrimSpace(string(image)) == d.image
		})
	})
}
