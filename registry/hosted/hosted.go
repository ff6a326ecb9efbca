// Package hosted is the registry that people push to: the content of hosted projects in the store,
// and what the catalog says of it.
//
// What was acknowledged stays: an answer of success comes when content, links and row are synced.
// Content is readable in a repository that has it by a link of its own, because it was pushed,
// mounted or adopted there, and in no other. What nothing refers to goes after some time
// ([Registry.Collect]), and tags by the rules of their project ([Registry.Retain]).
//
// Who may do what is decided before anything here is asked. Nothing here speaks HTTP.
package hosted

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Config says what a Registry works with.
type Config struct {
	Store   *storage.Store
	Catalog *catalog.DB

	// What uploads under way may take, in bytes: one of them, all of a project, all of the node.
	// Zero means no limit of ours.
	MaxUpload, MaxProject, MaxNode int64

	Idle  time.Duration // an upload that nobody appends to is thrown away after this; zero: 24 h
	Grace time.Duration // content that nothing refers to stays for this long; zero: 24 h
	Every time.Duration // between collections, and retentions; zero: 24 h; negative: never

	// Lead calls fn while this process is the one that finishes what was cut short, and cleans by plan, of
	// several that share the catalog, with a ctx that ends when it no longer is; it returns when its own
	// ctx has ended. Nil: it is the only one.
	Lead func(ctx context.Context, fn func(ctx context.Context))

	// Node is what the others call this process. Empty: there are none.
	Node string

	// Note is told when a cleaning begins that Run does, and again when it has ended. Nil: nobody is.
	Note func(Cleaning)

	Log *slog.Logger // nil: none
}

// defaultAge is how long things stay that nobody needs any more: a push that is interrupted in the
// evening is gone on with the next morning.
const defaultAge = 24 * time.Hour

// Registry is a registry.Reader, registry.Writer and registry.Uploader over hosted projects. All
// its methods may be called concurrently, before Run and beside it.
type Registry struct {
	store   *storage.Store
	catalog *catalog.DB
	log     *slog.Logger
	idle    time.Duration
	grace   time.Duration
	every   time.Duration
	note    func(Cleaning)
	lead    func(ctx context.Context, fn func(ctx context.Context))
	node    string

	projects atomic.Pointer[map[string]*project]
	locks    locks
	pulls    pulls
	uploads  uploads
	totals   totals
	cleaning cleaning

	// at is told of each step that changes something, so that a test can end everything there.
	// nil but in tests.
	at func(step string)

	// unchecked has a collection remove what it has listed without asking again: the control of
	// the tests that it does ask. False but in tests.
	unchecked bool
}

// New makes a registry without projects, and finds the uploads that an earlier one has left.
func New(c Config) (*Registry, error) {
	if c.Store == nil || c.Catalog == nil {
		return nil, errors.New("hosted: a store and a catalog are needed")
	}
	r := &Registry{
		store: c.Store, catalog: c.Catalog, log: c.Log,
		idle:  cmp.Or(c.Idle, defaultAge),
		grace: cmp.Or(c.Grace, defaultAge), every: cmp.Or(c.Every, defaultAge), note: c.Note, lead: c.Lead, node: c.Node,
		cleaning: cleaning{orders: make(chan Order, 1), changed: make(chan struct{}, 1)},
	}
	if r.note == nil {
		r.note = func(Cleaning) {}
	}
	if r.lead == nil {
		r.lead = func(ctx context.Context, fn func(context.Context)) { fn(ctx) }
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.uploads.limits = limits{c.MaxUpload, c.MaxProject, c.MaxNode}
	if err := r.recall(context.Background()); err != nil {
		return nil, fmt.Errorf("hosted: find the uploads under way: %w", err)
	}
	return r, r.SetProjects(nil)
}

// SetProjects says which hosted projects there are. What is under way goes on by the old ones.
func (r *Registry) SetProjects(all []catalog.Project) error {
	projects := make(map[string]*project, len(all))
	for _, p := range all {
		parsed, err := newProject(p)
		if err != nil {
			return err
		}
		projects[p.Name] = parsed
	}
	r.projects.Store(&projects)
	r.replan()
	return nil
}

// Has reports whether a project is a hosted one.
func (r *Registry) Has(project string) bool {
	_, ok := (*r.projects.Load())[project]
	return ok
}

// Number is that of a hosted project, which no other will ever have; 0 for what is none.
func (r *Registry) Number(project string) int64 {
	if p := (*r.projects.Load())[project]; p != nil {
		return p.ID
	}
	return 0
}

func (r *Registry) project(repo registry.Repo) (*project, error) {
	if p := (*r.projects.Load())[repo.Project]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s: no such hosted project: %w", repo, registry.NameUnknown)
}

// step is where a test may end everything.
func (r *Registry) step(name string) {
	if r.at != nil {
		r.at(name)
	}
}

// settling is how long what has begun may take to come to its end once nobody waits for it.
const settling = 30 * time.Second

// settle returns a ctx that outlives the request, to leave nothing half done behind it.
func settle(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settling)
}

// trouble is what a client is told when the disk or the catalog does not do what it should. nil
// stays nil.
func trouble(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrFull):
		return &registry.Fault{Code: registry.Full, Message: "the registry has no room left", Err: err}
	case errors.Is(err, catalog.ErrUnavailable) && !faulted(err):
		return &registry.Fault{Code: registry.Unavailable, Message: "the catalog is away: try again later", RetryAfter: awayRetry, Err: err}
	case known(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return &registry.Fault{Code: registry.Unavailable, Message: "the registry's storage is in trouble, try again later", Err: err}
}

// awayRetry is when a client should come back while the catalog is away: it is looked for as often.
const awayRetry = 5 * time.Second

// faulted reports whether somebody has said already what a client is told of an error.
func faulted(err error) bool {
	_, ok := errors.AsType[*registry.Fault](err)
	return ok
}

// known reports whether an error has a code that says it all.
func known(err error) bool {
	var code registry.Code
	return errors.As(err, &code)
}
