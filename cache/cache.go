// Package cache is the pull-through registry: a registry in front of registries.
//
// Here live the flights that bring one download to many clients, the freshness of tags, the
// policies of projects, and eviction. Content by digest lives in storage, what is known of it
// in the catalog; both may fail without a client noticing as long as upstream answers. HTTP
// does not exist in this room.
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Config is what a Cache is made of.
type Config struct {
	Store    *storage.Store // content; required
	Catalog  *catalog.DB    // what is known of it; required
	Projects []Project

	// Memory bounds the manifests kept in memory, in bytes. Zero: 64 MiB.
	Memory int64

	// MaxSize is the high-water mark of stored content in bytes: beyond it the least recently
	// used goes. That of hosted projects, which never goes, is not counted. Zero: only the
	// store's floor of free space bounds it.
	MaxSize int64

	// Lead calls fn while this process is the one that makes room, of several that share the catalog,
	// with a ctx that ends when it no longer is; it returns when its own ctx has ended. Nil: it is the
	// only one.
	Lead func(ctx context.Context, fn func(ctx context.Context))

	// Node is what others call this process while it makes room; "" without a cluster.
	Node string

	Log *slog.Logger // nil: nothing is logged
}

// Cache answers for all proxy projects. It implements registry.Reader, with Repo.Project
// naming the project.
//
// Its methods may be used as soon as New returns; writes to the catalog, recency and eviction
// happen while Run does.
type Cache struct {
	store   *storage.Store
	catalog *catalog.DB
	maxSize int64
	lead    func(ctx context.Context, fn func(ctx context.Context))
	node    string
	log     *slog.Logger

	projects atomic.Pointer[map[string]*project]
	memory   *memory

	refreshes  group[tagKey, tagRecord]
	doubts     group[registry.Digest, struct{}]
	fetches    group[contentKey, registry.Manifest]
	keeps      group[contentKey, struct{}] // manifests on their way into the store
	listings   group[listingKey, listing]
	judgements group[contentKey, verdict]
	stats      group[registry.Digest, bool] // whether something is in the store
	lookUps    group[contentKey, found]     // what the catalog says
	tagLooks   group[tagKey, foundTag]      // of a tag

	flightsMu sync.Mutex
	flights   map[registry.Digest]*flight
	looks     map[registry.Digest]bool // that somebody looks for in the store

	recorder  recorder
	saves     saves // of tags
	forgotten forgotten
	absent    absence
	calm      calm
	storing   time.Duration   // as the constant says
	assures   []time.Duration // assureAfter, but in tests
	pressure  chan struct{}

	quietUntil atomic.Int64 // nobody consults the catalog before that, in nanoseconds since 1970
	saidAway   atomic.Int64 // when it was last said that it is away

	wanted atomic.Int64 // bytes that there was no room for since the last look
	totals totals

	short atomic.Int64 // bytes that the last look found too many and that may not go

	// looking lets one Evict at a time look how much there is and remove what is too much. It is
	// held over all of that, against the rule: two that look at the same would remove it twice.
	// It comes before evicting.
	looking sync.Mutex

	// evicting lets one flight at a time make room, beside a few removals of the housekeeping. It
	// is held over all of that, against the rule: who comes second has to find what the first has
	// made room for, and the first what it has made.
	evicting sync.Mutex
	shortAt  time.Time // when room was last not to be had
	shortOf  int64     // how many bytes of it

	// life bounds the work that outlives its caller: flights and refreshes go on when the
	// client that asked leaves. It ends when Run does.
	life context.Context
	end  context.CancelFunc
	work tasks

	// at is told of each step of a removal, so that a test can end everything there. nil but in
	// tests.
	at func(step string)
}

// New returns a cache of the given projects, or says which of them cannot be.
func New(cfg Config) (*Cache, error) {
	if cfg.Memory == 0 {
		cfg.Memory = 64 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Lead == nil {
		cfg.Lead = func(ctx context.Context, fn func(context.Context)) { fn(ctx) }
	}
	c := &Cache{
		store:    cfg.Store,
		catalog:  cfg.Catalog,
		maxSize:  cfg.MaxSize,
		lead:     cfg.Lead,
		node:     cfg.Node,
		log:      cfg.Log,
		memory:   newMemory(cfg.Memory),
		flights:  map[registry.Digest]*flight{},
		looks:    map[registry.Digest]bool{},
		recorder: newRecorder(),
		calm:     calm{quiet: quiet},
		storing:  storing,
		assures:  assureAfter,
		pressure: make(chan struct{}, 1),
	}
	c.forgotten.start()
	c.memory.born = c.forgotten.number.Load
	c.life, c.end = context.WithCancel(context.Background())
	if err := c.SetProjects(cfg.Projects); err != nil {
		return nil, err
	}
	return c, nil
}

// SetProjects replaces the projects. Requests that have begun end under the old ones; content,
// figures and what is in memory stay.
func (c *Cache) SetProjects(projects []Project) error {
	old := c.projects.Load()
	next := make(map[string]*project, len(projects))
	for _, p := range projects {
		if next[p.Name] != nil {
			return fmt.Errorf("project %s is there twice", p.Name)
		}
		built, err := newProject(p, c.log)
		if err != nil {
			return fmt.Errorf("project %s: %w", p.Name, err)
		}
		if old != nil && (*old)[p.Name] != nil {
			built.figures = (*old)[p.Name].figures
		}
		next[p.Name] = built
	}
	c.projects.Store(&next)
	return nil
}

// project finds the project of a repository.
func (c *Cache) project(repo registry.Repo) (*project, error) {
	p := (*c.projects.Load())[repo.Project]
	if p == nil {
		return nil, &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf("no project %q here", repo.Project)}
	}
	return p, nil
}

// permitted finds the project of a repository of which something may be served.
func (c *Cache) permitted(repo registry.Repo) (*project, error) {
	p, err := c.project(repo)
	if err != nil {
		return nil, err
	}
	if err := p.rules.permitRepo(repo); err != nil {
		p.figures.denied.Add(1)
		return nil, err
	}
	return p, nil
}

// Run does the housekeeping until ctx ends: it writes what was learnt to the catalog, evicts,
// and at the end waits for every flight and writes what is left.
func (c *Cache) Run(ctx context.Context) error {
	var housekeeping sync.WaitGroup
	housekeeping.Go(func() { c.lead(ctx, c.keepRoom) })
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		c.record()
	}()

	<-ctx.Done()
	housekeeping.Wait()
	c.end()
	c.work.wait()
	c.recorder.close()
	<-recorded
	return nil
}

// step is where a test may end everything.
func (c *Cache) step(name string) {
	if c.at != nil {
		c.at(name)
	}
}

// sayAgain is how often it is said that the catalog is away.
const sayAgain = 10 * time.Second

// fault counts trouble of the cache's own and says it once in the log: what happened was
// served, but not as meant.
func (c *Cache) fault(doing string, err error, attrs ...any) {
	if errors.Is(err, context.Canceled) {
		return
	}
	c.totals.faults.Add(1)
	if errors.Is(err, catalog.ErrUnavailable) {
		// The same happens to every request, and one word of it in a while is enough.
		now, last := time.Now().UnixNano(), c.saidAway.Load()
		if now-last < int64(sayAgain) || !c.saidAway.CompareAndSwap(last, now) {
			return
		}
	}
	c.log.Warn(doing, append(attrs, "err", err)...)
}

// keepPatience bounds how long keeping something may take. It is there for storage that
// hangs; a large blob on slow storage takes minutes.
const keepPatience = 15 * time.Minute

// keeping is the context for writing down what is here already. It outlives the cache's life,
// which waits for it: bytes that have been paid for are not thrown away by a shutdown.
func (c *Cache) keeping() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.life), keepPatience)
}

// tasks are the goroutines that outlive their callers. After wait has begun no new ones start.
type tasks struct {
	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

// start runs f in a goroutine of its own, unless the house is closing.
func (t *tasks) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.group.Go(f)
	return true
}

func (t *tasks) wait() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.group.Wait()
}

var errClosing = &registry.Fault{Code: registry.Unavailable, Message: "this registry is shutting down, ask again", RetryAfter: time.Second}
