package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Migrate is the command of that name.
type Migrate struct {
	onDirectory
	DryRun          bool   `help:"Say how much there is to copy and whether anything is in the way. The tables of an empty database are made."`
	LeaveUnreadable bool   `help:"Leave out, as if it were damaged, what the disk cannot read."`
	Directory       string `arg:"" help:"The data directory of the node that was alone."`
}

// Help is the long help.
func (m *Migrate) Help() string {
	return `Moves what a single node has in its data directory to where several nodes have it: content into the bucket (storage.s3) and the catalog into PostgreSQL (storage.catalog) of the configuration, which is that of the nodes to be. Both have to be empty.

    systemctl stop roadstead.socket roadstead
    roadstead migrate --config cluster.yaml /var/lib/roadstead
    roadstead serve --config cluster.yaml

The old directory is only read: until the new nodes are started, the old one can be started again. Migrate can be interrupted at any time, and goes on where it was when it is run again; until it has come to its end, no node serves what is there by then. Run it as the user that serves, or as root: what it makes belongs to the owner of the new storage.directory then, or, where there is none yet, to that of the old one.

Projects, accounts, roles, robots, secrets, rules, tags, pulls and the audit log keep what they are, with their numbers; passwords and tokens go on working. Uploads that are under way begin anew, and people sign in again by browser. Damaged content is reported as a line on stdout and left out: that of a proxy comes from upstream again, and of what was pushed the line says where, because pushing it again is what heals it. The exit status is 1 then.`
}

// Run migrates.
func (m *Migrate) Run(std streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := m.load()
	if err != nil {
		return err
	}
	if cfg.Storage.S3.Bucket == "" || cfg.Storage.Catalog == "" {
		return errors.New("several nodes have their content in a bucket and their catalog in PostgreSQL: write storage.s3 and storage.catalog into the configuration that --config names")
	}
	from, err := openOrigin(ctx, m.Directory, cfg.Storage.Directory)
	if err != nil {
		return err
	}
	defer from.Close()
	content, err := cfg.Storage.holds(ctx)
	if err != nil {
		return err
	}
	to, err := locked(ctx, cfg.Storage.cold(), openBoth)
	if err != nil {
		return err
	}
	defer to.Close()
	move := migration{cfg: cfg, std: std, from: from, to: to, anyway: m.LeaveUnreadable, began: time.Now()}
	err = move.run(ctx, content, m.DryRun)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil && move.marked {
		err = fmt.Errorf("%w; what is copied so far stays, and the same command goes on from there", err)
	}
	return errors.Join(err, giveAway(cfg.Storage.Directory))
}

// The settings that a catalog has while another one is moved into it, and when that has come to its
// end.
const (
	migratingCatalog = "migrating"
	migratedCatalog  = "migrated"
)

// moving is what they say.
type moving struct {
	From string    `json:"from"` // the directory
	To   string    `json:"to"`   // the bucket
	At   time.Time `json:"at"`   // when it began, or ended
}

// whole refuses a catalog that another one is being moved into.
func whole(setting func(name string, value any) error) error {
	var m moving
	err := setting(migratingCatalog, &m)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s is being moved here, since %s: let \"roadstead migrate\" come to its end, or run it again", m.From, timeText(m.At, ""))
}

// check looks whether anything is in the way. done is when the same was migrated before.
func (m *migration) check(ctx context.Context, content bool) (done time.Time, err error) {
	s := m.cfg.Storage
	setting := func(name string) (found moving, ok bool, err error) {
		err = m.to.Catalog.Setting(ctx, name, &found)
		if errors.Is(err, catalog.ErrNotFound) {
			return moving{}, false, nil
		}
		return found, err == nil, err
	}
	was, ok, err := setting(migratedCatalog)
	if err != nil || ok && was.From == m.from.dir && was.To == s.Place() {
		return was.At, err
	}
	was, m.marked, err = setting(migratingCatalog)
	switch {
	case err != nil:
		return time.Time{}, err
	case m.marked && (was.From != m.from.dir || was.To != s.Place()):
		return time.Time{}, fmt.Errorf("%s has been moved into %s in part: run that again, or name an empty database and an empty bucket or prefix", was.From, was.To)
	case m.marked:
		return time.Time{}, nil
	case content:
		return time.Time{}, fmt.Errorf("%s holds content of something else: name another bucket or prefix in storage.s3", s.Place())
	}
	empty, err := m.to.Catalog.New(ctx)
	if err == nil && !empty {
		err = errors.New("the database that storage.catalog names has been used, be it that a node was started once: name an empty one")
	}
	return time.Time{}, err
}

// mark says that what is here from now on is not whole. Nodes that are started meanwhile see it.
func (m *migration) mark(ctx context.Context) error {
	if m.marked {
		return nil
	}
	err := m.to.Catalog.Durable(ctx, func(tx *catalog.Tx) error {
		var since time.Time
		if err := tx.Setting(knownContent, &since); !errors.Is(err, catalog.ErrNotFound) {
			return errors.Join(err, errors.New("a node has just been started with this configuration: stop it, and name an empty database"))
		}
		return tx.KeepSetting(migratingCatalog, moving{m.from.dir, m.cfg.Storage.Place(), time.Now()})
	})
	m.marked = err == nil
	return err
}

// finish shows all of it at once.
func (m *migration) finish(ctx context.Context) error {
	id, err := m.to.takeBucket(ctx, m.cfg.Storage)
	if err != nil {
		return err
	}
	return m.to.Catalog.Durable(ctx, func(tx *catalog.Tx) error {
		return errors.Join(
			tx.KeepSetting(migratedCatalog, moving{m.from.dir, m.cfg.Storage.Place(), time.Now()}),
			tx.KeepSetting(knownContent, time.Now()),
			tx.KeepSetting(identitySetting, id),
			tx.DropSetting(migratingCatalog),
		)
	})
}

// checkProjects refuses a configuration with which no node would start.
func (m *migration) checkProjects(ctx context.Context) error {
	now, err := readHolding(ctx, m.from.catalog)
	if err != nil {
		return err
	}
	var wrong, lost []string
	for _, p := range now.projects {
		switch {
		case p.Hosted() && m.cfg.declaredProxy(p.Name):
			wrong = append(wrong, p.Name)
		case !p.Hosted() && p.Configured && !m.cfg.proxy(p.Name):
			lost = append(lost, p.Name)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("people push to %s, which is a proxy in the new configuration: give the proxy another name there", strings.Join(wrong, ", "))
	}
	if len(lost) > 0 {
		fmt.Fprintf(m.std.err, "The new configuration does not have %s, which the old one has: nobody will pull from there until it does.\n", strings.Join(lost, ", "))
	}
	return nil
}

// elsewhere says whether two directories are two, neither in the other.
func elsewhere(a, b string) bool {
	inside := func(dir, outer string) bool {
		relative, err := filepath.Rel(outer, dir)
		return err == nil && relative != ".." && !strings.HasPrefix(relative, "../")
	}
	return !inside(a, b) && !inside(b, a)
}

// lookAt lists what the bucket has and counts what there is to copy.
func (m *migration) lookAt(ctx context.Context) (*storage.Copy, storage.Plan, error) {
	c, err := storage.NewCopy(ctx, m.from.store, m.to.Store)
	if err != nil {
		return nil, storage.Plan{}, err
	}
	look := newProgress(m.std, "looking for content", 0, countText)
	plan, err := c.Plan(ctx, look.Set)
	look.End()
	return c, plan, err
}
