package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"

	"roadstead/storage"
)

// A backup is a folder roadstead-<time>, of its owner only:
//
//	backup.json     what it is
//	SHA256SUMS      each file but these two, as "sha256sum --check" reads it
//	roadstead.yaml  the configuration, if there is a file
//	data/           a data directory: catalog.db, keys/ and docker/registry/v2/
const (
	backupAbout  = "backup.json"
	backupSums   = "SHA256SUMS"
	backupData   = "data"
	backupFormat = 1

	// A backup that is not whole yet has a name that no list of folders shows.
	partialBackup = ".roadstead-"
)

var backupName = regexp.MustCompile(`^roadstead-\d{8}T\d{6}Z(-\d+)?$`)

// backupRecord is what backup.json says.
type backupRecord struct {
	Format       int       `json:"format"`
	At           time.Time `json:"at"`
	Version      string    `json:"version"` // of the program
	From         string    `json:"from"`    // the data directory
	Content      string    `json:"content"` // "none", "hosted" or "all"
	Contents     int64     `json:"contents"`
	ContentBytes int64     `json:"content_bytes"`
	Elsewhere    []string  `json:"elsewhere,omitempty"` // files that the configuration names and that are not in it
	Sums         string    `json:"sums"`                // the SHA-256 of SHA256SUMS
}

// backups is a folder that backups are in, for one process.
type backups struct {
	path string
	root *os.Root
	lock *os.File
}

// openBackups opens a folder, and makes it if it is missing.
//
// Root may be told to back up into a folder of somebody else, most likely of whom the server runs as. Whoever
// owns a folder can put links in the place of what is made there, and have root write and remove elsewhere.
// So root takes only a folder that nobody else can change, up to the top.
func openBackups(dir string) (_ *backups, err error) {
	path := realPath(dir)
	for _, made := range []bool{false, true} {
		if os.Geteuid() == 0 {
			if err := onlyRoots(path, made); err != nil {
				return nil, err
			}
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder for backups: %w", err)
		}
	}
	b := &backups{path: path}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if b.root, err = os.OpenRoot(path); err != nil {
		return nil, err
	}
	if b.lock, err = b.root.Open("."); err != nil {
		return nil, err
	}
	err = syscall.Flock(int(b.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another backup into %s is under way: wait for its end", path)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return b, b.sweep()
}

// onlyRoots refuses a folder that others than root can change, by itself or by one that it is in. Unless
// it is made, folders may be missing.
func onlyRoots(path string, made bool) error {
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		if errors.Is(err, os.ErrNotExist) && !made {
			continue
		}
		if err != nil {
			return err
		}
		is, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		others := info.Mode().Perm()&0o002 != 0 || info.Mode().Perm()&0o020 != 0 && is.Gid != 0
		sticky := info.Mode()&os.ModeSticky != 0 && dir != path // as /tmp, where what is root's stays that
		if is.Uid != 0 || others && !sticky {
			return fmt.Errorf("others than root can change %s, and could have root write elsewhere by it: run this as the user that serves, or name a folder of root's own (install -d -m 700 /var/backups/roadstead)", dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// Close lets the next one in.
func (b *backups) Close() error {
	var err error
	if b.lock != nil {
		err = b.lock.Close()
	}
	if b.root != nil {
		err = errors.Join(err, b.root.Close())
	}
	return err
}

// sweep removes what backups have left that were killed.
func (b *backups) sweep() error {
	names, err := b.names(func(name string) bool { return strings.HasPrefix(name, partialBackup) })
	for _, name := range names {
		if err == nil && b.ours(name) {
			err = b.root.RemoveAll(name)
		}
	}
	return err
}

// all are the backups that there are, the oldest first.
func (b *backups) all() ([]string, error) {
	names, err := b.names(backupName.MatchString)
	return slices.DeleteFunc(names, func(name string) bool {
		_, err := b.root.Lstat(filepath.Join(name, backupAbout))
		return err != nil || !b.ours(name)
	}), err
}

func (b *backups) names(want func(string) bool) (names []string, err error) {
	dir, err := b.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	for _, name := range all {
		if want(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// ours reports whether a name is a folder that we have made, and no link to one.
func (b *backups) ours(name string) bool {
	info, err := b.root.Lstat(name)
	if err != nil || !info.IsDir() {
		return false
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(is.Uid) == os.Geteuid()
}

// before is the data directory of the newest backup, or "".
func (b *backups) before() string {
	all, err := b.all()
	if err != nil || len(all) == 0 {
		return ""
	}
	return filepath.Join(all[len(all)-1], backupData)
}

// prune removes all but the newest backups. made has just been made, and is the newest whatever the clock of
// others was.
func (b *backups) prune(keep int, made string, std streams) error {
	all, err := b.all()
	if err != nil {
		return fmt.Errorf("remove old backups: %w", err)
	}
	all = slices.DeleteFunc(all, func(name string) bool { return name == made })
	for len(all) > keep-1 {
		// By way of a name that is no backup's, so that none is seen half.
		gone := partialBackup + rand.Text()
		if err := b.root.Rename(all[0], gone); err != nil {
			return fmt.Errorf("remove the old backup %s: %w", all[0], err)
		}
		if err := b.root.RemoveAll(gone); err != nil {
			return fmt.Errorf("remove the old backup %s: %w", all[0], err)
		}
		fmt.Fprintf(std.err, "removed the old backup %s\n", all[0])
		all = all[1:]
	}
	return nil
}

// backupFolder is a backup that is being written.
type backupFolder struct {
	dir  *backups
	name string // until it is whole
	at   time.Time
	sums []byte
	err  error
}

// begin makes the folder of a new backup.
func (b *backups) begin(cfg Config) (*backupFolder, error) {
	f := &backupFolder{dir: b, name: partialBackup + rand.Text(), at: time.Now().UTC().Truncate(time.Second)}
	err := b.root.Mkdir(f.name, 0o700)
	if err == nil {
		err = b.root.Mkdir(filepath.Join(f.name, backupData), 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("back up into %s: %w", b.path, full(err))
	}
	return f, nil
}

// full marks an error of a disk that is full as the storage does.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	}
	return err
}

// abandon leaves nothing of it.
func (f *backupFolder) abandon() error { return f.dir.root.RemoveAll(f.name) }

// wrote notes a file of the folder.
func (f *backupFolder) wrote(name string, _ int64, sum [sha256.Size]byte) {
	within, err := filepath.Rel(f.name, name)
	f.err = errors.Join(f.err, err)
	f.sums = fmt.Appendf(f.sums, "%x  %s\n", sum, within)
}

// sum notes a file that is there already.
func (f *backupFolder) sum(name string) error {
	in, err := f.dir.root.Open(filepath.Join(f.name, name))
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	f.wrote(filepath.Join(f.name, name), n, [sha256.Size]byte(sum.Sum(nil)))
	return err
}

// write writes a file of a few KiB.
func (f *backupFolder) write(name string, content []byte) error {
	if err := f.dir.root.WriteFile(filepath.Join(f.name, name), content, 0o600); err != nil {
		return fmt.Errorf("back up %s: %w", name, full(err))
	}
	return nil
}

// configuration copies the configuration file, and returns the names of files that it names.
func (f *backupFolder) configuration(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("back up the configuration: %w", err)
	}
	name := "roadstead.yaml"
	if err := f.write(name, text); err != nil {
		return nil, err
	}
	f.wrote(filepath.Join(f.name, name), int64(len(text)), sha256.Sum256(text))
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("back up the configuration: %w", err)
	}
	folder, err := filepath.Abs(filepath.Dir(file))
	return namedFiles(&root, folder), err
}

// namedFiles are the files that a configuration in a folder names and that are there.
func namedFiles(n *yaml.Node, folder string) (files []string) {
	for i, child := range n.Content {
		names := child
		if n.Kind == yaml.MappingNode {
			if i%2 == 0 {
				continue
			}
			key := n.Content[i-1].Value
			if !strings.HasSuffix(key, "_file") && !slices.Contains([]string{"file", "certificate", "key", "client_certificate", "client_key", "keys"}, key) {
				names = nil
			}
		} else {
			names = nil
		}
		if names == nil || names.Kind == yaml.MappingNode {
			files = append(files, namedFiles(child, folder)...)
			continue
		}
		for _, name := range append(names.Content, names) {
			path := name.Value
			if path == "" || strings.Contains(path, "\n") {
				continue
			}
			if !filepath.IsAbs(path) {
				path = filepath.Join(folder, path)
			}
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				files = append(files, path)
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// finish brings all of it to the disk and gives it its name, which it returns.
func (f *backupFolder) finish(record backupRecord) (string, error) {
	if f.err != nil {
		return "", f.err
	}
	record.Sums = fmt.Sprintf("%x", sha256.Sum256(f.sums))
	about, err := json.MarshalIndent(record, "", "  ")
	if err == nil {
		err = f.write(backupSums, f.sums)
	}
	if err == nil {
		err = f.write(backupAbout, append(about, '\n'))
	}
	if err == nil {
		err = storage.SyncTree(f.dir.root, f.name)
	}
	if err != nil {
		return "", err
	}
	name := "roadstead-" + f.at.Format("20060102T150405Z")
	for n := 2; ; n++ {
		if _, err := f.dir.root.Lstat(name); errors.Is(err, os.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("roadstead-%s-%d", f.at.Format("20060102T150405Z"), n)
	}
	if err := f.dir.root.Rename(f.name, name); err != nil {
		return "", fmt.Errorf("name the backup: %w", full(err))
	}
	if err := f.dir.lock.Sync(); err != nil {
		return "", fmt.Errorf("sync %s: %w", f.dir.path, err)
	}
	return name, nil
}
