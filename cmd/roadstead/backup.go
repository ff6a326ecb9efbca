package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Backup is the command of that name.
type Backup struct {
	onDirectory
	Content string `enum:"none,hosted,all" default:"hosted" help:"Which content is in it: \"hosted\", what was pushed, which is nowhere else; \"all\", what proxies keep as well; \"none\", for who keeps the content otherwise."`
	Keep    int    `placeholder:"N" help:"Remove all but the N newest backups of this folder afterwards. 0: none is removed."`
	Verify  bool   `help:"Read the backup that DIR is, and say whether all of it is as it was written. Nothing is changed."`
	Dir     string `arg:"" placeholder:"DIR" help:"The folder that backups are in, each in a folder of its own; with --verify one of these."`
}

// Help is the long help.
func (b *Backup) Help() string {
	return `Writes what makes this registry this one into a new folder of DIR, beside a running server or without one, and prints its name: the catalog as it is at one moment (accounts, robots, projects, rules, tags, audit log), the keys that sign tokens and open stored passwords, the configuration file, and the content that was pushed.

    roadstead backup /var/backups/roadstead --keep 14
    roadstead backup --verify /var/backups/roadstead/roadstead-20261129T031500Z

A push that is under way meanwhile is in it whole or not at all. What an earlier backup in DIR has is not copied again: both have the same file. A backup has its name when it is whole and on the disk; one that fails, be it because the disk is full, leaves nothing.

To restore: stop the server, copy the folder "data" of a backup to where the data directory was, give it to whom the server runs as, and start the server. Cached content that is not in the backup comes from upstream again.

Whoever has a backup has all passwords that are stored in it: its folder is for its owner only. Files that the configuration names, such as certificates, are not in it; they are listed in backup.json. What a bucket and what PostgreSQL has are backed up by their own means: of a catalog in PostgreSQL this command says how.

The exit status is 1 when something that was pushed is damaged in the storage; the backup is made all the same, without it.`
}

// Run backs up, or verifies.
func (b *Backup) Run(std streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if b.Verify {
		return verifyBackup(ctx, b.Dir, std)
	}
	if b.Keep < 0 {
		return fmt.Errorf("--keep %d: write how many backups stay, or leave it out", b.Keep)
	}
	cfg, err := b.load()
	if err != nil {
		return err
	}
	if err := b.check(cfg); err != nil {
		return err
	}
	dir, err := openBackups(b.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	data, err := contentOnly(cfg.Storage.cold())
	if err != nil {
		return err
	}
	taking := taking{cfg: cfg, std: std, dir: dir, data: data, content: b.Content}
	if cfg.Storage.S3.Bucket != "" {
		taking.content = "none"
	}
	name, err := taking.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted; nothing is left of it")
	}
	if err = full(err); errors.Is(err, storage.ErrFull) {
		err = fmt.Errorf("%w; make room in %s, or remove old backups with --keep N: nothing is left of this one", err, b.Dir)
	}
	if err := errors.Join(err, data.Close(), giveAway(cfg.Storage.Directory)); err != nil {
		return err
	}
	if b.Keep > 0 && taking.damaged == 0 { // else what is damaged may be whole in an old one
		if err := dir.prune(b.Keep, std); err != nil {
			return err
		}
	}
	fmt.Fprintln(std.out, filepath.Join(dir.path, name))
	if taking.damaged > 0 {
		return fmt.Errorf("%d pieces of content that were pushed are damaged in the storage or gone, and not in the backup: \"roadstead scrub\" finds them all, and pushing them again heals them", taking.damaged)
	}
	return nil
}

// check refuses what this command does not back up, and says what does.
func (b *Backup) check(cfg Config) error {
	s := cfg.Storage
	if s.Catalog != "" {
		bucket := ""
		if s.S3.Bucket != "" {
			bucket = ", and then the bucket, best by its own versioning (a deletion that is younger than the dump can be taken back)"
		}
		return fmt.Errorf(`the catalog is in PostgreSQL, which is backed up by its own means: run
    pg_dump --format=custom --file=roadstead.dump %q
with the password in PGPASSWORD or ~/.pgpass%s; keep the configuration, and cluster.secret apart from the dump, whose keys it opens. To restore:
    pg_restore --clean --if-exists --no-owner --dbname=URL roadstead.dump
while no node runs`, s.Catalog, bucket)
	}
	if s.S3.Bucket != "" && b.Content == "all" {
		return fmt.Errorf("the content is in %s: have the bucket keep versions, or copy it by its own means, and leave out --content", s.Place())
	}
	if !exists(s.Directory, catalogFile) {
		return fmt.Errorf("there is no %s in %s, so there is nothing to back up: name the data directory with --data or storage.directory", catalogFile, s.Directory)
	}
	if exists(s.Directory, adoptingFile) {
		return fmt.Errorf("%s is adopted in part only: run \"roadstead adopt %s\" again first", s.Directory, s.Directory)
	}
	if !elsewhere(filepath.Join(s.Directory, layoutFolder), realPath(b.Dir)) {
		return fmt.Errorf("%s is where the content is: name a folder elsewhere, best on another disk", b.Dir)
	}
	return nil
}

// realPath is where a path leads, as far as it is there.
func realPath(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(realPath(parent), filepath.Base(path))
	}
	return path
}

// taking is a backup that is being made.
type taking struct {
	cfg     Config
	std     streams
	dir     *backups
	data    *Data
	content string // "none", "hosted" or "all"

	backup  storage.Backup
	catalog *catalog.DB // the copy
	record  backupRecord
	has     map[registry.Digest]bool
	lost    map[registry.Digest]error // what should be in it and could not be read
	linked  int64                     // bytes that an earlier backup had
	damaged int                       // of what was pushed
}

// run makes a backup and returns the name of its folder.
func (t *taking) run(ctx context.Context) (name string, err error) {
	f, err := t.dir.begin(t.cfg)
	if err != nil {
		return "", err
	}
	defer func() {
		if t.catalog != nil {
			err = errors.Join(err, t.catalog.Close())
		}
		if err != nil {
			err = errors.Join(err, f.abandon())
		}
	}()
	t.record = backupRecord{Format: backupFormat, At: f.at, Version: thisBuild().Version, From: t.cfg.Storage.Directory, Content: t.content}
	t.backup = storage.Backup{From: t.data.Store, Dir: t.dir.root, To: filepath.Join(f.name, backupData), Before: t.dir.before(), Wrote: f.wrote}
	t.has = map[registry.Digest]bool{}
	if err := t.contents(ctx, f); err != nil {
		return "", err
	}
	if err := t.forget(ctx); err != nil {
		return "", err
	}
	if err := t.links(ctx); err != nil {
		return "", err
	}
	err = t.catalog.Close()
	t.catalog = nil
	if err == nil {
		err = f.sum(filepath.Join(backupData, catalogFile))
	}
	if err == nil {
		err = t.keys()
	}
	if err == nil && t.cfg.File != "" {
		t.record.Elsewhere, err = f.configuration(t.cfg.File)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", err
	}
	if name, err = f.finish(t.record); err != nil {
		return "", err
	}
	fmt.Fprintf(t.std.err, "backed up the catalog and %d pieces of content (%s, of which earlier backups had %s)\n",
		len(t.has), bytesText(t.record.ContentBytes), bytesText(t.linked))
	for _, file := range t.record.Elsewhere {
		fmt.Fprintf(t.std.err, "the configuration names %s, which is not in it: keep that apart\n", file)
	}
	return name, nil
}

// mostRounds bounds how often a catalog is copied again because of what was removed meanwhile. Each time
// there is only that to do again, so that a second one is nearly always the last.
const mostRounds = 5

// contents copies the catalog and what it says there is. The catalog comes first: what is in it has been
// stored before. What was deleted since is in neither, when the catalog is copied once more.
func (t *taking) contents(ctx context.Context, f *backupFolder) error {
	p := newProgress(t.std, "backing up", 0, bytesText)
	defer p.End()
	for round := 1; ; round++ {
		if err := t.snapshot(ctx, f); err != nil {
			return err
		}
		before := t.lost
		t.lost = map[registry.Digest]error{}
		if err := t.wanted(ctx, func(d registry.Digest) error { return t.copy(ctx, d, p) }); err != nil {
			return err
		}
		again := false
		for d, err := range t.lost {
			_, known := before[d]
			again = again || !known && errors.Is(err, storage.ErrNotFound)
		}
		if !again || round == mostRounds {
			break
		}
	}
	for d, err := range t.lost {
		p.Found("%s: %v; it is not in the backup", d, err)
	}
	return nil
}

// snapshot copies the catalog, in the place of an earlier copy.
func (t *taking) snapshot(ctx context.Context, f *backupFolder) error {
	if t.catalog != nil {
		err := t.catalog.Close()
		t.catalog = nil
		if err == nil {
			err = t.dir.root.Remove(filepath.Join(f.name, backupData, catalogFile))
		}
		if err != nil {
			return err
		}
	}
	to := filepath.Join(t.dir.path, f.name, backupData, catalogFile)
	err := catalog.Snapshot(ctx, filepath.Join(t.cfg.Storage.Directory, catalogFile), to)
	if errors.Is(err, catalog.ErrOtherSchema) {
		return fmt.Errorf("%w: back up with the program that has served it until now, so that this one can be gone back to; an older catalog is brought up to date when \"roadstead serve\" is started", err)
	}
	if err == nil {
		err = t.dir.root.Chmod(filepath.Join(f.name, backupData, catalogFile), 0o600)
	}
	if err != nil {
		return full(err)
	}
	t.catalog, err = catalog.Open(ctx, "sqlite:"+to)
	return err
}

// wanted calls fn for each piece of content that is to be in the backup.
func (t *taking) wanted(ctx context.Context, fn func(registry.Digest) error) error {
	switch t.content {
	case "none":
		return nil
	case "all":
		var all []registry.Digest // nobody may ask the catalog while it lists
		err := t.catalog.Stored(ctx, func(d registry.Digest) error { all = append(all, d); return nil })
		for _, d := range all {
			if err == nil {
				err = fn(d)
			}
		}
		return err
	}
	projects, err := t.catalog.Projects(ctx)
	for _, p := range projects {
		if err == nil {
			err = t.catalog.ProjectContent(ctx, p.Name, func(registry.Repo) bool { return true }, fn)
		}
	}
	return err
}

func (t *taking) copy(ctx context.Context, d registry.Digest, p *progress) error {
	if t.has[d] {
		return nil
	}
	size, linked, err := t.backup.Content(ctx, d)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrDamaged) || errors.Is(err, syscall.EIO):
		t.lost[d] = err
		return nil
	case err != nil:
		return err
	}
	t.has[d] = true
	t.record.Contents++
	t.record.ContentBytes += size
	if linked {
		t.linked += size
	}
	p.Add(size)
	return nil
}

// forgotten is how much of what is not there is forgotten in one transaction.
const forgotten = 1000

// forget has the copy of the catalog say of cached content what is true of the backup: that it is not here,
// as after an eviction. What was pushed stays known, though it be lost: pushing it again heals it.
func (t *taking) forget(ctx context.Context) error {
	if t.content == "none" {
		return nil
	}
	var away []registry.Digest
	err := t.catalog.Stored(ctx, func(d registry.Digest) error {
		if !t.has[d] {
			away = append(away, d)
		}
		return nil
	})
	for len(away) > 0 && err == nil {
		some := away[:min(len(away), forgotten)]
		away = away[len(some):]
		err = t.catalog.Update(ctx, func(tx *catalog.Tx) error {
			for _, d := range some {
				// Nobody uses what is in this copy, be it that the clock of who has used it is ahead.
				r, ok, err := tx.ForgetLost(d, time.Now().AddDate(100, 0, 0))
				if err != nil {
					return err
				}
				if !ok {
					t.damaged++
					continue
				}
				if err := tx.Removed(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

// links writes what the layout says of the repositories, so that what is in the backup can be had without its
// catalog too, by "adopt" or by the stock registry.
func (t *taking) links(ctx context.Context) error {
	if t.content == "none" {
		return nil
	}
	after := ""
	for {
		names, err := t.catalog.Repositories(ctx, after, 1000)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := t.repository(ctx, registry.SplitRepo(name)); err != nil {
				return err
			}
		}
		after = names[len(names)-1]
	}
}

func (t *taking) repository(ctx context.Context, repo registry.Repo) error {
	manifests := map[registry.Digest]bool{}
	err := t.catalog.Links(ctx, repo, func(d registry.Digest, manifest bool) error {
		switch {
		case !t.has[d]:
			return nil
		case manifest:
			manifests[d] = true
			return t.backup.LinkManifest(repo.String(), d)
		}
		return t.backup.LinkBlob(repo.String(), d)
	})
	if err != nil {
		return err
	}
	return t.catalog.RepositoryTags(ctx, repo, func(tag string, is catalog.Tag) error {
		if !manifests[is.Digest] {
			return nil
		}
		return t.backup.Tag(repo.String(), tag, is.Digest, is.ChangedAt)
	})
}

// keys copies the keys. The folder may be somebody else's than ours: what is no file in it is no key, and no
// link is followed out of it.
func (t *taking) keys() error {
	root, err := os.OpenRoot(t.cfg.Storage.Directory)
	if err != nil {
		return fmt.Errorf("back up the keys: %w", err)
	}
	defer root.Close()
	folder, err := root.Open(keysFolder)
	if errors.Is(err, os.ErrNotExist) {
		return nil // no server has been started on it
	}
	if err != nil {
		return fmt.Errorf("back up the keys: %w; they have to be in a folder %s of %s itself, which is no link", err, keysFolder, t.cfg.Storage.Directory)
	}
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	for _, entry := range entries {
		if err != nil {
			break
		}
		if entry.Type().IsRegular() {
			err = t.key(root, filepath.Join(keysFolder, entry.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("back up the keys: %w", err)
	}
	return nil
}

func (t *taking) key(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return t.backup.File(name, f)
}
