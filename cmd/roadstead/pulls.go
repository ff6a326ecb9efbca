package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// pulls remembers which manifests were given out, and to whom, until it is written to the catalog:
// people want to see what is used and by whom, and no pull should cost a write. What was remembered
// since the last time is lost in a crash.
//
// A client that pulls an image for its platform pulls the index first and then the manifest of the
// platform. Each is a pull of itself, so both have who it was.
type pulls struct {
	mu    sync.Mutex
	repos map[registry.Repo]pulled
	last  map[given]catalog.LastPull
}

// pulled counts what was given out of a repository.
type pulled struct {
	times int64
	last  time.Time
}

// given is a manifest that a repository gave out.
type given struct {
	repo   registry.Repo
	digest registry.Digest
}

const (
	pullsEvery = time.Minute

	// mostPulled bounds the repositories and the manifests between two writes, to some 20 MiB.
	mostPulled = 1 << 15

	// pullsAtOnce is how many are written in one transaction, which takes some 20 ms: others want
	// to write too.
	pullsAtOnce = 500
)

// pulled notes a pull of one who is anybody where there are no accounts.
func (h *House) pulled(p registry.Principal, repo registry.Repo, d registry.Digest) {
	who := ""
	if p != nil {
		who = p.Name()
	}
	h.pulls.add(given{repo, d}, catalog.LastPull{At: time.Now(), By: who})
}

// add notes one.
func (p *pulls) add(what given, by catalog.LastPull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.repos == nil {
		p.repos = map[registry.Repo]pulled{}
	}
	if was, known := p.repos[what.repo]; known || len(p.repos) < mostPulled {
		p.repos[what.repo] = pulled{was.times + 1, by.At}
	}
	p.note(what, by)
}

// note notes who pulled a manifest last. p.mu is held.
func (p *pulls) note(what given, by catalog.LastPull) {
	if p.last == nil {
		p.last = map[given]catalog.LastPull{}
	}
	was, known := p.last[what]
	if known && was.At.After(by.At) || !known && len(p.last) >= mostPulled {
		return
	}
	p.last[what] = by
}

// take returns what was noted and begins anew.
func (p *pulls) take() (map[registry.Repo]pulled, map[given]catalog.LastPull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	repos, last := p.repos, p.last
	p.repos, p.last = nil, nil
	return repos, last
}

// write writes down what was noted. What cannot be written is not noted again: a figure is not worth
// memory while a database is away.
func (p *pulls) write(ctx context.Context, db *catalog.DB) error {
	repos, last := p.take()
	var writes []func(*catalog.Tx) error
	for repo, one := range repos {
		writes = append(writes, func(tx *catalog.Tx) error { return tx.PulledFrom(repo, one.times, one.last) })
	}
	early := map[given]catalog.LastPull{}
	for what, by := range last {
		writes = append(writes, func(tx *catalog.Tx) error {
			kept, err := tx.PutLastPull(what.repo, what.digest, by)
			if !kept {
				early[what] = by
			}
			return err
		})
	}
	for some := range slices.Chunk(writes, pullsAtOnce) {
		err := db.Update(ctx, func(tx *catalog.Tx) error {
			for _, write := range some {
				if err := write(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write down pulls: %w", err)
		}
	}
	p.again(early, time.Now())
	return nil
}

// again notes once more what the catalog does not have: it is told of what came from upstream a
// moment later than the client who pulls it first. What it does not have a minute later is gone.
func (p *pulls) again(early map[given]catalog.LastPull, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for what, by := range early {
		if now.Sub(by.At) < pullsEvery {
			p.note(what, by)
		}
	}
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
