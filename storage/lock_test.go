package storage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	held, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = Lock(dir)
		if want := fmt.Sprintf("process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("second lock: %v", err)
		}
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	// A longer number may have been there before.
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("1234567890123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err = Lock(dir)
	if err != nil {
		t.Fatalf("after the first was let go: %v", err)
	}
	defer held.Close()
	if b, err := os.ReadFile(filepath.Join(dir, "lock")); err != nil || string(b) != fmt.Sprintf("%d\n", os.Getpid()) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestLockGoesWithTheProcess(t *testing.T) {
	dir := t.TempDir()
	flock, err := exec.LookPath("flock")
	if err != nil {
		t.Skip("needs flock")
	}
	other := exec.Command(flock, "--no-fork", "-x", filepath.Join(dir, "lock"), "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	held := func() error {
		l, err := Lock(dir)
		if err == nil {
			l.Close()
		}
		return err
	}
	for held() == nil { // until the other has come up
	}
	if err := held(); err == nil || !strings.Contains(err.Error(), "in use by") {
		t.Errorf("while another process has it: %v", err)
	}
	other.Process.Kill()
	other.Wait()
	if err := held(); err != nil {
		t.Errorf("after the other was killed: %v", err)
	}
}

func TestLockOnAPathThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(file); err == nil {
		t.Error("locked a file")
	}
}
