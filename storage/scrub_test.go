package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// testScrub damages content in every way that keeps a file where it is (FAULTS S7).
func testScrub(t *testing.T, s *Store, raw storagedriver.StorageDriver) {
	ctx := t.Context()
	var whole, damaged []digest.Digest
	var total int64
	for i := range 60 {
		b := some(uint64(i), 100+i*50)
		d := mustCommit(t, s, b)
		total += int64(len(b))
		switch i % 6 {
		case 0: // a bit
			b[i] ^= 1
		case 1: // nothing left
			total -= int64(len(b))
			b = nil
		case 2: // cut
			b = b[:len(b)-1]
			total--
		case 3: // grown
			b = append(b, 0)
			total++
		case 4: // another's
			total -= int64(len(b))
			b = some(uint64(i-4), 50)
			total += 50
		case 5:
			whole = append(whole, d)
			continue
		}
		plant(t, raw, d, b)
		damaged = append(damaged, d)
	}
	empty := sum(digest.SHA256, nil)
	plant(t, raw, empty, nil)
	whole = append(whole, empty)
	if err := s.LinkBlob(ctx, "a/b", damaged[0]); err != nil {
		t.Fatal(err)
	}

	var found, fine []digest.Digest
	var last ScrubEvent
	report, err := s.Scrub(ctx, func(e ScrubEvent) {
		if e.Done < last.Done || e.Total != total {
			t.Errorf("after %d of %d bytes: %d of %d, want %d", last.Done, last.Total, e.Done, e.Total, total)
		}
		last = e
		switch {
		case e.Digest == "":
		case e.Err == nil && !e.Quarantined:
			fine = append(fine, e.Digest)
		case errors.Is(e.Err, ErrDamaged) && e.Quarantined:
			found = append(found, e.Digest)
		default:
			t.Errorf("%+v", e)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if last.Done != total {
		t.Errorf("%d of %d bytes at the end", last.Done, total)
	}
	slices.Sort(found)
	slices.Sort(fine)
	if want := sorted(slices.Clone(damaged)...); !slices.Equal(found, want) {
		t.Errorf("found damaged %d of %d", len(found), len(want))
	}
	if want := sorted(whole...); !slices.Equal(fine, want) {
		t.Errorf("found whole %d of %d", len(fine), len(want))
	}
	if want := (ScrubReport{Checked: 61, Bytes: total, Damaged: 50, Quarantined: 50}); report != want {
		t.Errorf("report %+v, want %+v", report, want)
	}
	for _, d := range damaged {
		if _, err := s.Stat(ctx, d); !errors.Is(err, ErrNotFound) {
			t.Errorf("stat %s: %v", d, err)
		}
		if _, err := raw.Stat(ctx, "/quarantine/sha256/"+d.Encoded()); err != nil {
			t.Error(err)
		}
	}
	if b, err := raw.GetContent(ctx, "/docker/registry/v2/repositories/a/b/_layers/sha256/"+damaged[0].Encoded()+"/link"); err != nil || string(b) != string(damaged[0]) {
		t.Errorf("link to damaged content: %q, %v", b, err)
	}

	report, err = s.Scrub(ctx, func(ScrubEvent) {})
	if want := int64(len(whole)); err != nil || report.Checked != want || report.Damaged != 0 {
		t.Errorf("second scrub: %+v, %v", report, err)
	}
}

func TestScrubStopsWithContext(t *testing.T) {
	s := openStore(t, t.TempDir())
	for i := range 50 {
		mustCommit(t, s, some(uint64(i), 1000))
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	report, err := s.Scrub(ctx, func(ScrubEvent) {
		if n++; n == 5 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || report.Checked >= 50 || report.Damaged != 0 || report.Unreadable != 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestScrubLeavesHealedContent(t *testing.T) {
	// The scrub has read the damage; before it moves the file away, the cache stores it anew.
	root := t.TempDir()
	s := openStore(t, root)
	b := some(1, 1000)
	d := mustCommit(t, s, b)
	plant(t, filesystemDriver(root), d, []byte("damage"))
	seen, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	mustCommit(t, s, b)
	if moved, err := s.quarantine(t.Context(), d, seen); moved || err != nil {
		t.Errorf("moved %t, %v", moved, err)
	}
	if got, err := s.Read(t.Context(), d, 1000); err != nil || len(got) != 1000 {
		t.Errorf("read: %d bytes, %v", len(got), err)
	}

	// The same as a whole: the scrub's quarantine comes second to a commit, and it looks again.
	plant(t, filesystemDriver(root), d, []byte("damage"))
	var healed atomic.Bool
	s.disk.seam = func(op, name string, do func() error) error {
		if op == "open directory" && filepath.Base(name) == d.Encoded() && healed.CompareAndSwap(false, true) {
			if err := commit(s, b); err != nil {
				t.Error(err)
			}
		}
		return do()
	}
	s.scrubbers = 1
	report, err := s.Scrub(t.Context(), func(ScrubEvent) {})
	if want := (ScrubReport{Checked: 1, Bytes: 6, Damaged: 0}); !healed.Load() || err != nil || report != want {
		t.Errorf("healed %t: %+v, %v", healed.Load(), report, err)
	}
	if got, err := s.Read(t.Context(), d, 1000); err != nil || len(got) != 1000 {
		t.Errorf("read: %d bytes, %v", len(got), err)
	}
}

func TestScrubOfWhatIsNoFile(t *testing.T) {
	root := t.TempDir()
	s := openStore(t, root)
	whole := mustCommit(t, s, []byte("whole"))
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(d digest.Digest) string {
		name, err := blobPath(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o777); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(root, name)
	}
	dir, link := sum(digest.SHA256, []byte("directory")), sum(digest.SHA256, []byte("secret"))
	if err := errors.Join(os.Mkdir(at(dir), 0o777), os.Symlink(outside, at(link))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), dir); !errors.Is(err, ErrDamaged) {
		t.Errorf("open a directory: %v", err)
	}
	if _, err := s.Open(t.Context(), link); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("open a link that leads out: %v", err)
	}
	got := map[digest.Digest]ScrubEvent{}
	report, err := s.Scrub(t.Context(), func(e ScrubEvent) { got[e.Digest] = e })
	if err != nil || report.Damaged != 1 || report.Quarantined != 1 || report.Unreadable != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if e := got[dir]; !errors.Is(e.Err, ErrDamaged) || !e.Quarantined {
		t.Errorf("directory: %+v", e)
	}
	if e := got[link]; e.Err == nil || errors.Is(e.Err, ErrDamaged) || e.Quarantined {
		t.Errorf("link: %+v", e)
	}
	if e := got[whole]; e.Err != nil {
		t.Errorf("whole: %+v", e)
	}
}
