// Package access knows who sent a request and whether they may do what it asks.
//
// What lives here: users, robots and their roles as they are kept in memory, passwords and
// tokens, the token service, the vault of secrets, the audit log, and how all of it is
// administered. What a path means and how an answer looks is the server's; where accounts are
// stored is the catalog's.
//
// Whether something is allowed is one pure function of what is in memory (snapshot.authorize),
// and what it has no row for is refused.
package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Config is what Open needs. Catalog and Directory must be set.
type Config struct {
	Catalog *catalog.DB

	// Directory is where keys are: those that sign tokens and those that seal secrets, in files
	// that nobody else may read. It is made if it is missing.
	Directory string

	// Secret is what the nodes of a cluster have in common and nobody else knows. Keys are in the catalog
	// then, sealed by it, and those in Directory are taken over if the cluster has none. Empty: there is no
	// other node.
	Secret string

	// URL is how clients reach the server, without a path: "https://registry.example.com".
	// Empty: by the Host header of each request, and by HTTPS if it came by TLS.
	URL string

	// AdminPassword is what the user "admin" gets that is made when there is no user at all.
	// Empty: a password is made up and told to Announce, once.
	AdminPassword string

	// Announce is told a password that was made up. Nil: no user is made without an
	// AdminPassword, and nobody can log in until somebody adds one.
	Announce func(user, password string)

	// Route says which repository a name of a scope means, as in server.Config. Nil: the first
	// component is the project.
	Route func(host, ns, name string) (registry.Repo, error)

	// AnyoneCreates lets every user create projects, who then administer them. Otherwise
	// administrators do, and robots of the system that may.
	AnyoneCreates bool

	// Later lets an Access be opened while the catalog is away. Only what is for everybody is allowed
	// then, until Begin has succeeded.
	Later bool

	OIDC *OIDC        // nil: users log in with passwords only
	Log  *slog.Logger // nil: no log

	cost cost // of hashing passwords; zero: what is usual. Tests hash many.
}

// Project is what has to be known of a project to decide about requests.
type Project struct {
	Name   string
	Public bool // anybody may pull from it
	Hosted bool // it can be pushed to; it is a proxy cache otherwise
}

// Access decides about requests. All its methods may be called concurrently.
type Access struct {
	config  Config
	catalog *catalog.DB
	log     *slog.Logger

	now    atomic.Pointer[snapshot] // what is decided by
	begun  atomic.Bool              // accounts have been read
	lost   atomic.Int64             // since when they have not been, while the catalog is away, in nanoseconds since 1970; 0: it is not
	keys   *keyring
	shared *sharedKeys // nil: there are no other nodes
	vault  *vault

	proofs   *proofs   // passwords that were looked at
	limits   *limits   // of failed logins
	verified *verified // tokens that were looked at
	audit    *audit
	sessions *sessions // of browsers
	portal   *portal   // nil without OIDC

	// One at a time reads accounts or takes projects, so that what is decided by never goes
	// back to something older.
	mu       sync.Mutex
	accounts catalog.Accounts
	projects []Project

	anyoneCreates bool

	caught atomic.Int64 // when caughtUp last looked, in nanoseconds since 1970

	changed chan struct{} // has room for one: another process has changed accounts

	asking   sync.Mutex // guards what follows
	answered time.Time  // when the catalog was last asked for changes and answered
	troubled bool       // it was not the last time
}

// Open reads accounts and keys. On the first start, when there is no user, it makes the user
// "admin" (see Config.AdminPassword and Announce); there is no password that is known to more
// than who was told it (FAULTS C1). It starts nothing. Several processes may have the same
// catalog and directory open.
func Open(ctx context.Context, c Config) (*Access, error) {
	if c.Route == nil {
		c.Route = func(_, _, name string) (registry.Repo, error) { return registry.SplitRepo(name), nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.cost == (cost{}) {
		c.cost = usual
	}
	if err := checkURL(c.URL); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(c.Directory)
	if err != nil {
		return nil, fmt.Errorf("directory of keys: %w", err)
	}
	c.Directory = dir
	a := &Access{
		config: c, catalog: c.Catalog, log: c.Log,
		proofs: newProofs(), limits: newLimits(), verified: newVerified(), audit: newAudit(c.Log),
		sessions: newSessions(c.Catalog, c.Secret), anyoneCreates: c.AnyoneCreates, changed: make(chan struct{}, 1),
	}
	in, err := a.keystore(keyFolder(dir))
	if err != nil {
		return nil, err
	}
	a.vault, a.keys = &vault{in: in}, newKeyring(in, c.Log)
	if c.OIDC != nil {
		if a.portal, err = newPortal(a, c.OIDC); err != nil {
			return nil, err
		}
	}
	a.renew()
	if err := a.Begin(ctx); err != nil && !(c.Later && errors.Is(err, catalog.ErrUnavailable)) {
		return nil, err
	}
	return a, nil
}

// keystore is where keys are: in the files of a directory, unless there are other nodes.
func (a *Access) keystore(files keyFolder) (keystore, error) {
	if a.config.Secret != "" {
		a.shared = newSharedKeys(a.catalog, a.config.Secret)
		return a.shared, nil
	}
	if err := os.MkdirAll(string(files), 0o700); err != nil {
		return nil, fmt.Errorf("directory of keys: %w", err)
	}
	return files, tellLoose(string(files), a.log)
}

// SetProjects tells which projects there are, proxy and hosted. Until it is called there is none.
func (a *Access) SetProjects(projects []Project) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.projects = append([]Project(nil), projects...)
	a.renew()
}

// SetAnyoneCreates says whether every user may create projects from now on, as Config has it at
// first.
func (a *Access) SetAnyoneCreates(anyone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.anyoneCreates = anyone
	a.renew()
}

// renew makes what is decided by of what is known. a.mu is held.
func (a *Access) renew() {
	s := newSnapshot(a.accounts, a.projects, a.config.OIDC)
	s.anyoneCreates = a.anyoneCreates
	a.now.Store(s)
	a.sessions.sweep(s.users) // the lock of sessions is taken inside of a.mu, and never around it
}

// reload reads all accounts.
func (a *Access) reload(ctx context.Context) error {
	// The lock is held over the question so that of two answers the newer one stays. Nobody who
	// decides about a request waits for it.
	a.mu.Lock()
	defer a.mu.Unlock()
	accounts, err := a.catalog.Accounts(ctx)
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	a.accounts = accounts
	a.renew()
	return nil
}

const (
	// watch is how often Run looks for changes that another process made, and for how long the
	// records of the audit log are gathered.
	watch = time.Second

	// lookAgain is how often at most a login that fails has us look at once, and glance how long it waits
	// for the answer.
	lookAgain, glance = 50 * time.Millisecond, time.Second

	// settling is how long Changed waits for more: who administers makes several changes in a row, and
	// each reading is of all accounts.
	settling = 100 * time.Millisecond
)

// Run notices within two seconds what other processes change, writes the audit log and replaces
// keys, until ctx ends. What was recorded by then is written before it returns.
func (a *Access) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { a.follow(ctx) })
	tick := time.NewTicker(watch)
	defer tick.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		select {
		case <-ctx.Done():
			// What happened has to be in the audit log, however the server ends; a database
			// that is away must not keep it from ending.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			a.audit.drain()
			return a.flush(ctx)
		case r := <-a.audit.source():
			if a.audit.gather(r) {
				a.flushed(ctx)
			}
		case <-tick.C:
			a.flushed(ctx)
		case <-hour.C:
			if !a.begun.Load() {
				continue // a key made now would keep Begin from taking over those there are
			}
			if err := a.keys.tend(time.Now()); err != nil {
				a.log.Error("no new signing key", "err", err)
			}
		}
	}
}

// follow reads accounts again when somebody has changed them, until ctx ends. It does not wait for the audit
// log: a turn to write may be long in coming while others have theirs, and what was taken away from
// somebody must not be his for as long.
func (a *Access) follow(ctx context.Context) {
	tick := time.NewTicker(watch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-a.changed:
			select {
			case <-ctx.Done():
				return
			case <-time.After(settling):
			}
		}
		a.refresh(ctx)
	}
}

// Changed says that another process may have changed accounts: Run looks at once, and not when it is next
// time. It does not wait for that.
func (a *Access) Changed() {
	select {
	case a.changed <- struct{}{}:
	default: // the one that waits there is as good
	}
}

// refresh reads accounts again if somebody has changed them.
func (a *Access) refresh(ctx context.Context) {
	if !a.begun.Load() {
		return // Begin is to be first
	}
	began := time.Now()
	generation, err := a.catalog.Generation(ctx)
	if err == nil && generation != a.now.Load().generation {
		if err = a.reload(ctx); err == nil && a.config.Secret != "" {
			err = a.keys.read() // another node may have made one
		}
	}
	if ctx.Err() != nil {
		return
	}
	a.listened(err, began)
}

// caughtUp looks for changes at once, as Run does every so often, and reports whether there were any: who has
// been told a secret by a command that has just made it is not to be refused here. What it costs does not
// depend on who there is, and somebody who guesses passwords does not have the catalog asked each time.
func (a *Access) caughtUp() bool {
	now := time.Now().UnixNano()
	before := a.caught.Load()
	if now-before < int64(lookAgain) || !a.caught.CompareAndSwap(before, now) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), glance)
	defer cancel()
	was := a.now.Load().generation
	a.refresh(ctx)
	return a.now.Load().generation != was
}

// Handler answers what is beside the registry API: the token service and the logins of OIDC.
func (a *Access) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/service/token", a.serveToken)
	if a.portal != nil {
		mux.Handle(home, a.portal.handler())
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, &registry.Fault{Code: registry.NameUnknown, Message: "there is nothing at this path"})
	})
	return mux
}
