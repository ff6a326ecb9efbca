package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"syscall"

	"roadstead/storage"
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
		if err := dir.prune(b.Keep, name, std); err != nil {
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
