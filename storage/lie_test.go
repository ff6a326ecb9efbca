package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roadstead/storage/witness"
)

// records are the numbers of the last one that a writer has written to its file.
type records struct {
	synced    int // the kernel says that it is on the disk
	confirmed int // and the file system stands by it
}

const recordSize = 4096

// appendRecords writes until something goes wrong.
func appendRecords(name string, w *witness.Witness) (r records) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return r
	}
	defer f.Close()
	record := make([]byte, recordSize)
	for n := 1; ; n++ {
		binary.LittleEndian.PutUint64(record, uint64(n))
		if _, err := f.WriteAt(record, int64(n-1)*recordSize); err != nil || f.Sync() != nil {
			return r
		}
		r.synced = n
		if w.Ask() != nil {
			return r
		}
		r.confirmed = n
	}
}

// countRecords says how many are in a file, one behind the other.
func countRecords(t *testing.T, name string) (n int) {
	t.Helper()
	all, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for len(all) >= recordSize && binary.LittleEndian.Uint64(all) == uint64(n+1) {
		n++
		all = all[recordSize:]
	}
	return n
}

// TestSyncsThatLie cuts the power under writers that do nothing but append and sync, until some of
// the syncs have lied: the kernel has said that a record is on the disk, and it is not. The witness
// has never stood by one of those.
func TestSyncsThatLie(t *testing.T) {
	need(t)
	for _, kind := range journaled {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const enough, writers = 3, 4
			dev := mountImage(t, kind, filepath.Join(t.TempDir(), "image"), 512<<20)
			cut, lies, confirmed := 0, 0, 0
			for cuts := rounds(t, "ROADSTEAD_POWER_CUTS", 60); cut < cuts && lies < enough; cut++ {
				var all [writers]records
				name := func(i int) string { return filepath.Join(dev.at, fmt.Sprintf("%d-%d", cut, i)) }
				w, err := witness.New(dev.at)
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				for i := range writers {
					wg.Go(func() { all[i] = appendRecords(name(i), w) })
				}
				time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
				if err := cutPower(dev.at); err != nil {
					t.Fatal(err)
				}
				wg.Wait()
				w.Close()
				dev.unmount(t)
				dev.mount(t)
				for i, r := range all {
					have := countRecords(t, name(i))
					if have < r.confirmed {
						t.Fatalf("cut %d: %d records are there of %d that the file system stood by", cut, have, r.confirmed)
					}
					if have < r.synced {
						lies++
					}
					confirmed += r.confirmed
					if err := os.Remove(name(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Fatal(err)
					}
				}
			}
			t.Logf("%d cuts, %d records confirmed, %d syncs lied", cut, confirmed, lies)
			if confirmed == 0 {
				t.Error("nothing was written: the test shows nothing")
			}
		})
	}
}

// A file system that has given up says so, whichever way it was.
func TestWitness(t *testing.T) {
	need(t, "findmnt")
	for _, kind := range journaled {
		t.Run(kind+" shut down", func(t *testing.T) {
			dev := mountImage(t, kind, filepath.Join(t.TempDir(), "image"), 512<<20)
			w := newWitness(t, dev)
			if err := cutPower(dev.at); err != nil {
				t.Fatal(err)
			}
			if err := w.Ask(); !errors.Is(err, unix.EIO) {
				t.Errorf("Ask after the end = %v, want EIO", err)
			}
		})
	}
	t.Run("ext4 after an error", func(t *testing.T) {
		dev := mountImage(t, "ext4", filepath.Join(t.TempDir(), "image"), 64<<20)
		dev.remount(t, "errors=remount-ro")
		w := newWitness(t, dev)
		loop, err := exec.Command("findmnt", "-n", "-o", "SOURCE", dev.at).Output()
		if err != nil {
			t.Fatal(err)
		}
		trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(loop))), "trigger_fs_error")
		if err := os.WriteFile(trigger, []byte("a test"), 0); err != nil {
			t.Fatal(err)
		}
		if err := w.Ask(); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EIO) {
			t.Errorf("Ask after an error = %v, want EROFS", err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		dev := mountTmpfs(t, "size=1m")
		dev.remount(t, "ro")
		newWitness(t, dev)
	})
}

// newWitness makes a witness of a file system that is well.
func newWitness(t *testing.T, dev *device) *witness.Witness {
	t.Helper()
	w, err := witness.New(dev.at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() }) // before the file system is unmounted
	if err := w.Ask(); err != nil {
		t.Errorf("Ask of a file system that is well: %v", err)
	}
	return w
}
