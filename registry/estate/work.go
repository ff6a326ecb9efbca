package estate

import (
	"context"
	"fmt"

	"roadstead/registry"
	"roadstead/registry/access"
)

// Eviction is the kind of jobs that make room for what proxies are about to cache.
const Eviction registry.Kind = "eviction"

// StartEviction makes room by the rules of the configuration.
func (e *Estate) StartEviction(ctx context.Context, p registry.Principal) (Job, error) {
	return e.begin(ctx, p, Eviction, "", "", func(ctx context.Context, _ func(done, total int64)) (string, error) {
		done, err := e.config.Cache.Evict(ctx)
		return fmt.Sprintf("%d pieces of content (%d bytes) evicted", done.Count, done.Bytes), err
	})
}

// StartScrub reads all stored content again and sets aside what is damaged.
func (e *Estate) StartScrub(ctx context.Context, p registry.Principal) (Job, error) {
	return e.begin(ctx, p, access.Scrub, "", "bytes", e.config.Scrub)
}

// begin starts a job of the system and records who did.
func (e *Estate) begin(ctx context.Context, p registry.Principal, kind registry.Kind, target, unit string, do work) (Job, error) {
	if err := e.may(p, registry.Create, kind, ""); err != nil {
		return Job{}, err
	}
	one, err := e.jobs.start(kind, target, p.Name(), unit, do)
	if err != nil {
		return Job{}, err
	}
	return one, e.record(ctx, deed{p, registry.Create, kind, fmt.Sprint(one.ID), target})
}
