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
	"roadstead/storage/s3"
)

// House is every room of a running server, stacked: requests come in at the server, are routed
// by the table, let in by access and answered by the hosted registry, or by the cache, and what
// that lacks comes from the upstreams.
type House struct {
	log   *slog.Logger
	level *slog.LevelVar
	load  func() (Config, error) // reads the configuration again
	cfg   Config                 // the one in force; only Run's goroutine looks at it, and at the next four

	served     Config    // that, with the proxies that somebody has made
	holding    holding   // the projects and registries in force
	imported   int64     // how often images were imported that are known
	remembered time.Time // when it was last written down for a start without the catalog

	missing missing // what the catalog would say
	inForce atomic.Pointer[inForce]
	changes chan chan error // asks Run's goroutine to follow

	supervisor *supervisor   // nil: none
	beats      chan struct{} // Run's goroutine takes them as long as it is well

	listener      net.Listener
	adminListener net.Listener // nil: off
	certificate   *Certificate // nil: plain HTTP

	data      *Data
	nodes     nodes
	leader    leader
	upstreams upstreams
	cache     *cache.Cache
	hosted    *hosted.Registry
	access    *access.Access
	estate    *estate.Estate
	console   *console.Console
	table     atomic.Pointer[rewrite.Table]
	networks  atomic.Pointer[[]netip.Prefix] // that upstreams may be in, for whoever asks one before it is anybody's
	server    *server.Server
	traces    *traces // nil: off
	reloads   reloads
	pulls     pulls
	pruning   pruning
	plans     plans
	bucket    lately // what it says of itself
	admin     http.Handler

	draining atomic.Bool // no new requests are answered
}

// errAtOnce ends Run without waiting for anything.
var errAtOnce = errors.New("stopped at once, by a second signal")

// openHouse opens everything and starts nothing that goes on by itself. What it does takes the same time
// however much is cached: of the remains of uploads in a bucket it removes what it can in two seconds,
// see tidyPatience. For a bucket or a catalog that is away it waits only where nothing could be served
// without. Whoever is outside is told the password of the first user if one had to be made up.
func openHouse(ctx context.Context, cfg Config, log *slog.Logger, out outside) (_ *House, err error) {
	h := &House{cfg: cfg, log: log, supervisor: out.supervisor, changes: make(chan chan error), beats: make(chan struct{}), leader: leader{log: log}}
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
	if h.listener, err = h.supervisor.listen("listen", cfg.Listen); err != nil {
		return nil, err
	}
	if cfg.Admin != "" {
		if h.adminListener, err = h.supervisor.listen("admin", cfg.Admin); err != nil {
			return nil, err
		}
	}
	if h.data, err = h.openData(ctx, cfg.Storage.hasty()); err != nil {
		return nil, err
	}
	if h.data.away != nil {
		h.missing.why.Store(&h.data.away)
	}
	if h.data.bucket != nil {
		soon, cancel := context.WithTimeout(ctx, tidyPatience)
		h.tidyUp(soon)
		cancel()
	}
	if h.nodes, err = openNodes(cfg, h.data, h); err != nil {
		return nil, err
	}
	if err := h.supervisor.unused(); err != nil {
		return nil, err
	}
	h.upstreams.cluster = h.nodes.cluster
	if h.traces, err = openTraces(ctx, h.nodes.name(), log); err != nil {
		return nil, err
	}
	if exists(cfg.Storage.Directory, adoptingFile) {
		log.Warn("the directory is adopted in part only, because \"adopt\" was cut short: stop the server and run it again", "directory", cfg.Storage.Directory)
	}
	if h.holding, err = h.opening(ctx, cfg); err != nil {
		return nil, err
	}
	if h.access, err = openAccess(ctx, cfg, h.data, log, out.announce, h.route); err != nil {
		return nil, err
	}
	h.cfg = h.revealed(ctx, cfg)
	h.pruning.keep.Store(int64(cfg.Audit.Keep))
	h.plans.set(cfg.Plans)
	if h.cache, err = newCache(h.cfg, h.data, &h.upstreams, cache.Config{Lead: h.leader.while, Node: h.nodes.name(), Log: log}); err != nil {
		return nil, err
	}
	toHost := hostedConfig(cfg, h.data, log)
	toHost.Note, toHost.Lead, toHost.Node = h.noteCleaning, h.leader.while, h.nodes.name()
	if h.hosted, err = hosted.New(toHost); err != nil {
		return nil, err
	}
	h.estate = h.newEstate()
	if h.data.away == nil {
		if err := h.estate.Follow(ctx); err != nil {
			return nil, err
		}
		if h.imported, err = imports(ctx, h.data.Catalog); err != nil {
			return nil, err
		}
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
		Asked:    h.estate.Asked,
		Locate:   h.locate,
		Writer:   h.hosted,
		Uploader: h.uploader(),
		Hosted:   h.hosted.Has,
		Access:   h.access,
		Other:    h.other(),
		Traced:   h.traces.request(),
		Route:    h.route,
		Known:    known,
		Reserved: func(name string) bool { return reservedNames[name] != "" },
		Log:      log,
		Drain:    max(cfg.Drain, time.Nanosecond), // zero would be the server's own default
	})
	if h.nodes.cluster != nil {
		h.nodes.handler = h.forNodes()
	}
	h.admin = h.newAdmin()
	return h, nil
}

// openData is openLater, which it does again as long as a bucket is away of which nobody could say whether
// a new catalog would know its content.
func (h *House) openData(ctx context.Context, s Storage) (*Data, error) {
	for said := false; ; said = true {
		d, err := openLater(ctx, s)
		if err == nil || s.S3.Bucket == "" || !s3.Away(err) {
			return d, err
		}
		if !said {
			h.log.Error("nothing can be served before the bucket is there, for which is looked", "err", err)
			h.supervisor.tell(statusLine("waiting for the bucket: " + err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, context.Cause(ctx))
		case <-time.After(mostBetween):
		}
	}
}

// opening is what projects and registries a house begins with: those that the catalog has, or those that
// it last had, or none but those that are declared.
func (h *House) opening(ctx context.Context, cfg Config) (holding, error) {
	if h.data.away == nil {
		return settle(ctx, h.data.Catalog, cfg)
	}
	before, known := cfg.Storage.inMind(time.Now())
	h.log.Error("not all can be served before the "+lacking(h.data.away)+" is there, for which is looked", "projects", len(before.projects), "err", h.data.away)
	before.recalled = known
	return before, nil
}

// Close closes what openHouse has opened. Run must have ended.
func (h *House) Close() error {
	var errs []error
	for _, l := range []net.Listener{h.listener, h.adminListener, h.nodes.listener} {
		if l != nil {
			l.Close() // Run has closed it, unless there was none
		}
	}
	h.upstreams.Close()
	if h.data != nil {
		errs = append(errs, h.data.Close())
	}
	errs = append(errs, h.traces.Close())
	return errors.Join(errs...)
}

// newCache stacks a cache on the upstreams of a configuration. c is what that does not say of it.
func newCache(cfg Config, data *Data, u *upstreams, c cache.Config) (*cache.Cache, error) {
	next, err := u.connect(cfg.proxies())
	if err != nil {
		return nil, err
	}
	c.Store, c.Catalog, c.Projects = data.Store, data.Catalog, next.cached(cfg.proxies())
	c.Memory, c.MaxSize = cfg.Memory, cfg.Storage.MaxSize
	if share := int64(cfg.Storage.MaxShare); share > 0 {
		_, total, err := data.Store.Free()
		if err != nil {
			return nil, fmt.Errorf("how large the filesystem of %s is: %w; write max_size in bytes instead of a share", cfg.Storage.Directory, err)
		}
		c.MaxSize = total / 100 * share
	}
	made, err := cache.New(c)
	if err != nil {
		return nil, err
	}
	u.replace(next)
	return made, nil
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
	running.start("leader", func() error { return h.leader.run(behind, h.data.Catalog, h.nodes.name()) })
	running.start("registry", func() error { return h.server.Serve(serving, h.listener, h.tlsConfig()) })
	// With the server, which waits for the streams that end with it.
	running.start("console", func() error { return h.console.Run(serving) })
	running.start("cache", func() error { return h.cache.Run(behind) })
	running.start("hosted", func() error { return h.hosted.Run(behind) })
	running.start("pulls", func() error { return h.pulls.run(behind, h.data.Catalog, h.log) })
	running.start("audit log", func() error {
		h.leader.while(behind, func(ctx context.Context) { h.pruning.run(ctx, h.data.Catalog, h.log) })
		return nil
	})
	running.start("warm-ups", func() error {
		h.leader.while(behind, func(ctx context.Context) { h.plans.run(ctx, h.estate, h.log) })
		return nil
	})
	running.start("jobs", func() error { return h.estate.Run(behind) })
	running.start("projects", func() error { return watch(behind, h.data.Catalog, generation, changed, h.log) })
	s := h.cfg.Storage
	running.start("catalog", func() error { return h.seek(behind, s) })
	running.start("news", func() error { return h.hear(behind, changed) })
	running.start("access", func() error { return h.access.Run(last) })
	if h.adminListener != nil {
		running.start("admin", func() error { return serveAdmin(behind, h.adminListener, h.admin) })
	}
	if h.cfg.Offline {
		h.log.Info("offline: no upstream is asked, and what is here is served however old it is")
	}
	if h.cfg.Storage.S3.Bucket != "" {
		running.start("tidy", func() error {
			h.leader.while(behind, h.tidy)
			return nil
		})
		running.start("bucket", func() error { return h.meet(behind, s) })
	}
	if _, ok := h.data.Store.Hot(); ok {
		running.start("hot copies", func() error { return h.data.Store.Tend(behind) })
	}
	if n := h.nodes; n.cluster != nil {
		// It signs out when it begins to end, and answers until its clients have left: what others
		// are being sent goes on.
		running.start("cluster", func() error { return n.cluster.Run(serving) })
		running.start("nodes", func() error { return n.cluster.Serve(behind, n.listener, n.handler) })
	}
	h.announce()
	serves := "serving on " + h.listener.Addr().String()
	h.supervisor.ready(serves)
	if h.supervisor.told() {
		running.start("supervisor", func() error {
			h.supervisor.watch(behind, serves, h.well)
			return nil
		})
	}

	refresh := time.NewTicker(refreshEvery)
	defer refresh.Stop()
	var failure error
	for running.count > 0 {
		select {
		case <-hangups:
			if h.draining.Load() {
				h.log.Info("configuration not reloaded, because this server is stopping")
				break
			}
			h.supervisor.reloading()
			now := serves
			if err := h.reload(); err != nil {
				now += ", by the old configuration: " + err.Error()
			}
			h.supervisor.ready(now)
		case <-h.beats:
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
			h.supervisor.stopping(h.cfg.Drain)
			stopServing()
		case end := <-running.ended:
			running.count--
			if end.err != nil {
				failure = errors.Join(failure, fmt.Errorf("%s: %w", end.part, end.err))
			}
			// Whichever ended first, by order or not, no new request gets an answer.
			h.draining.Store(true)
			h.supervisor.stopping(h.cfg.Drain)
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

// well returns what [House.degraded] does, once the goroutine of Run and every part have answered.
func (h *House) well(ctx context.Context) error {
	select {
	case h.beats <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return h.degraded(ctx)
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
		"projects", h.serves(), "data", h.cfg.Storage.Directory,
		"configuration", cmp.Or(h.cfg.File, "built-in"))
}

// serves is how many projects there are, of either kind, each once: what the configuration declares is in the
// catalog as well.
func (h *House) serves() int { return len(h.served.proxies()) + len(h.holding.beside(h.cfg)) }

// route asks the table that is in force now.
func (h *House) route(host, ns, name string) (registry.Repo, error) {
	repo, err := h.table.Load().Route(host, ns, name)
	if err == nil {
		err = h.surely(repo, ns, name)
	}
	return repo, err
}
