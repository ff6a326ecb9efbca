package access

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// keyFolder is a directory with keys in files "<kind>-<number>.key". A file appears whole or not at
// all, and only one of several processes makes the one of a number: the others read it.
type keyFolder string

// The kinds of keys.
const (
	signingKind = "signing" // of tokens
	vaultKind   = "vault"   // of secrets
)

func (dir keyFolder) read(kind string) (map[int][]byte, error) { return readKeys(string(dir), kind) }

func (dir keyFolder) add(kind string, number int, content []byte) error {
	return writeKey(string(dir), keyName(kind, number), content)
}

func (dir keyFolder) remove(kind string, number int) error {
	err := os.Remove(dir.place(kind, number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (dir keyFolder) place(kind string, number int) string {
	return filepath.Join(string(dir), keyName(kind, number))
}

// keyName is the name of a key file.
func keyName(kind string, number int) string { return kind + "-" + strconv.Itoa(number) + ".key" }

// writeKey makes a key file. fs.ErrExist says that another process was quicker.
func writeKey(dir, name string, content []byte) (err error) {
	f, err := os.CreateTemp(dir, ".key-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		// A link, unlike a rename, does not replace what is there.
		err = os.Link(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// readKeys reads all key files of a kind, by their number.
func readKeys(dir, kind string) (map[int][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	all := map[int][]byte{}
	for _, entry := range entries {
		text, ours := strings.CutPrefix(strings.TrimSuffix(entry.Name(), ".key"), kind+"-")
		number, err := strconv.Atoi(text)
		if !ours || err != nil || entry.Name() != keyName(kind, number) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process has no more use for it
		}
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		all[number] = content
	}
	return all, nil
}

// tellLoose tells of keys that others can read. They are not refused: a volume whose files belong
// to a group by its mount has them so.
func tellLoose(dir string, log *slog.Logger) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && strings.HasSuffix(entry.Name(), ".key") && info.Mode().Perm()&0o077 != 0 {
			log.Warn("a key can be read by others: chmod 600 it, unless its volume wants it so",
				"file", filepath.Join(dir, entry.Name()), "mode", info.Mode().Perm().String())
		}
	}
	return nil
}
