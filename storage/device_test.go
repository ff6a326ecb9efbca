package storage

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// need skips a test that cannot be run here, except where everything has to run.
func need(t *testing.T, tools ...string) {
	t.Helper()
	missing := ""
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		missing = " the right to mount"
	} else if err := unmount(dir); err != nil {
		t.Fatal(err)
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing += " " + tool
		}
	}
	if missing == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs%s", missing)
	}
	t.Skipf("needs%s", missing)
}

func run(t *testing.T, command string, args ...string) {
	t.Helper()
	if out, err := exec.Command(command, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", command, strings.Join(args, " "), err, out)
	}
}

// device is a file system of a test's own.
type device struct {
	what, at string
	options  []string
	mounted  bool
}

// mountTmpfs mounts memory.
func mountTmpfs(t *testing.T, options string) *device {
	t.Helper()
	need(t, "mount")
	d := &device{what: "tmpfs", at: t.TempDir(), options: []string{"-t", "tmpfs", "-o", options}}
	d.mount(t)
	return d
}

// mountImage makes a file system in a sparse file and mounts it through a loop device.
func mountImage(t *testing.T, kind, image string, size int64) *device {
	t.Helper()
	need(t, "mkfs."+kind, "losetup", "mount")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	flags := []string{"-q", image}
	if kind == "ext4" {
		// Everything that is initialised later would write behind the test's back.
		flags = []string{"-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image}
	}
	run(t, "mkfs."+kind, flags...)
	d := &device{what: image, at: t.TempDir(), options: []string{"-t", kind, "-o", "loop"}}
	d.mount(t)
	return d
}

func (d *device) mount(t *testing.T) {
	t.Helper()
	run(t, "mount", append(d.options, d.what, d.at)...)
	d.mounted = true
	t.Cleanup(func() { d.unmount(t) })
}

func (d *device) remount(t *testing.T, options string) {
	t.Helper()
	run(t, "mount", "-o", "remount,"+options, d.at)
}

// unmount leaves nothing behind: the loop device goes with the file system.
func (d *device) unmount(t *testing.T) {
	t.Helper()
	if !d.mounted {
		return
	}
	d.mounted = false
	if err := unmount(d.at); err != nil {
		t.Errorf("unmount %s: %v", d.at, err)
		unix.Unmount(d.at, unix.MNT_DETACH)
	}
	// A container that starts meanwhile, of another package's tests, has a copy of all mounts until
	// it has its own root. Mounted again before that, this would be the same file system once more,
	// shut down as it was.
	for end := time.Now().Add(time.Minute); d.attached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is unmounted, and its loop device is in use: by whom is in /proc/*/mountinfo", d.what)
		}
	}
}

// attached reports whether a loop device has the image, as it has while the file system lives.
func (d *device) attached() bool {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range files {
		// Whoever is detached in between has no such file any more.
		if image, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(image)) == d.what {
			return true
		}
	}
	return false
}

// unmount takes a file system away that this process has no file open in. Another test may be
// starting a program meanwhile: from the fork to the exec that has all our files, also those
// that we close in between, so that busy is not an answer yet.
func unmount(dir string) error {
	for end := time.Now().Add(10 * time.Second); ; {
		err := unix.Unmount(dir, 0)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (d *device) root() string { return filepath.Join(d.at, "registry") }
