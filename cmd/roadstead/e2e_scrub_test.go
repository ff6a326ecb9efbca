package main_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

var (
	dataPath = regexp.MustCompile(`^blobs/(sha256|sha512)/([0-9a-f]{2})/([0-9a-f]+)/data$`)
	linkPath = regexp.MustCompile(`^repositories/[a-z0-9._/-]+/(_layers/(sha256|sha512)/[0-9a-f]+|_manifests/revisions/(sha256|sha512)/[0-9a-f]+|_manifests/tags/[A-Za-z0-9._-]+/(current|index/(sha256|sha512)/[0-9a-f]+))/link$`)
)

// dataFile is where the layout has the content of a digest.
func dataFile(dir string, d digest.Digest) string {
	return filepath.Join(dir, "docker/registry/v2/blobs", string(d.Algorithm()), d.Encoded()[:2], d.Encoded(), "data")
}

// scrub reads the whole layout below a data directory as somebody who knows the format and
// nothing of roadstead, and reports whatever is not whole.
func scrub(t testing.TB, dir string) (contents int) {
	t.Helper()
	contents, faults, err := inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
	return contents
}

// inspect finds content whose bytes are not those of its name, links to nothing and files that do
// not belong there. The node may be running, as long as it evicts nothing.
func inspect(dir string) (contents int, faults []string, err error) {
	root := filepath.Join(dir, "docker", "registry", "v2")
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was ever stored, or a node tidies up behind the walk
		}
		if err != nil || entry.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if m := dataPath.FindStringSubmatch(rel); m != nil && strings.HasPrefix(m[3], m[2]) {
			got, err := hashFile(path, m[1])
			if err == nil && got != m[3] {
				fault("%s holds the bytes of %s", rel, got)
			}
			contents++
			return err
		}
		if !linkPath.MatchString(rel) {
			fault("%s does not belong in the layout", rel)
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		d, err := digest.Parse(string(text))
		if err != nil {
			fault("%s holds %q: %v", rel, text, err)
		} else if !isFile(dataFile(dir, d)) {
			// Looked for now and not before: a node that runs writes content first, then links.
			fault("%s leads to %s, which is not there", rel, d)
		}
		return nil
	})
	return contents, faults, err
}

func hashFile(path, algorithm string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var h hash.Hash = sha256.New()
	if algorithm == "sha512" {
		h = sha512.New()
	}
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
