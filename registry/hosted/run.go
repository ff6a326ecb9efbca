package hosted

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"roadstead/storage/catalog"
)

const (
	// tidyEvery is how often pulls are written down, and idle uploads looked for.
	tidyEvery = time.Minute

	// firstCollection is how long after the start the first collection is at most: one that
	// restarts every night has to collect too, and not while everybody comes back.
	firstCollection = time.Hour
)

// Run carries out orders, notes what was pulled and throws away idle uploads, until ctx ends; and while
// it leads, it finishes what a crash has left, and then retains and collects by plan. In the end uploads
// under way are put away for the next start. What goes wrong is logged and tried again; it returns nil.
func (r *Registry) Run(ctx context.Context) error {
	var cleaner sync.WaitGroup
	cleaner.Go(func() { r.lead(ctx, r.keep) })
	cleaner.Go(func() { r.clean(ctx) })
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-tidy.C:
			r.expire(now)
			if err := r.writePulls(ctx); err != nil && ctx.Err() == nil {
				r.fault("note what was pulled", err)
			}
		}
	}
	cleaner.Wait()
	r.suspendAll()
	last, cancel := settle(ctx)
	defer cancel()
	if err := r.writePulls(last); err != nil {
		r.fault("note what was pulled", err)
	}
	return nil
}

// keep is what one process does for all, until ctx ends.
func (r *Registry) keep(ctx context.Context) {
	finished := r.finished(ctx)
	r.cleaning.lead(true)
	r.replan()
	again := time.NewTicker(tidyEvery)
	defer again.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-again.C:
			finished = finished || r.finished(ctx)
		}
	}
	r.cleaning.lead(false)
	r.replan()
}

// writePulls writes down what was pulled since the last time. What cannot be written waits for the
// next time: a retention must not go by less.
func (r *Registry) writePulls(ctx context.Context) error {
	tags, manifests := r.pulls.take()
	if len(tags) == 0 && len(manifests) == 0 {
		return nil
	}
	err := r.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for p, at := range tags {
			if err := tx.Pulled(p.repo, p.tag, at); err != nil {
				return err
			}
		}
		return tx.Touch(manifests, time.Now())
	})
	if err != nil {
		r.pulls.putBack(tags, manifests)
		return fmt.Errorf("write down pulls: %w", err)
	}
	return nil
}

// finished is finish for keep, which tries again what the disk, the bucket or the catalog did not let be
// done at the start.
func (r *Registry) finished(ctx context.Context) bool {
	err := r.finish(ctx)
	if err != nil && ctx.Err() == nil {
		r.fault("finish what was deleted", err)
	}
	return err == nil
}

// finish brings to their end the deletions and removals that a crash, or a disk in trouble, cut
// short.
func (r *Registry) finish(ctx context.Context) error {
	return errors.Join(r.finishUnlinks(ctx), r.finishRemovals(ctx), r.catalog.DropEnded(ctx))
}
