package storage

import (
	"fmt"
	"os"
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
	other := start(t, job{Lock: dir})
	_, err := Lock(dir)
	if want := fmt.Sprintf("in use by process %d", other.cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("while another process has it: %v, want %s", err, want)
	}
	other.kill(t)
	held, err := Lock(dir)
	if err != nil {
		t.Fatalf("after the other was killed: %v", err)
	}
	held.Close()
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
