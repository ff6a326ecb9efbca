package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/console"
	"roadstead/registry/estate"
	"roadstead/registry/hosted"
	"roadstead/registry/server"
	"roadstead/rewrite"
	"roadstead/storage/catalog"
)

// House is every room of a running server, stacked: requests come in at the server, are routed
// by the table, let in by access and answered by the hosted registry, or by the cache, and what
// that lacks comes from the upstreams.
type House struct {
	log   *slog.Logger
	level *slog.LevelVar
	load  func() (Config, error) // reads the configuration again
	cfg   Config                 // the one in force; only Run's goroutine looks at it, and at the next two

	served  Config  // that, with the proxies that somebody has made
	holding holding // the projects and registries in force
	inForce atomic.Pointer[inForce]
	changes chan chan error // asks Run's goroutine to follow

	listener      net.Listener
	adminListener net.Listener // nil: off
	certificate   *Certificate // nil: plain HTTP

	data      *Data
	upstreams upstreams
	cache     *cache.Cache
	hosted    *hosted.Registry
	access    *access.Access
	estate    *estate.Estate
	console   *console.Console
	table     atomic.Pointer[rewrite.Table]
	networks  atomic.Pointer[[]netip.Prefix] // that upstreams may be in, for whoever asks one before it is anybody's
	server    *server.Server
	pulls     pulls
	pruning   pruning
	admin     http.Handler

	draining atomic.Bool // no new requests are answered
}

// errAtOnce ends Run without waiting for anything.
var errAtOnce = errors.New("stopped at once, by a second signal")

// openHouse opens everything and starts nothing. What it does takes the same time however
// much is cached. announce is told the password of the first user if one had to be made up.
func openHouse(ctx context.Context, cfg Config, log *slog.Logger, announce func(user, password string)) (_ *House, err error) {
	h := &House{cfg: cfg, log: log, changes: make(chan chan error)}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	if cfg.TLS.Certificate != "" {
		h.certificate = &Certificate{log: log}
		if err := h.certificate.Reload(cfg.TLS); err != nil {
			return nil, err
		}
	}
	if h.listener, err = listen("listen", cfg.Listen); err != nil {
		return nil, err
	}
	if cfg.Admin != "" {
		if h.adminListener, err = listen("admin", cfg.Admin); err != nil {
			return nil, err
		}
	}
	if h.data, err = openData(ctx, cfg.Storage); err != nil {
		return nil, err
	}
	if exists(cfg.Storage.Directory, adoptingFile) {
		log.Warn("the directory is adopted in part only, because \"adopt\" was cut short: stop the server and run it again", "directory", cfg.Storage.Directory)
	}
	if h.holding, err = settle(ctx, h.data.Catalog, cfg); err != nil {
		return nil, err
	}
	if h.access, err = openAccess(ctx, cfg, h.data, log, announce, h.route); err != nil {
		return nil, err
	}
	h.cfg = h.revealed(ctx, cfg)
	h.pruning.keep.Store(int64(cfg.Audit.Keep))
	if h.cache, err = newCache(h.cfg, h.data, &h.upstreams, log); err != nil {
		return nil, err
	}
	toHost := hostedConfig(cfg, h.data, log)
	toHost.Note = h.noteCleaning
	if h.hosted, err = hosted.New(toHost); err != nil {
		return nil, err
	}
	h.estate = h.newEstate()
	if err := h.estate.Follow(ctx); err != nil {
		return nil, err
	}
	if err := h.enforce(h.cfg, h.holding); err != nil {
		return nil, err
	}
	if h.console, err = h.newConsole(); err != nil {
		return nil, err
	}
	known := func(project string) bool { return h.table.Load().Known(project) }
	h.server = server.New(server.Config{
		Registry: switchboard{h.hosted, h.cache, h.data.Catalog, known},
		Pulled:   h.pulled,
		Writer:   h.hosted,
		Uploader: h.hosted,
		Hosted:   h.hosted.Has,
		Access:   h.access,
		Other:    h.other(),
		Route:    h.route,
		Known:    known,
		Reserved: func(name string) bool { return reservedNames[name] != "" },
		Log:      log,
		Drain:    max(cfg.Drain, time.Nanosecond), // zero would be the server's own default
	})
	h.admin = h.newAdmin()
	return h, nil
}

// Close closes what openHouse has opened. Run must have ended.
func (h *House) Close() error {
	var errs []error
	for _, l := range []net.Listener{h.listener, h.adminListener} {
		if l != nil {
			l.Close() // Run has closed it, unless there was none
		}
	}
	h.upstreams.Close()
	if h.data != nil {
		errs = append(errs, h.data.Close())
	}
	return errors.Join(errs...)
}

// newCache stacks a cache on the upstreams of a configuration.
func newCache(cfg Config, data *Data, u *upstreams, log *slog.Logger) (*cache.Cache, error) {
	next, err := u.connect(cfg.proxies())
	if err != nil {
		return nil, err
	}
	maxSize := cfg.Storage.MaxSize
	if share := int64(cfg.Storage.MaxShare); share > 0 {
		_, total, err := data.Store.Free()
		if err != nil {
			return nil, fmt.Errorf("how large the filesystem of %s is: %w; write max_size in bytes instead of a share", cfg.Storage.Directory, err)
		}
		maxSize = total / 100 * share
	}
	c, err := cache.New(cache.Config{
		Store: data.Store, Catalog: data.Catalog, Projects: next.cached(cfg.proxies()),
		Memory: cfg.Memory, MaxSize: maxSize, Log: log,
	})
	if err != nil {
		return nil, err
	}
	u.replace(next)
	return c, nil
}

// newTable returns the table of the proxies of a configuration and of these hosted projects.
func newTable(cfg Config, hosted []catalog.Project) (*rewrite.Table, error) {
	var projects []rewrite.Project
	for _, p := range cfg.proxies() {
		projects = append(projects, rewrite.Project{Name: p.Name, Hub: p.Hub, Hosts: p.Names})
	}
	for _, p := range hosted {
		projects = append(projects, rewrite.Project{Name: p.Name, Hosted: true})
	}
	return rewrite.NewTable(projects, cfg.Hosts, cfg.DefaultProject)
}

// Run serves until it is told to stop or a part of it cannot go on. What is served from ends
// after what serves: first the requests, then metrics and health, the cache and the hosted
// registry, with all that is still on its way in, and at the end the audit log of it all.
func (h *House) Run(hangups, stops <-chan os.Signal) error {
	serving, stopServing := context.WithCancel(context.Background())
	defer stopServing()
	behind, stopBehind := context.WithCancel(context.Background())
	defer stopBehind()
	last, stopLast := context.WithCancel(context.Background())
	defer stopLast()

	changed, generation := make(chan struct{}, 1), h.holding.generation
	var running parts
	running.start("registry", func() error { return h.server.Serve(serving, h.listener, h.tlsConfig()) })
	// With the server, which waits for the streams that end with it.
	running.start("console", func() error { return h.console.Run(serving) })
	running.start("cache", func() error { return h.cache.Run(behind) })
	running.start("hosted", func() error { return h.hosted.Run(behind) })
	running.start("pulls", func() error { return h.pulls.run(behind, h.data.Catalog, h.log) })
	running.start("audit log", func() error { return h.pruning.run(behind, h.data.Catalog, h.log) })
	running.start("jobs", func() error { return h.estate.Run(behind) })
	running.start("projects", func() error { return watch(behind, h.data.Catalog, generation, changed, h.log) })
	running.start("access", func() error { return h.access.Run(last) })
	if h.adminListener != nil {
		running.start("admin", func() error { return serveAdmin(behind, h.adminListener, h.admin) })
	}
	h.announce()

	refresh := time.NewTicker(refreshEvery)
	defer refresh.Stop()
	var failure error
	for running.count > 0 {
		select {
		case <-hangups:
			h.reload()
		case <-changed:
			h.follow() // it has said what is wrong
		case done := <-h.changes:
			done <- h.follow()
		case <-refresh.C:
			if h.certificate != nil {
				h.certificate.Refresh()
			}
		case s := <-stops:
			if h.draining.Swap(true) {
				return errAtOnce
			}
			h.log.Info("stopping", "signal", s.String(), "drain", h.cfg.Drain, "requests", h.server.Stats().InFlight)
			stopServing()
		case end := <-running.ended:
			running.count--
			if end.err != nil {
				failure = errors.Join(failure, fmt.Errorf("%s: %w", end.part, end.err))
			}
			// Whichever ended first, by order or not, no new request gets an answer.
			h.draining.Store(true)
			stopServing()
			if end.part == "registry" {
				stopBehind()
			}
			if running.count == 1 {
				stopLast()
			}
		}
	}
	h.log.Info("stopped")
	return failure
}

// parts are the goroutines of Run.
type parts struct {
	count int
	ended chan end
}

type end struct {
	part string
	err  error
}

func (p *parts) start(part string, run func() error) {
	if p.ended == nil {
		p.ended = make(chan end)
	}
	p.count++
	go func() { p.ended <- end{part, run()} }()
}

func (h *House) tlsConfig() *tls.Config {
	if h.certificate == nil {
		return nil
	}
	return h.certificate.Config()
}

// announce is the first line that an operator looks for.
func (h *House) announce() {
	admin := "off"
	if h.adminListener != nil {
		admin = h.adminListener.Addr().String()
	}
	h.log.Info("serving", "version", thisBuild().Version,
		"listen", h.listener.Addr().String(), "tls", h.certificate != nil, "admin", admin,
		"projects", len(h.served.Projects)+len(h.holding.hosted()), "data", h.cfg.Storage.Directory,
		"configuration", cmp.Or(h.cfg.File, "built-in"))
}

// route asks the table that is in force now.
func (h *House) route(host, ns, name string) (registry.Repo, error) {
	return h.table.Load().Route(host, ns, name)
}
