package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"roadstead/registry"
	"roadstead/registry/archive"
	"roadstead/registry/hosted"
	"roadstead/rewrite"
	"roadstead/storage/catalog"
)

// Import is the command of that name.
type Import struct {
	onDirectory
	Project string   `placeholder:"NAME" help:"The project that gets all images, hosted or a proxy. Default: of each the proxy that stands for its registry."`
	Name    string   `placeholder:"IMAGE" help:"What images are called that have no name in the archive, or a tag alone."`
	Files   []string `arg:"" name:"file" placeholder:"FILE|DIR" help:"Archives, compressed by gzip or zstd or not, and directories with an OCI layout; \"-\" is standard input."`
}

// Help is the long help.
func (c *Import) Help() string {
	return `Takes images out of archives: those that "roadstead export" writes, RKE2's and K3s's releases ("rke2-images.linux-amd64.tar.zst"), OCI layouts, and what "docker save", skopeo, crane and podman write.

    roadstead import rke2-images-core.linux-amd64.tar.zst
    zstd -dc images.tar.zst | roadstead import -
    roadstead import --project production app.tar

It works on the storage of the configuration, beside a running server, which serves the images within two seconds, or before the first start of one. Upstream is asked for nothing. In a proxy project a tag counts as checked when it was imported: it is fresh for the "ttl", then upstream is asked, if it can be, and with "offline: true" nobody is.

All of an archive is checked against its digests, and of Docker's archives, which have none, against what its configuration says, before any image of it can be pulled. What is here already is not stored again, so that an import that was interrupted goes on where it was. Each image is a line on stdout. Docker's archives have no manifests either: one is made, the same each time, and the same that containerd makes when it loads the archive.

An archive of "roadstead export --since" leaves out what the other side is believed to have. An image that lacks something nevertheless is left out, and the lines on stdout say what is missing; the exit status is 1 then.`
}

// Run imports.
func (c *Import) Run(std streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := c.load()
	if err != nil {
		return err
	}
	sources, err := openSupplies(ctx, c.Files)
	if err != nil {
		return err
	}
	defer closeSupplies(sources)
	if err := becomeOwner(cfg.Storage.Directory); err != nil {
		return err
	}
	data, err := openForImport(ctx, cfg)
	if err != nil {
		return err
	}
	i, err := newImporting(ctx, cfg, data, std)
	if err == nil {
		i.project, i.name = c.Project, c.Name
		err = i.run(ctx, sources)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted: what was stored so far stays for a while, and the same command goes on from there")
	}
	return errors.Join(err, data.Close(), giveAway(cfg.Storage.Directory))
}

// openForImport opens a data directory beside a server, or makes one that no server has had yet.
func openForImport(ctx context.Context, cfg Config) (*Data, error) {
	if hasCatalog(cfg.Storage) {
		return shareOwn(ctx, cfg.Storage)
	}
	data, err := openData(ctx, cfg.Storage.cold())
	if err != nil {
		return nil, err
	}
	if _, err := settle(ctx, data.Catalog, cfg); err != nil {
		data.Close()
		return nil, err
	}
	return data, nil
}

// becomeOwner has root go on as the owner of a data directory: what is stored there has to be the
// server's, down to the last folder.
func becomeOwner(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // and it will be whose we are
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 || !ok || owner.Uid == 0 {
		return nil
	}
	err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(int(owner.Gid)), syscall.Setuid(int(owner.Uid)))
	if err != nil {
		return fmt.Errorf("go on as the owner of %s: %w; run it as that user", dir, err)
	}
	return nil
}

// importing is one run.
type importing struct {
	id      string        // by which the catalog tells it from others
	beat    time.Duration // how often it says that it is under way
	cfg     Config
	data    *Data
	std     streams
	table   *rewrite.Table
	self    []string // hosts that this server goes by
	holding holding
	hosted  *hosted.Registry
	public  map[string]bool // projects that everybody may pull from

	brought map[registry.Digest]bool // the content whose bytes the archives have had
	room    int64                    // how many bytes of manifests of this archive may yet be looked at

	project, name string // the flags

	progress   *progress
	counts     bool // the progress counts what is kept, and not what is read
	done       int  // images
	signatures int  // of them, those that are signatures of others
	lacking    int  // images that were left out
}

func newImporting(ctx context.Context, cfg Config, data *Data, std streams) (*importing, error) {
	i := &importing{id: rand.Text(), beat: catalog.ImportBeat, cfg: cfg, data: data, std: std, public: map[string]bool{}, brought: map[registry.Digest]bool{}}
	now, err := readHolding(ctx, data.Catalog)
	if err != nil {
		return nil, err
	}
	i.holding = now
	served := now.effective(cfg)
	if i.table, err = newTable(served, now.beside(served)); err != nil {
		return nil, err
	}
	for _, p := range served.Projects {
		i.public[p.Name] = p.Public
	}
	for _, p := range now.beside(served) {
		i.public[p.Name] = p.Public
	}
	if u, err := url.Parse(cfg.URL); err == nil && u.Host != "" {
		i.self = append(i.self, u.Host)
	}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if i.hosted, err = hosted.New(hostedConfig(cfg, data, log)); err != nil {
		return nil, err
	}
	return i, i.hosted.SetProjects(now.beside(served))
}

// effective is a configuration with the proxies that somebody has made here, for whoever asks none of
// them anything.
func (h holding) effective(cfg Config) Config {
	served, _ := h.over(cfg, func(catalog.Registry) (Secret, error) { return "", nil })
	return served
}

// importedSetting counts imports. A server that finds it changed forgets what it remembers of tags: they
// may point elsewhere now.
const importedSetting = "imported"

// imports is how often images were imported.
func imports(ctx context.Context, db *catalog.DB) (n int64, err error) {
	err = db.Setting(ctx, importedSetting, &n)
	if errors.Is(err, catalog.ErrNotFound) {
		return 0, nil
	}
	return n, err
}

// run imports one archive after the other.
func (i *importing) run(ctx context.Context, sources []*supply) (err error) {
	var total int64
	for _, s := range sources {
		if s.size <= 0 {
			total = 0 // of standard input nobody knows
			break
		}
		total += s.size
	}
	i.progress = newTransfer(i.std, "importing", total)
	within, end := context.WithCancel(ctx)
	alive := make(chan struct{})
	go func() {
		defer close(alive)
		i.alive(within)
	}()
	for _, s := range sources {
		i.room = mostInMind
		if err = i.archive(ctx, s); err != nil {
			err = fmt.Errorf("%s: %w; nothing of it can be pulled", s.name, err)
			break
		}
	}
	i.progress.End()
	end()
	<-alive
	if ended := i.ended(context.WithoutCancel(ctx), err == nil); ended != nil {
		err = errors.Join(err, fmt.Errorf("say that the import has ended: %w", ended))
	}
	if err == nil && i.lacking > 0 {
		err = fmt.Errorf("%s left out for want of content, and %s imported", imagesText(i.lacking), imagesText(i.done-i.signatures))
	}
	if err == nil {
		fmt.Fprintf(i.std.err, "imported %s\n", imagesText(i.done-i.signatures))
	}
	return err
}

// ended has a server see what has come. What an import has left that did not come to its end is there for
// the next try for a while.
func (i *importing) ended(ctx context.Context, whole bool) error {
	if i.done == 0 && !whole {
		return nil
	}
	return i.data.Catalog.Durable(ctx, func(tx *catalog.Tx) error {
		var n int64
		if err := tx.Setting(importedSetting, &n); err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		if whole {
			if err := tx.Imported(i.id); err != nil {
				return err
			}
		}
		if i.done == 0 {
			return nil
		}
		return tx.PutSetting(importedSetting, n+1)
	})
}

// archive imports one: all of its content first, and then its images.
func (i *importing) archive(ctx context.Context, s *supply) error {
	var images []archive.Image
	var err error
	if s.dir != nil {
		i.counts = true
		images, err = archive.ReadDir(ctx, s.dir, i.keep)
	} else {
		i.counts = false
		images, err = archive.Read(ctx, &metered{ctx: ctx, in: s.file, step: i.progress.Add}, i.keep)
	}
	if err != nil {
		return err
	}
	var all []parcel
	for _, image := range images {
		w, err := i.look(ctx, image)
		if err != nil {
			return err
		}
		all = append(all, w)
	}
	named := 0
	for _, w := range all {
		if w.unnamed {
			i.progress.Found("%s has no name and is left out; --name gives it one", w.image.Digest)
			continue
		}
		named++
		if err := i.show(ctx, w); err != nil {
			return err
		}
	}
	if named == 0 {
		return errors.New("no image of it has a name: say with --name what it is called, such as docker.io/library/busybox:1.36")
	}
	return nil
}

// metered reads and tells how much, until ctx ends.
type metered struct {
	ctx  context.Context
	in   io.Reader
	step func(int64)
}

func (c *metered) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.in.Read(p)
	c.step(int64(n))
	return n, err
}
