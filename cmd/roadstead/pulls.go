package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// pulls counts the manifests that were given out of each repository, until they are written to the
// catalog: people want to see what is used, and no pull should cost a write. What was counted since
// the last time is lost in a crash.
type pulls struct {
	mu  sync.Mutex
	all map[registry.Repo]pulled
}

type pulled struct {
	times int64
	last  time.Time
}

const (
	pullsEvery = time.Minute

	// mostPulled bounds the repositories between two writes, to some MiB.
	mostPulled = 1 << 15
)

// add counts one.
func (p *pulls) add(repo registry.Repo, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, known := p.all[repo]
	if !known && len(p.all) >= mostPulled {
		return
	}
	if p.all == nil {
		p.all = map[registry.Repo]pulled{}
	}
	p.all[repo] = pulled{was.times + 1, now}
}

// take returns what was counted and begins anew.
func (p *pulls) take() map[registry.Repo]pulled {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.all
	p.all = nil
	return all
}

// write writes down what was counted. What cannot be written is not counted again: a figure is not
// worth memory while a database is away.
func (p *pulls) write(ctx context.Context, db *catalog.DB) error {
	all := p.take()
	if len(all) == 0 {
		return nil
	}
	err := db.Update(ctx, func(tx *catalog.Tx) error {
		for repo, one := range all {
			if err := tx.PulledFrom(repo, one.times, one.last); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write down pulls: %w", err)
	}
	return nil
}

// run writes every minute until ctx ends, and once more then.
func (p *pulls) run(ctx context.Context, db *catalog.DB, log *slog.Logger) error {
	tick := time.NewTicker(pullsEvery)
	defer tick.Stop()
	for {
		last := false
		select {
		case <-tick.C:
		case <-ctx.Done():
			last = true
		}
		writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		if err := p.write(writing, db); err != nil {
			log.Warn("pulls are not counted", "err", err)
		}
		cancel()
		if last {
			return nil
		}
	}
}
