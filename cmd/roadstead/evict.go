package main

import (
	"context"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"roadstead/cache"
)

// Evict is the command of that name.
type Evict struct {
	onDirectory
}

// Help is the long help.
func (e *Evict) Help() string {
	return `Removes the least recently used content beyond "storage.max_size", or as much as the disk lacks of "storage.floor", as the server does by itself: nothing pinned, and nothing that a project still has to keep. It is for a server that is stopped, to make room before it starts again, and for trying limits out.`
}

// Run evicts once.
func (e *Evict) Run(std streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := e.load()
	if err != nil {
		return err
	}
	if !hasCatalog(cfg.Storage) {
		return fmt.Errorf("there is no catalog in %s, so there is nothing to evict; name the data directory with --data", cfg.Storage.Directory)
	}
	data, err := openData(ctx, cfg.Storage)
	if err != nil {
		return err
	}
	defer data.Close()
	var u upstreams
	defer u.Close()
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := newCache(cfg, data, &u, cache.Config{Log: log})
	if err != nil {
		return err
	}
	done, err := c.Evict(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "evicted %d pieces of content, %s\n", done.Count, bytesText(done.Bytes))
	switch {
	case done.Short > 0:
		return fmt.Errorf("%s more should go and may not: it is pinned or was used within \"keep\"; lower keep, raise max_size, or make room on the disk", bytesText(done.Short))
	case done.Count == 0 && cfg.Storage.MaxSize == 0 && cfg.Storage.MaxShare == 0:
		fmt.Fprintln(std.out, `more than "storage.floor" is free; to make room under a limit, set "max_size" below "storage" in the configuration, such as 100GiB or 80%`)
	}
	return nil
}
