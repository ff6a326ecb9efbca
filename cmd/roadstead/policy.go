package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Policies are the commands that overrule what proxies make of signatures and of tags that move.
type Policies struct {
	Held     PolicyHeld     `cmd:"" help:"List the tags that wait for the cooldown of their project."`
	Release  PolicyRelease  `cmd:"" help:"Let a tag follow upstream that waits."`
	Override PolicyOverride `cmd:"" help:"Have a digest served without a good signature."`
	Withdraw PolicyWithdraw `cmd:"" help:"Take an override back."`
}

// PolicyHeld is the command of that name.
type PolicyHeld struct {
	onCatalog
}

// Run lists what waits.
func (c *PolicyHeld) Run(std streams) error {
	return c.with(func(ctx context.Context, cfg Config, data *Data) error {
		holding, err := readHolding(ctx, data.Catalog)
		if err != nil {
			return err
		}
		all, err := holding.whole(cfg)
		if err != nil {
			return err
		}
		waits := map[string]time.Duration{}
		for _, p := range all.Projects {
			waits[p.Name] = p.Cooldown
		}
		held, err := data.Catalog.Holds(ctx)
		if err != nil {
			return err
		}
		return aligned(std.out, func(row func(string, ...any)) {
			row("TAG\tUPSTREAM\tSINCE\tFOLLOWS")
			for _, h := range held {
				until := h.SeenAt.Add(waits[h.Repo.Project])
				follows := timeText(until, "-")
				if h.Released || !time.Now().Before(until) {
					follows = "when it is next asked for"
				}
				row("%s:%s\t%s\t%s\t%s", h.Repo, h.Tag, h.Digest, timeText(h.SeenAt, "-"), follows)
			}
		})
	})
}

// PolicyRelease is the command of that name.
type PolicyRelease struct {
	onCatalog
	Image string `arg:"" help:"Project, repository and tag, such as docker.io/library/busybox:1.36."`
}

// Run releases a tag.
func (c *PolicyRelease) Run(std streams) error {
	at := strings.LastIndexByte(c.Image, ':')
	if at < 0 || registry.CheckTag(c.Image[at+1:]) != nil {
		return fmt.Errorf("%q has no tag; write project, repository and tag, such as docker.io/library/busybox:1.36", c.Image)
	}
	repo, tag := registry.SplitRepo(c.Image[:at]), c.Image[at+1:]
	var d registry.Digest
	err := c.overrule(registry.Update, c.Image, "the tag follows upstream now", func(tx *catalog.Tx) (err error) {
		d, err = tx.Release(repo, tag)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return fmt.Errorf("%s does not wait for anything; \"roadstead policy held\" lists what does", c.Image)
	}
	if err == nil {
		fmt.Fprintf(std.out, "%s follows to %s when it is next asked for, within the ttl of its project\n", c.Image, d)
	}
	return err
}

// PolicyOverride is the command of that name.
type PolicyOverride struct {
	onCatalog
	Image  string `arg:"" help:"Project, repository and digest, such as docker.io/library/busybox@sha256:…"`
	Reason string `required:"" placeholder:"TEXT" help:"Why, for the audit log and for whoever asks later."`
}

// Run lets a digest through.
func (c *PolicyOverride) Run(std streams) error {
	repo, d, err := splitDigest(c.Image)
	if err != nil {
		return err
	}
	reason := strings.TrimSpace(c.Reason)
	if reason == "" {
		return errors.New("--reason is empty; say why it is served without a signature")
	}
	err = c.overrule(registry.Update, c.Image, "served without a signature: "+reason, func(tx *catalog.Tx) error {
		return cache.Override(tx, repo, d, actor, reason)
	})
	if err == nil {
		fmt.Fprintf(std.out, "%s is served without a signature, and what it names\n", c.Image)
	}
	return err
}

// PolicyWithdraw is the command of that name.
type PolicyWithdraw struct {
	onCatalog
	Image string `arg:"" help:"As it was given to override."`
}

// Run takes an override back.
func (c *PolicyWithdraw) Run(std streams) error {
	repo, d, err := splitDigest(c.Image)
	if err != nil {
		return err
	}
	err = c.overrule(registry.Delete, c.Image, "not served without a signature any more", func(tx *catalog.Tx) error {
		return cache.Withdraw(tx, repo, d)
	})
	if err == nil {
		fmt.Fprintf(std.out, "%s is not let through any more\n", c.Image)
	}
	return err
}

func splitDigest(image string) (registry.Repo, registry.Digest, error) {
	name, text, ok := strings.Cut(image, "@")
	d, err := registry.ParseDigest(text)
	if !ok || err != nil {
		return registry.Repo{}, "", fmt.Errorf("%q has no digest; write project, repository and digest, such as docker.io/library/busybox@sha256:…", image)
	}
	return registry.SplitRepo(name), d, nil
}

// overrule does something about an image of a proxy and notes it in the audit log, or neither.
func (c *onCatalog) overrule(action registry.Action, image, detail string, fn func(*catalog.Tx) error) error {
	return c.with(func(ctx context.Context, cfg Config, data *Data) error {
		project := registry.SplitRepo(image).Project
		holding, err := readHolding(ctx, data.Catalog)
		if err != nil {
			return err
		}
		if p, made := holding.project(project); !cfg.proxy(project) && (!made || p.Hosted()) {
			return fmt.Errorf("there is no proxy %s; \"roadstead project list\" lists projects", registry.Clip(project))
		}
		return data.Catalog.Durable(ctx, func(tx *catalog.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			return tx.AddAudit(catalog.Entry{At: time.Now(), Actor: actor, Action: action, Kind: access.Cache, Resource: image, Outcome: registry.Done, Detail: detail})
		})
	})
}
