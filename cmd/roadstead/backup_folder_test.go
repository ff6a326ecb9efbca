package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A clock that was ahead once does not have a backup removed that has just been made.
func TestBackupKeepsWhatItMade(t *testing.T) {
	made := "roadstead-20260101T000000Z"
	dir := t.TempDir()
	for _, name := range []string{made, "roadstead-20250101T000000Z", "roadstead-20990101T000000Z", "roadstead-20990101T000001Z"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, backupAbout), "{}")
	}
	b, err := openBackups(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, tt := range []struct {
		keep int
		want []string
	}{{2, []string{made, "roadstead-20990101T000001Z"}}, {1, []string{made}}} {
		if err := b.prune(tt.keep, made, streams{err: io.Discard}); err != nil {
			t.Fatal(err)
		}
		if left, err := b.all(); err != nil || !slices.Equal(left, tt.want) {
			t.Errorf("left are %q, %v", left, err)
		}
	}
}
