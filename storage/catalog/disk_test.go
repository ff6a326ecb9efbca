package catalog

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk fills the disk under the catalog (FAULTS S14). Writes say so, what is there is
// read all the same, and when there is room again the same handle writes.
func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=4m")
	db := openAt(t, dir+"/catalog.db")
	update(t, db, func(tx *Tx) error { return tx.AddBlob(busybox, dg("first"), 1) })
	filler := dir + "/filler"

	for round := range 3 {
		fill(t, filler)
		err := error(nil)
		written := 0
		for i := 0; err == nil && i < 100; i++ {
			err = db.Update(t.Context(), func(tx *Tx) error { return addMany(tx, round, i) })
			if err == nil {
				written++
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Update on a full disk = %v, want ENOSPC", err)
		}
		if got := found(t, db, busybox, "first"); !got.Stored {
			t.Errorf("Find on a full disk = %+v, want what was there", got)
		}
		if _, err := db.Usage(t.Context()); err != nil {
			t.Errorf("Usage on a full disk: %v", err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		// The same update that found no room.
		update(t, db, func(tx *Tx) error { return addMany(tx, round, written) })
		if got := found(t, db, busybox, fmt.Sprintf("%d %d %d", round, written, 50)); !got.Stored {
			t.Errorf("Find of what was written after the disk was full = %+v, want it there", got)
		}
		recount(t, db)
		whole(t, db)
		forgetAll(t, db)
	}
}

func addMany(tx *Tx, round, n int) error {
	for i := range 100 {
		if err := tx.AddBlob(busybox, dg(fmt.Sprintf("%d %d %d", round, n, i)), 1); err != nil {
			return err
		}
	}
	return nil
}

func forgetAll(t *testing.T, db *DB) {
	t.Helper()
	cold, _, err := db.Coldest(t.Context(), []string{busybox.Project}, time.Now().Add(time.Hour), Mark{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	update(t, db, func(tx *Tx) error {
		for _, c := range cold {
			if c.Digest == dg("first") {
				continue
			}
			if _, err := tx.Forget(c.Digest); err != nil {
				return err
			}
		}
		return nil
	})
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// mountTmpfs mounts a file system of its own for a test.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Getuid() != 0 {
		lack(t, "only root can mount a file system")
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		lack(t, fmt.Sprintf("mount: %v: %s", err, out))
	}
	t.Cleanup(func() {
		// Lazily: a program that another test is starting may have our files until its exec.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// lack skips a test for want of something, which the machine that decides must have.
func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
