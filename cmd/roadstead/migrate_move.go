package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage"
)

// migration is one run of the command. The order is what makes it safe to cut short: content, links to
// it, rows about it, and last the word that all of it is there.
type migration struct {
	cfg    Config
	std    streams
	from   *origin
	to     *Data
	anyway bool // what cannot be read is left out
	marked bool // the catalog says that it is being moved into
	began  time.Time

	mu         sync.Mutex
	hosted     map[string]bool   // projects that people push to
	gone       []registry.Digest // damaged, missing, or not to be read
	unreadable int
	lost       int // of what is gone, that which nobody else has
	odd        int // links that are none
}

// run does as much of it as is not done yet.
func (m *migration) run(ctx context.Context, content, dry bool) error {
	done, err := m.check(ctx, content)
	if err != nil {
		return err
	}
	if !done.IsZero() {
		fmt.Fprintf(m.std.out, "%s was moved at %s: there is nothing to do, start the nodes\n", m.from.dir, timeText(done, ""))
		return nil
	}
	if err := errors.Join(m.checkProjects(ctx), checkKeys(m.cfg.Storage.Directory, m.from.dir)); err != nil {
		return err
	}
	c, plan, err := m.lookAt(ctx)
	if err != nil {
		return err
	}
	rows, err := m.rows(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(m.std.out, "%s has %d pieces of content (%s), %d links to it and %d rows in its catalog\n", m.from.dir, plan.Contents, bytesText(plan.Bytes), plan.Links, rows)
	if there := plan.Contents - plan.ContentsLeft; there > 0 {
		fmt.Fprintf(m.std.out, "%d pieces (%s) are in %s already\n", there, bytesText(plan.Bytes-plan.BytesLeft), m.cfg.Storage.Place())
	}
	if dry {
		fmt.Fprintln(m.std.out, "nothing is in the way, and nothing was copied (--dry-run)")
		return nil
	}
	if err := m.mark(ctx); err != nil {
		return err
	}
	if err := m.content(ctx, c, plan); err != nil {
		return err
	}
	if err := m.catalog(ctx, rows); err != nil {
		return err
	}
	first, err := m.keys(ctx)
	if err != nil {
		return err
	}
	if err := m.finish(ctx); err != nil {
		return err
	}
	m.marked = false
	fmt.Fprintf(m.std.out, "moved to %s in %s; %s was not changed\n", m.cfg.Storage.Place(), time.Since(m.began).Round(time.Second), m.from.dir)
	fmt.Fprintln(m.std.out, first)
	if m.lost > 0 {
		return fmt.Errorf("%d pieces of what was pushed are not there, as the lines above say: push them again, to the new nodes", m.lost)
	}
	return nil
}

// rows is how many the catalog has.
func (m *migration) rows(ctx context.Context) (n int64, err error) {
	tables, err := m.from.catalog.Tables(ctx)
	for _, rows := range tables {
		n += rows
	}
	return n, err
}

// content copies what lies in the directory.
func (m *migration) content(ctx context.Context, c *storage.Copy, plan storage.Plan) error {
	projects, err := m.from.catalog.Projects(ctx)
	if err != nil {
		return err
	}
	m.hosted = map[string]bool{}
	for _, p := range projects {
		m.hosted[p.Name] = true
	}
	p := newTransfer(m.std, "copying content", plan.BytesLeft)
	err = c.Contents(ctx, p.Add, func(d registry.Digest, err error) { m.left(ctx, p, d, err) })
	if err == nil {
		err = m.missing(ctx, p)
	}
	p.End()
	if err != nil {
		return err
	}
	if m.unreadable > 0 && !m.anyway {
		return fmt.Errorf("%d pieces of content could not be read, which may be otherwise in a while, or for another user; with --leave-unreadable they are left out", m.unreadable)
	}
	p = newProgress(m.std, "copying links", plan.Links, countText)
	err = c.Links(ctx, func() { p.Add(1) }, func(problem string) {
		m.mu.Lock()
		m.odd++
		m.mu.Unlock()
		p.Found("left out: %s", problem)
	})
	p.End()
	if err != nil {
		return err
	}
	n, err := c.Prune(ctx)
	if n > 0 {
		fmt.Fprintf(m.std.out, "%d objects were removed from %s again: %s has lost them since they were copied\n", n, m.cfg.Storage.Place(), m.from.dir)
	}
	return err
}

// left notes content that is not copied, and says what becomes of it.
func (m *migration) left(ctx context.Context, p *progress, d registry.Digest, err error) {
	what := "cannot be read"
	switch {
	case errors.Is(err, storage.ErrDamaged):
		what = "damaged, left out"
	case errors.Is(err, storage.ErrNotFound):
		what = "missing"
	}
	repos, of := m.holders(ctx, d)
	m.mu.Lock()
	m.gone = append(m.gone, d)
	if what == "cannot be read" {
		m.unreadable++
	}
	if of == ofPeople {
		m.lost++
	}
	m.mu.Unlock()
	text := ""
	switch of {
	case ofPeople:
		text = "; NOBODY ELSE HAS IT, push it again: " + repos
	case ofUpstream:
		text = "; it comes from upstream again: " + repos
	case ofNobody:
		text = "; no repository has it"
	}
	p.Found("%s: %v%s", what, err, text)
}

// Of whom content is.
const (
	ofNobody = iota
	ofUpstream
	ofPeople
)

// holders names repositories that have content, and says whether somebody has pushed it.
func (m *migration) holders(ctx context.Context, d registry.Digest) (string, int) {
	all, err := m.from.catalog.Holders(ctx, d, "", -1)
	if err != nil {
		return err.Error(), ofPeople // the worst there is, for who cannot know
	}
	if len(all) == 0 {
		return "", ofNobody
	}
	of := ofUpstream
	if own := slices.DeleteFunc(slices.Clone(all), func(r registry.Repo) bool { return !m.hosted[r.Project] }); len(own) > 0 {
		all, of = own, ofPeople
	}
	var names []string
	for _, r := range all {
		names = append(names, r.String())
	}
	const most = 20
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(names, ", "), of
}

// missing finds what the catalog takes for stored and no file has.
func (m *migration) missing(ctx context.Context, p *progress) error {
	var gone []registry.Digest
	err := m.from.catalog.Stored(ctx, func(d registry.Digest) error {
		_, err := m.from.store.Stat(ctx, d)
		if errors.Is(err, storage.ErrNotFound) {
			gone, err = append(gone, d), nil
		}
		if errors.Is(err, storage.ErrDamaged) {
			err = nil // which has been seen
		}
		return err
	})
	for _, d := range gone {
		m.left(ctx, p, d, fmt.Errorf("%s: %w", d, storage.ErrNotFound))
	}
	return err
}

// catalog copies the rows, and forgets what is not there.
func (m *migration) catalog(ctx context.Context, rows int64) error {
	p := newProgress(m.std, "copying the catalog", rows, countText)
	err := m.to.Catalog.CopyFrom(ctx, m.from.catalog, migratingCatalog, p.Add)
	p.End()
	if err != nil || len(m.gone) == 0 {
		return err
	}
	return forget(ctx, m.cfg.Storage.Directory, m.to, m.gone)
}
