package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// missing is what a house does without that was opened while its catalog was away. Of projects it knows
// what its configuration declares and what it knew before, of accounts nothing: what is for everybody
// is served, and all else is Unavailable, whether it is there or not.
type missing struct {
	why   atomic.Pointer[error] // nil: nothing is missing any more
	found atomic.Bool           // the catalog is there, and what it says is to be put in force
}

// error says what is missing, or nil.
func (m *missing) error() error {
	if why := m.why.Load(); why != nil {
		return *why
	}
	return nil
}

// What is missing is said again from time to time, so that whoever looks at a terminal has it before his
// eyes, and a log is not filled by it.
const (
	sayOther = 10 * time.Second // what is not said as it was the last time
	saySame  = time.Minute
)

// seek looks for what is missing until it is there, and keeps in mind what it says until ctx ends.
func (h *House) seek(ctx context.Context, s Storage) error {
	wait, said, saidAt := beginEvery, "", time.Time{}
	for h.missing.error() != nil {
		err := h.data.begin(ctx, s)
		if errors.Is(err, errOtherBucket) {
			return err
		}
		if err == nil {
			h.missing.found.Store(true)
			err = h.putInForce(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			break
		}
		h.missing.why.Store(&err)
		if text, since := err.Error(), time.Since(saidAt); since >= saySame || text != said && since >= sayOther {
			h.log.Error("not all can be served, it is tried again", "err", err)
			said, saidAt = text, time.Now()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, mostBetween)
	}
	return h.keepInMind(ctx, s)
}

// become makes a house whole whose catalog has come back. It is for Run's goroutine.
func (h *House) become(ctx context.Context) error {
	if !h.missing.found.Load() {
		return h.missing.error()
	}
	next, err := settle(ctx, h.data.Catalog, h.cfg)
	if err != nil {
		return err
	}
	if err := h.access.Begin(ctx); err != nil {
		return err
	}
	if err := h.estate.Follow(ctx); err != nil {
		return err
	}
	before := h.missing.why.Swap(nil)
	if err := h.enforce(h.revealed(ctx, h.cfg), next); err != nil {
		h.missing.why.Store(before)
		return err
	}
	h.log.Info("the "+lacking(*before)+" is there, all is served", "projects", h.serves())
	return nil
}

// declared is a configuration with those projects alone that it declares itself, or without any. A
// built-in one may have made way for another of its name, which only the catalog knows. And where the
// catalog has never been there nothing may be served: it would be kept, and be content then that the
// catalog does not know.
func (cfg Config) declared(worked bool) Config {
	cfg.Projects = slices.DeleteFunc(slices.Clone(cfg.Projects), func(p Project) bool { return p.Builtin || !worked })
	cfg.Hosts = maps.Clone(cfg.Hosts)
	maps.DeleteFunc(cfg.Hosts, func(_, project string) bool { return !cfg.proxy(project) })
	cfg.DefaultProject = ""
	return cfg
}

// surely is a route for as long as it is not known what projects there are: only what a request names is
// meant by it. What looks like a repository of the default project may be that of another one, and its
// name is nothing to tell an upstream (FAULTS A11).
func (h *House) surely(repo registry.Repo, ns, name string) error {
	why := h.missing.error()
	first, _, _ := strings.Cut(name, "/")
	if why == nil || ns != "" || first == repo.Project {
		return nil
	}
	return &registry.Fault{
		Code: registry.Unavailable, Message: "what is served here is not known now, because the " + lacking(why) + " is away: try again later",
		RetryAfter: mostBetween, Err: why,
	}
}

// blind says why nothing at all can be served, or nil.
func (h *House) blind() error {
	why := h.missing.error()
	if why == nil {
		return nil
	}
	if served := h.inForce.Load(); served != nil && served.public {
		return nil
	}
	return fmt.Errorf("nothing is known that could be served: %w", why)
}

// closed answers instead of pages and of the REST API while nobody can be known: 503 and when to come
// back.
func (h *House) closed(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintln(w, "The "+lacking(h.missing.error())+" is away, without which nobody is known here. It is looked for: try again in a few seconds.")
}

// unsure says that accounts are not known, or not any more.
func (h *House) unsure() error {
	if h.access.Sure() {
		return nil
	}
	return errors.New("who may do what is not known, so that only what is for everybody is served")
}

// answers asks the catalog something that costs next to nothing.
func answers(ctx context.Context, db *catalog.DB) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := db.Generation(ctx)
	return err == nil
}
