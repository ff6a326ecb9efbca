package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"roadstead/registry/hosted"
	"roadstead/storage/catalog"
)

// GC is the command of that name.
type GC struct {
	onDirectory
	DryRun bool `help:"Only say what would go. May run beside a server."`
}

// Help is the long help.
func (c *GC) Help() string {
	return `Removes the blobs of hosted projects that no manifest has referred to for the time of grace ("collect.grace"), and what no repository has any more. A running server does the same by itself ("collect.every"), so this is for one that is stopped; with --dry-run it may run beside one.

Each line says what goes: a blob of a repository, or content of the disk.`
}

// Run collects once.
func (c *GC) Run(std streams) error {
	return withHosted(c.onDirectory, c.DryRun, std, func(ctx context.Context, r *hosted.Registry) error {
		done, err := r.Collect(ctx, c.DryRun)
		for _, g := range done.Gone {
			if g.Repo.Project != "" {
				fmt.Fprintf(std.out, "%s@%s  %s\n", g.Repo, g.Digest, bytesText(g.Size))
			} else {
				fmt.Fprintf(std.out, "%s  %s\n", g.Digest, bytesText(g.Size))
			}
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "%s %d blobs of repositories, and from the disk %d pieces of content, %s\n",
			either(c.DryRun, "would remove", "removed"), done.Links, done.Blobs, bytesText(done.Bytes))
		return nil
	})
}

// ProjectRetain is the command of that name.
type ProjectRetain struct {
	onDirectory
	Name   string `arg:"" help:"Of a project that people push to."`
	DryRun bool   `help:"Only say what would go. May run beside a server."`
}

// Help is the long help.
func (c *ProjectRetain) Help() string {
	return `Retires the tags of a project that none of its rules keeps, and the manifests that this leaves without a tag. What is immutable stays, and so do signatures and what else refers to something that stays. A running server does the same by itself ("collect.every"), so this is for one that is stopped; with --dry-run it may run beside one.`
}

// Run retains once.
func (c *ProjectRetain) Run(std streams) error {
	return withHosted(c.onDirectory, c.DryRun, std, func(ctx context.Context, r *hosted.Registry) error {
		if !r.Has(c.Name) {
			return fmt.Errorf("there is no hosted project %s; \"roadstead project list\" lists them", c.Name)
		}
		gone, err := r.Retain(ctx, c.Name, c.DryRun)
		for _, g := range gone {
			if g.Tag != "" {
				fmt.Fprintf(std.out, "%s:%s  %s\n", g.Repo, g.Tag, g.Digest)
			} else {
				fmt.Fprintf(std.out, "%s@%s\n", g.Repo, g.Digest)
			}
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "%s %d tags and manifests\n", either(c.DryRun, "would retire", "retired"), len(gone))
		return nil
	})
}

// withHosted calls fn with the hosted projects of a data directory: beside a server if it changes
// nothing, and alone if it does.
func withHosted(s onDirectory, dry bool, std streams, fn func(context.Context, *hosted.Registry) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := s.load()
	if err != nil {
		return err
	}
	dir := cfg.Storage.Directory
	if !hasCatalog(cfg.Storage) {
		return fmt.Errorf("there is no catalog in %s, so there is nothing that could go; name the data directory with --data", dir)
	}
	open := openData
	if dry {
		open = shareData
	}
	data, err := open(ctx, cfg.Storage)
	if err != nil && !dry {
		return fmt.Errorf("%w; with --dry-run this may run beside a server, which does the rest by itself", err)
	}
	if err != nil {
		return err
	}
	defer data.Close()
	r, err := hosted.New(hostedConfig(cfg, data, slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))))
	if err != nil {
		return err
	}
	now, err := readHolding(ctx, data.Catalog)
	if err != nil {
		return err
	}
	if err := r.SetProjects(now.hosted()); err != nil {
		return err
	}
	if dry {
		return fn(ctx, r)
	}
	held := data.Catalog.Hold(ctx, hosted.Lease, actor, func(ctx context.Context, _ string) { err = fn(ctx, r) })
	if errors.Is(held, catalog.ErrHeld) {
		return errors.New("a node of the cluster does that just now: wait for its end, or stop it in the console")
	}
	return errors.Join(err, held)
}
