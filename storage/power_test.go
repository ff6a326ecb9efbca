package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// A file system that is shut down forgets what it has not brought to its device, which is what
// a power cut does to a machine. Killing a process alone shows nothing: the page cache survives.

var journaled = []string{"ext4", "xfs"}

// TestPowerLoss cuts the power under a writer at any moment (FAULTS P2, S8).
// ROADSTEAD_POWER_CUTS asks for more cuts.
func TestPowerLoss(t *testing.T) {
	need(t, "xfs_io")
	cuts := 40
	if raceBuild {
		cuts = 5
	}
	cuts = rounds(t, "ROADSTEAD_POWER_CUTS", cuts)
	for _, kind := range journaled {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const perDevice = 10
			promises, acknowledged, resumed := 0, 0, 0
			for done := 0; done < cuts; {
				dev := mountImage(t, kind, filepath.Join(t.TempDir(), "image"), 512<<20)
				l := ledger{}
				for range min(perDevice, cuts-done) {
					text := cutUnder(t, dev, job{Root: dev.root(), Seed: uint64(done)})
					done++
					if len(text) == 0 {
						t.Fatal("the writer said nothing")
					}
					if i := strings.Index(text, "has the note"); i >= 0 { // as opposed to what a lost disk says
						t.Errorf("the writer says that it %s", text[i:])
					}
					l.read(text)
					acknowledged += strings.Count(text, "done\t")
					resumed += strings.Count(text, "resumed\n")
					have := mustLook(t, dev.root())
					broken, n := l.broken(have)
					promises += n
					for _, b := range append(broken, have.wrong...) {
						t.Error(b)
					}
					if t.Failed() {
						t.Fatalf("in round %d", done)
					}
				}
				dev.unmount(t)
			}
			t.Logf("%d cuts, %d acknowledged, %d promises kept, %d uploads gone on with", cuts, acknowledged, promises, resumed)
			if promises < cuts {
				t.Errorf("%d promises in %d cuts prove nothing", promises, cuts)
			}
		})
	}
}

// cutUnder runs a writer, takes the power away at some moment, and has the machine start again.
func cutUnder(t *testing.T, dev *device, j job) string {
	t.Helper()
	c := start(t, j)
	// A number of promises and not a time, so that a slow machine proves as much.
	want, late := int64(50+rand.IntN(120)), time.Now().Add(5*time.Second)
	for c.said.n.Load() < want && time.Now().Before(late) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	out, err := exec.Command("xfs_io", "-x", "-c", "shutdown", dev.at).CombinedOutput()
	text := c.kill(t)
	if err != nil {
		t.Fatalf("shutdown: %v\n%s", err, out)
	}
	dev.unmount(t)
	dev.mount(t)
	return text
}

// TestPowerLossIsNoticed proves the tests beside it: a writer that leaves out some of the syncs
// has lost what it promised, or shows what is not whole, on both file systems. A cut between two
// calls of its choice meets the moment between a promise and the next write to the journal,
// which a cut at random only does on a machine that is fast and idle.
func TestPowerLossIsNoticed(t *testing.T) {
	need(t)
	for _, kind := range journaled {
		for name, lie := range map[string][]string{"files": {"sync"}, "directories": {"sync directory"}, "both": {"sync", "sync directory"}} {
			t.Run(kind+" without sync of "+name, func(t *testing.T) {
				dev := mountImage(t, kind, filepath.Join(t.TempDir(), "image"), 512<<20)
				for n := 1; ; n++ {
					root := filepath.Join(dev.at, fmt.Sprint(n))
					text := start(t, job{Root: root, Stop: n, Mount: dev.at, Lie: lie}).wait(t)
					if strings.Contains(text, "error\t") {
						t.Fatalf("call %d: the writer says %s", n, text)
					}
					if strings.HasSuffix(text, "end\n") {
						t.Fatalf("nothing was lost at any of %d calls: a power cut here is none", n)
					}
					dev.unmount(t)
					dev.mount(t)
					have := mustLook(t, root)
					l := ledger{}
					l.read(text)
					if broken, promises := l.broken(have); len(broken)+len(have.wrong) > 0 {
						t.Logf("at call %d: %d of %d promises broken, %d not whole", n, len(broken), promises, len(have.wrong))
						return
					}
				}
			})
		}
	}
}

// TestPowerLossAtEveryCall cuts the power before each call to the file system, for the process
// too and under one that lives on. Without ROADSTEAD_POWER_CUTS it takes one in several.
func TestPowerLossAtEveryCall(t *testing.T) {
	need(t)
	step := 19
	switch {
	case os.Getenv("ROADSTEAD_POWER_CUTS") != "":
		step = 1
	case raceBuild:
		step = 61
	}
	for _, kind := range journaled {
		t.Run(kind, func(t *testing.T) {
			dev := mountImage(t, kind, filepath.Join(t.TempDir(), "image"), 512<<20)
			cuts := 0
			for n := 1; ; n += step {
				for _, how := range []job{{}, {Alive: true}} {
					root := filepath.Join(dev.at, fmt.Sprint(n, how.Alive))
					plant(t, filesystemDriver(root), scriptDamaged, nil)
					how.Root, how.Stop, how.Mount = root, n, dev.at
					text := start(t, how).wait(t)
					if strings.Contains(text, "error\t") != how.Alive {
						t.Fatalf("call %d, %+v: the writer says %s", n, how, text)
					}
					if strings.HasSuffix(text, "end\n") && !how.Alive {
						t.Logf("%d cuts in %d calls", cuts, n)
						return
					}
					cuts++
					dev.unmount(t)
					dev.mount(t)
					if !checkPromises(t, text, mustLook(t, root)) {
						t.Fatalf("at call %d, %+v", n, how)
					}
				}
			}
		})
	}
}

// TestNothingIsAcknowledgedAfterTheDiskIsLost: the file system gives up just before the last
// sync of each call. XFS then says of a directory that it is synced.
func TestNothingIsAcknowledgedAfterTheDiskIsLost(t *testing.T) {
	for _, kind := range journaled {
		t.Run(kind, func(t *testing.T) {
			dev := mountImage(t, kind, filepath.Join(t.TempDir(), "image"), 512<<20)
			b := some(1, 1000)
			d := sum(digest.SHA256, b)
			for what, do := range map[string]func(*Store) error{
				"commit":     func(s *Store) error { return commit(s, b) },
				"put":        func(s *Store) error { return s.Put(t.Context(), d, b) },
				"link":       func(s *Store) error { return s.LinkBlob(t.Context(), "a/b", d) },
				"tag":        func(s *Store) error { return s.Tag(t.Context(), "a/b", "t", d) },
				"untag":      func(s *Store) error { return s.Untag(t.Context(), "a/b", "t") },
				"unlink":     func(s *Store) error { return s.Unlink(t.Context(), "a/b", d) },
				"quarantine": func(s *Store) error { return s.Quarantine(t.Context(), d) },
			} {
				s := openStore(t, dev.root())
				prepare := func() {
					t.Helper()
					if err := errors.Join(commit(s, b), s.LinkBlob(t.Context(), "a/b", d), s.Tag(t.Context(), "a/b", "t", d)); err != nil {
						t.Fatal(err)
					}
				}
				syncs, last := 0, 0
				seam := func(op, _ string, do func() error) error {
					if op != "sync directory" {
						return do()
					}
					if syncs++; syncs == last {
						if err := cutPower(dev.at); err != nil {
							t.Error(err)
						}
					}
					return do()
				}
				for range 2 { // after the first time the directories are known to be on disk
					s.disk.seam = nil
					prepare()
					s.disk.seam, syncs = seam, 0
					if err := do(s); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				}
				s.disk.seam = nil
				prepare()
				s.disk.seam, syncs, last = seam, 0, syncs
				if err := do(s); err == nil || last == 0 {
					t.Errorf("%s is acknowledged, with %d syncs", what, last)
				}
				s.Close()
				dev.unmount(t)
				dev.mount(t)
			}
		})
	}
}
