package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// The faults of real file systems (FAULTS 2.2).

// stillWorks stores and reads something new.
func stillWorks(t *testing.T, s *Store, seed uint64) {
	t.Helper()
	b := some(seed, 1000)
	d := mustCommit(t, s, b)
	if got, err := s.Read(t.Context(), d, 1000); err != nil || !bytes.Equal(got, b) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// onlyContent fails unless the store has these and nothing else, and nothing that is not whole.
func onlyContent(t *testing.T, root string, want ...digest.Digest) {
	t.Helper()
	have := mustLook(t, root)
	for _, w := range have.wrong {
		t.Errorf("visible and not whole: %s", w)
	}
	for _, d := range want {
		if !have.content[d] {
			t.Errorf("%s is lost", d)
		}
	}
	if len(have.content) != len(want) {
		t.Errorf("%d contents, want %d", len(have.content), len(want))
	}
}

func TestDiskFull(t *testing.T) { // S1
	disk := mountTmpfs(t, "size=24m")
	s, err := New(Config{Root: disk.root(), Floor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kept := mustCommit(t, s, some(1, 1000))

	// Larger than the disk is refused before a byte is read from upstream.
	if _, err := s.Draft(digest.SHA256, 30<<20); !errors.Is(err, ErrFull) {
		t.Errorf("draft of 30 MiB on 24: %v", err)
	}

	// Of unknown size it is refused when it comes to it, and what came can still be read.
	b := some(2, 30<<20)
	d, err := s.Draft(digest.SHA256, -1)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for err == nil && n < len(b) {
		var m int
		m, err = d.Write(b[n : n+32<<10])
		n += m
	}
	if !errors.Is(err, ErrFull) || n < 20<<20 {
		t.Errorf("30 MiB in 24: %v after %d bytes", err, n)
	}
	if err := d.Commit(t.Context()); err == nil {
		t.Error("committed")
	}
	got := make([]byte, d.Len())
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, b[:len(got)]) {
		t.Errorf("read of what was written: %v", err)
	}
	d.Close()
	onlyContent(t, disk.root(), kept)
	emptyDrafts(t, s)
	stillWorks(t, s, 3)

	// Somebody else takes what was promised: the disk says no itself, in the middle of a write.
	d, err = s.Draft(digest.SHA256, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(disk.at, "other")
	if err := os.WriteFile(other, some(4, 23<<20), 0o600); err != nil {
		t.Log(err) // as intended, it may take all there is
	}
	n, err = d.Write(some(5, 8<<20))
	if !errors.Is(err, ErrFull) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("8 MiB on a full disk: %v after %d bytes", err, n)
	}
	if d.Len() != int64(n) {
		t.Errorf("%d bytes to be read of %d written", d.Len(), n)
	}
	d.Close()
	tiny := []byte("does not fit")
	for what, err := range map[string]error{"put": s.Put(t.Context(), sum(digest.SHA256, tiny), tiny), "link": s.LinkBlob(t.Context(), "a/b", kept)} {
		if err != nil && !errors.Is(err, ErrFull) {
			t.Errorf("%s on a full disk: %v", what, err)
		}
	}
	if got, err := s.Read(t.Context(), kept, 1000); err != nil || len(got) != 1000 {
		t.Errorf("read on a full disk: %v", err)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	stillWorks(t, s, 6)
	if have := mustLook(t, disk.root()); len(have.wrong)+len(have.drafts) > 0 {
		t.Errorf("left: %v %v", have.wrong, have.drafts)
	}
}

func TestNoInodes(t *testing.T) { // S1
	for inodes := 4; inodes < 16; inodes++ {
		disk := mountTmpfs(t, "size=24m,nr_inodes=100")
		s, err := New(Config{Root: disk.root(), Floor: -1})
		if err != nil {
			t.Fatal(err)
		}
		// root, registry and drafts are three; the commit runs out at another step each time.
		var st unix.Statfs_t
		if err := unix.Statfs(disk.at, &st); err != nil {
			t.Fatal(err)
		}
		var fill []string
		for range int(st.Ffree) - inodes {
			f, err := os.CreateTemp(disk.at, "fill")
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			fill = append(fill, f.Name())
		}
		b := some(1, 1000)
		if err := commit(s, b); err != nil && !errors.Is(err, ErrFull) {
			t.Errorf("%d inodes: %v", inodes, err)
		} else if err != nil {
			onlyContent(t, disk.root())
		}
		err = s.LinkBlob(t.Context(), "docker.io/library/busybox", sum(digest.SHA256, b))
		if err != nil && !errors.Is(err, ErrFull) {
			t.Errorf("link with %d inodes: %v", inodes, err)
		}
		if inodes < 8 && err == nil {
			t.Errorf("%d inodes were enough for ten directories", inodes)
		}
		for _, name := range fill {
			os.Remove(name)
		}
		stillWorks(t, s, 2)
		s.Close()
		disk.unmount(t)
	}
}

func TestWriteThatFailsLater(t *testing.T) { // S2
	// The file system believes to have 64 MiB; what is under it has 12. Writes go well, into
	// memory; only the sync learns the truth, and tells it once.
	below := mountTmpfs(t, "size=12m")
	disk := mountImage(t, "ext4", filepath.Join(below.at, "image"), 64<<20)
	s, err := New(Config{Root: disk.root(), Floor: -1})
	if err != nil {
		t.Fatal(err)
	}
	kept := mustCommit(t, s, some(1, 1000))
	b := some(2, 20<<20)
	d, err := write(s, b, int64(len(b)))
	if err != nil {
		t.Fatalf("the write was to go well: %v", err)
	}
	want := sum(digest.SHA256, b)
	if err := d.Verify(want, int64(len(b))); err != nil {
		t.Fatal(err)
	}
	first := d.Commit(t.Context())
	if first == nil || !errors.Is(first, ErrFull) && !errors.Is(first, unix.EIO) {
		t.Errorf("commit of what the disk has lost: %v", first)
	}
	syncs := 0
	s.disk.seam = func(op, _ string, do func() error) error {
		if op == "sync" {
			syncs++
		}
		return do()
	}
	if err := d.Commit(t.Context()); err == nil || syncs > 0 {
		t.Errorf("second commit: %v, %d syncs", err, syncs)
	}
	d.Close()
	s.disk.seam = nil
	if _, err := s.Stat(t.Context(), want); !errors.Is(err, ErrNotFound) {
		t.Errorf("visible: %v", err)
	}
	onlyContent(t, disk.root(), kept)
	s.Close()

	// Room below, and the file system comes up again.
	disk.unmount(t)
	below.remount(t, "size=100m")
	disk.mount(t)
	s = openStore(t, disk.root())
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	emptyDrafts(t, s)
	mustCommit(t, s, b)
	onlyContent(t, disk.root(), kept, want)
	s.Close()
}

func TestUnreadableSectors(t *testing.T) { // S3
	image := filepath.Join(t.TempDir(), "image")
	disk := mountImage(t, "ext4", image, 64<<20)
	s := openStore(t, disk.root())
	good := mustCommit(t, s, some(1, 1000))
	var bad []digest.Digest
	for i := range 5 {
		bad = append(bad, mustCommit(t, s, some(uint64(10+i), 4<<20)))
	}
	if err := s.LinkBlob(t.Context(), "a/b", bad[0]); err != nil {
		t.Fatal(err)
	}
	// Directories and inodes are in memory; of the large content every page is forgotten, and
	// then the device below ends before it.
	readAll := func(d digest.Digest) error { _, err := s.Read(t.Context(), d, 4<<20); return err }
	contents(t, s)
	for _, d := range bad {
		c, err := s.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		f := c.ReadSeekCloser.(*os.File)
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if err := readAll(good); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 1<<20); err != nil {
		t.Fatal(err)
	}
	unreadable := map[digest.Digest]bool{}
	for _, d := range bad {
		err := readAll(d)
		if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
			t.Errorf("read of a bad sector: %v", err)
		}
		unreadable[d] = true
	}
	report, err := s.Scrub(t.Context(), func(e ScrubEvent) {
		if e.Digest != "" && (e.Err != nil) != unreadable[e.Digest] || errors.Is(e.Err, ErrDamaged) || e.Quarantined {
			t.Errorf("%+v", e)
		}
		if e.Err != nil && !errors.Is(e.Err, unix.EIO) {
			t.Errorf("%s: told as %v", e.Digest, e.Err)
		}
	})
	if err != nil || report.Checked != 6 || report.Unreadable != 5 || report.Damaged != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	for _, d := range bad {
		if n, err := s.Stat(t.Context(), d); err != nil || n != 4<<20 {
			t.Errorf("stat %s afterwards: %d, %v", d, n, err)
		}
	}

	// Content that can come again from elsewhere makes room for that. The device is as long as
	// before, and what lay behind its end is lost.
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := s.Recheck(t.Context(), good); err != nil {
		t.Errorf("what can be read: %v", err)
	}
	for _, d := range bad {
		if err := s.Recheck(t.Context(), d); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("recheck %s: %v", d, err)
		}
		if _, err := s.Stat(t.Context(), d); !errors.Is(err, ErrNotFound) {
			t.Errorf("stat %s after it was put aside: %v", d, err)
		}
	}
	if err := s.Recheck(t.Context(), bad[0]); !errors.Is(err, ErrNotFound) {
		t.Errorf("recheck of what is not there: %v", err)
	}
	s.Close()
}

func TestReadOnly(t *testing.T) { // S5
	disk := mountTmpfs(t, "size=24m")
	s := openStore(t, disk.root())
	b := some(1, 1000)
	kept := mustCommit(t, s, b)
	d, err := write(s, some(2, 1000), -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	s.Close() // nobody may have a file open for writing
	disk.remount(t, "ro")
	if s, err = New(Config{Root: disk.root(), Floor: -1}); err != nil {
		t.Fatalf("a new process: %v", err)
	}
	if got, err := s.Read(t.Context(), kept, 1000); err != nil || !bytes.Equal(got, b) {
		t.Errorf("read: %v", err)
	}
	_, draftErr := s.Draft(digest.SHA256, 1)
	for what, err := range map[string]error{"draft": draftErr, "put": s.Put(t.Context(), sum(digest.SHA256, nil), nil), "link": s.LinkBlob(t.Context(), "a/b", kept),
		"tag": s.Tag(t.Context(), "a/b", "t", kept), "remove": s.Remove(t.Context(), kept), "quarantine": s.Quarantine(t.Context(), kept)} {
		if !errors.Is(err, unix.EROFS) || errors.Is(err, ErrFull) || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	disk.remount(t, "rw")
	stillWorks(t, s, 3)
	s.Close()
}

func TestForbidden(t *testing.T) { // S6
	root := t.TempDir()
	s := openStore(t, root)
	d := mustCommit(t, s, some(1, 1000))
	name, err := blobPath(d)
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(root, name)
	for _, locked := range []string{name, filepath.Dir(name)} {
		if err := os.Chmod(locked, 0); err != nil {
			t.Fatal(err)
		}
		err := unprivileged(t, func() error { _, err := s.Open(t.Context(), d); return err })
		if !errors.Is(err, os.ErrPermission) || errors.Is(err, ErrNotFound) {
			t.Errorf("open with %s closed: %v", filepath.Base(locked), err)
		}
		if err := os.Chmod(locked, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unprivileged(t, func() error { _, err := s.Read(t.Context(), d, 1000); return err }); err != nil {
		t.Errorf("read with everything open: %v", err)
	}
}

// unprivileged calls do with the rights that a process has which is not root's.
func unprivileged(t *testing.T, do func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return do()
	}
	// With another user for file access the kernel takes from the thread the right to overlook
	// permissions, and gives it back with root.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	return do()
}

func TestImmutable(t *testing.T) { // S6
	need(t, "chattr")
	disk := mountImage(t, "ext4", filepath.Join(t.TempDir(), "image"), 64<<20)
	s := openStore(t, disk.root())
	b := some(1, 1000)
	d := mustCommit(t, s, b)
	name, err := blobPath(d)
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(disk.root(), name)
	run(t, "chattr", "+i", name)
	for what, err := range map[string]error{"heal": commit(s, b), "remove": s.Remove(t.Context(), d), "quarantine": s.Quarantine(t.Context(), d)} {
		if !errors.Is(err, unix.EPERM) || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got, err := s.Read(t.Context(), d, 1000); err != nil || !bytes.Equal(got, b) {
		t.Errorf("read: %v", err)
	}
	emptyDrafts(t, s)
	run(t, "chattr", "-i", name)
	mustCommit(t, s, b)
	s.Close()
}

func TestDraftsElsewhere(t *testing.T) {
	disk := mountTmpfs(t, "size=1m")
	_, err := New(Config{Root: t.TempDir(), Drafts: filepath.Join(disk.at, "drafts")})
	if err == nil || !strings.Contains(err.Error(), "another file system") {
		t.Errorf("drafts on another file system: %v", err)
	}
	// One file system mounted twice is two for a rename.
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "drafts"), 0o777); err != nil {
		t.Fatal(err)
	}
	bind := &device{what: t.TempDir(), at: filepath.Join(root, "drafts"), options: []string{"--bind"}}
	bind.mount(t)
	if _, err := New(Config{Root: root}); err == nil || !strings.Contains(err.Error(), "another file system") {
		t.Errorf("drafts on another mount: %v", err)
	}
	bind.unmount(t)

	elsewhere := filepath.Join(t.TempDir(), "a", "b")
	s, err := New(Config{Root: root, Drafts: elsewhere, Floor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stillWorks(t, s, 1)
	if err := os.RemoveAll(elsewhere); err != nil { // somebody tidies up
		t.Fatal(err)
	}
	stillWorks(t, s, 2)
}
