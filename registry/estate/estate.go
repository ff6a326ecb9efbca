// Package estate is what is administered: the registries elsewhere and the projects that are caches
// of them or that people push to, with all that is said of them.
//
// The REST API and the console are two faces of it and decide nothing: here it is checked who may
// what, what is written is looked at, and it is recorded in the audit log in the same transaction.
// What is changed is in force when the call returns. What the configuration declares can be looked
// at here and changed nowhere but there.
package estate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/rewrite"
	"roadstead/storage/catalog"
)

// Config is what an Estate works with. All of it must be set but Names, Default, Down, Offline, Node and File.
type Config struct {
	Catalog *catalog.DB
	Access  *access.Access
	Cache   *cache.Cache

	// Scrub reads all content again, says in bytes how far it is, and returns what it has found.
	Scrub func(ctx context.Context, step func(done, total int64)) (found string, err error)

	// InForce puts what the catalog says of registries and projects in force, and returns when it is.
	InForce func(context.Context) error

	// Try says why what there would be after a change could not be served as a whole, or nil. What
	// could not be served before is no fault of the change. It asks nobody and puts nothing in force.
	Try func(*catalog.Tx) error

	// Ping asks a registry whether it is one that takes the password, and returns what is wrong.
	Ping func(ctx context.Context, r catalog.Registry, password string) error

	// Names are the registries that a proxy stands for where clients name one of them. Nil: none.
	Names func(project string) []string

	// Default is the project that names without one belong to where the Host header is host, or "".
	// Nil: there is none.
	Default func(host string) string
	// Table is how names find their projects, and Upstream where a proxy asks for a manifest, one URL
	// after the other.
	Table    func() *rewrite.Table
	Upstream func(repo registry.Repo, reference string) []string
	// Place finds where an image is here, as [rewrite.Table.Place].
	Place func(i rewrite.Image, self ...string) (registry.Repo, error)

	// Builtin reports whether a project is there without anybody having declared it. It makes way
	// for one of its name.
	Builtin func(project string) bool

	// CheckName says why nothing can be a project of that name, or nil.
	CheckName func(project string) error

	// Cleaner collects, by order and by plan. Its cleanings are to be told to Note.
	Cleaner Cleaner

	// Read returns the bytes of content that is in the store, at most so many.
	Read func(ctx context.Context, d registry.Digest, most int64) ([]byte, error)

	// Hosted and Cached are what is in projects of each kind, to be taken out.
	Hosted Hosted
	Cached Content

	// Down reports whether no endpoint of a proxy's registry answers. Nil: it is not known.
	Down func(project string) bool

	// Offline reports whether no upstream is ever asked. Nil: they are.
	Offline func() bool

	Node string // what the other nodes of a cluster call this one; "": there are none

	File string // where the configuration was read, for messages; "": nowhere
}

// Estate administers. All its methods may be called concurrently. The principal who asks is one
// that access has identified; whoever may not is told so, as access.Authorize says.
//
// Errors are registry.Faults that can be shown: Invalid for what is not taken, NameUnknown for what
// is not there, Conflict for what is there already, InUse for what others need.
type Estate struct {
	config  Config
	catalog *catalog.DB
	access  *access.Access
	jobs    jobs
	clients visitors
	looks   chan struct{} // holds one for each Look under way

	history struct {
		sync.Mutex
		running int64 // the collection that is under way or about to begin; 0: none
	}
}

// New makes an Estate.
func New(c Config) *Estate {
	return &Estate{config: c, catalog: c.Catalog, access: c.Access, jobs: jobs{shared: newSharedJobs(c.Catalog, c.Node)}, looks: make(chan struct{}, maxLooks)}
}

// maxLooks is how many manifests are read at once for people: each has up to 4 MiB and its configuration
// another, which is several times that when it is parsed. Real ones have some KiB and are soon through.
const maxLooks = 8

// InUse says that something cannot go because of what needs it.
const InUse registry.Code = "PRECONDITION"

// The kinds of what is administered here.
const (
	Registries = access.Registries
	Projects   = access.Settings
)

// may says why somebody may not do something to a project, or with no project to what belongs to
// none, or nil.
func (e *Estate) may(p registry.Principal, action registry.Action, kind registry.Kind, project string) error {
	return e.access.Authorize(p, action, registry.Resource{Kind: kind, Repo: registry.Repo{Project: project}})
}

// deed is something that is done, as the audit log has it.
type deed struct {
	by     registry.Principal
	action registry.Action
	kind   registry.Kind
	name   string
	detail string // never a secret
}

// change changes the catalog and records it, both or neither, and puts it in force. Whatever is
// changed, all that there would be then is tried before: what is committed is not refused any more.
func (e *Estate) change(ctx context.Context, d deed, fn func(*catalog.Tx) error) error {
	err := e.access.Audited(ctx, d.by.Name(), d.action, d.kind, d.name, d.detail, func(tx *catalog.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return e.config.Try(tx)
	})
	if errors.Is(err, catalog.ErrNotEmpty) {
		return registry.Because(InUse, err, "used", "%s %s is still in use", d.kind, d.name)
	}
	if err != nil {
		return err
	}
	// It is done, whoever waits for it no longer.
	if err := e.config.InForce(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("%s %s %s: done, but not in force yet: %w", d.action, d.kind, d.name, err)
	}
	return nil
}

// record notes in the audit log what changes nothing in the catalog.
func (e *Estate) record(ctx context.Context, d deed) error {
	return e.access.Audited(ctx, d.by.Name(), d.action, d.kind, d.name, d.detail, nothing)
}

// nothing changes nothing in the catalog.
func nothing(*catalog.Tx) error { return nil }
