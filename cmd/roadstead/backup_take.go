package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

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
