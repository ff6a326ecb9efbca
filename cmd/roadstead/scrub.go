package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
)

// Scrub is the command of that name.
type Scrub struct {
	onDirectory
}

// Help is the long help.
func (s *Scrub) Help() string {
	return `Reads everything that is stored and compares it with its digest. What is damaged is reported as a line on stdout and moved to quarantine/ in the data directory, so that it comes from upstream again when it is next asked for. What was pushed comes from nowhere: its tags stay, and pushing it again heals it. What cannot be read is reported and left where it is.

It may run beside "serve", and it reads as fast as the disk can: give it a quiet hour. The exit status is 1 when anything was found.`
}

// Run scrubs a data directory.
func (s *Scrub) Run(std streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := s.load()
	if err != nil {
		return err
	}
	dir := cfg.Storage.Directory
	content, err := cfg.Storage.holds(ctx)
	if err != nil {
		return err
	}
	if !content && (cfg.Storage.S3.Bucket != "" || !exists(dir, layoutFolder)) {
		return fmt.Errorf("there is no %s in %s, so there is nothing to scrub; name the directory that \"docker\" is in with --data", layoutFolder, cfg.Storage.Place())
	}
	// A directory that is not ours yet gets no catalog by being looked at.
	var data *Data
	if hasCatalog(cfg.Storage) {
		data, err = shareOwn(ctx, cfg.Storage)
	} else {
		data, err = contentOnly(cfg.Storage.cold())
	}
	if err != nil {
		return err
	}
	found, err := scrub(ctx, dir, data, std)
	if err := errors.Join(err, data.Close()); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d pieces of content (%s) read: %d damaged, of which %d are in quarantine now, and %d could not be read\n",
		found.Checked, bytesText(found.Bytes), found.Damaged, found.Quarantined, found.Unreadable)
	if found.Damaged+found.Unreadable > 0 {
		return fmt.Errorf("damage was found; look at the disk, and at quarantine/ in %s before you delete it", cfg.Storage.Place())
	}
	return nil
}

// scrub reads everything and tells the catalog what has gone.
func scrub(ctx context.Context, dir string, data *Data, std streams) (storage.ScrubReport, error) {
	p := newProgress(std, "scrubbing", 0, bytesText)
	var gone []registry.Digest
	report, err := data.Store.Scrub(ctx, func(e storage.ScrubEvent) {
		p.SetTotal(e.Total)
		p.Set(e.Done)
		switch {
		case e.Err == nil:
		case e.Quarantined:
			gone = append(gone, e.Digest)
			p.Found("damaged, in quarantine now: %v", e.Err)
		case e.Digest == "":
			p.Found("not read: %v", e.Err)
		default:
			p.Found("%s: %v", e.Digest, e.Err)
		}
	})
	p.End()
	if data.Catalog != nil && len(gone) > 0 {
		// Also after an interruption: what was moved away is away.
		err = errors.Join(err, forget(context.WithoutCancel(ctx), dir, data, gone))
	}
	return report, err
}

// scrub is that of a running server: what is damaged is logged.
func (h *House) scrub(ctx context.Context, step func(done, total int64)) (string, error) {
	var gone []registry.Digest
	report, err := h.data.Store.Scrub(ctx, func(e storage.ScrubEvent) {
		step(e.Done, e.Total)
		if e.Quarantined {
			gone = append(gone, e.Digest)
		}
		if e.Err != nil {
			h.log.Error("scrub", "digest", e.Digest, "quarantined", e.Quarantined, "err", e.Err)
		}
	})
	if len(gone) > 0 {
		err = errors.Join(err, forget(context.WithoutCancel(ctx), h.cfg.Storage.Directory, h.data, gone))
	}
	return fmt.Sprintf("%d pieces of content read, %d damaged, %d of them set aside, %d not readable",
		report.Checked, report.Damaged, report.Quarantined, report.Unreadable), err
}

// forget takes content that was moved away out of the catalog, unless a server that is running
// has healed it meanwhile. What still refers to it brings it back from upstream. Its links are
// taken out of the layout by such a server, which alone knows what it is just bringing; without
// one it is done here. What a hosted project has is not forgotten: its tags and the layers below it
// would go, of which nobody else has any, and a push heals it where it is.
func forget(ctx context.Context, dir string, data *Data, gone []registry.Digest) error {
	// The store is asked before anybody waits for us to have written: it may be far away.
	type loss struct {
		digest registry.Digest
		at     time.Time
	}
	var lost []loss
	for _, d := range gone {
		at := time.Now()
		if _, err := data.Store.Stat(ctx, d); errors.Is(err, storage.ErrNotFound) {
			lost = append(lost, loss{d, at})
		}
	}
	var removals []catalog.Removal
	err := data.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, l := range lost {
			r, ok, err := tx.ForgetLost(l.digest, l.at)
			if err != nil {
				return err
			}
			if ok {
				removals = append(removals, r)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take what is in quarantine out of the catalog: %w", err)
	}
	if data.Catalog.Shared() {
		var errs []error
		for _, r := range removals {
			if err := accord.Clear(ctx, data.Store, data.Catalog, r, nil); !errors.Is(err, catalog.ErrNotOurs) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	lock, err := storage.Lock(dir)
	if err != nil {
		return nil // the removals are listed, and whoever has the directory finishes them
	}
	defer lock.Close()
	var errs []error
	for _, r := range removals {
		if err := cache.Unlink(ctx, data.Store, r); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, data.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.Removed(r) }))
	}
	return errors.Join(errs...)
}
