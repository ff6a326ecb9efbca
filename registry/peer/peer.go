// Package peer is the other nodes of a cluster: which of them are alive, which of them owns a piece
// of content, and how one asks another for it.
//
// A digest has an owner, by rendezvous hash over the nodes that are alive. Whoever is not the owner
// asks it instead of upstream ([Cluster.Over]), and reads from its download while that goes on: so
// one cold blob costs the cluster one download. There are no locks. The worst case of two nodes
// that see the cluster differently is one download too many.
//
// An upload is at the node where it began. Whichever of them a client goes on with it at has that
// one do it ([Cluster.Uploads]).
//
// Nothing here knows what a cache is, nor where the roll of nodes is kept. Nodes prove to each
// other that they belong together with a secret that no client has ([Secret]), on a listener of
// their own.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"roadstead/registry"
)

// Node is a process of the cluster.
type Node struct {
	ID  string // unique among all that ever were
	URL string // where the others reach it, "https://10.0.0.7:5002"; http if it is not to be encrypted
}

// Roll is where the nodes of a cluster sign in, so that each knows of the others.
type Roll interface {
	// Beat says that a node is alive now, and returns all that have said so within the time
	// given, by one clock for all. An error beside nodes says what is wrong with this node's place
	// among them.
	Beat(ctx context.Context, n Node, within time.Duration) ([]Node, error)

	// Leave says that a node ends, so that nobody waits for it.
	Leave(ctx context.Context, n Node) error
}

const (
	// every is how often a node signs in, and dead how long after the last time it counts as
	// dead: two may be lost, and an owner that is frozen is replaced well within ten seconds.
	every = 2 * time.Second
	dead  = 6 * time.Second

	// shunned is for how long a node that did not answer is not asked again, before the roll has
	// noticed that it is gone.
	shunned = 5 * time.Second

	// missed is for how long a node that is off the roll is still asked for uploads that are at it:
	// while it ends, and in case it is soon back where it was.
	missed = time.Minute
)

// Config is what a Cluster is made of. All but Drain, Client and Log must be set.
type Config struct {
	Self   Node
	Secret Secret
	Roll   Roll
	Drain  time.Duration // how long uploads of other nodes' clients may take when this one ends
	Client *http.Client  // nil: that of [NewClient], with TLS by the secret
	Log    *slog.Logger  // nil: nothing is logged
}

// Cluster is this node's view of the nodes. All its methods may be called concurrently.
type Cluster struct {
	self   Node
	secret Secret
	roll   Roll
	drain  time.Duration
	tls    *tls.Config
	client *http.Client
	log    *slog.Logger

	patience time.Duration // as the constant says

	view    atomic.Pointer[view]
	ending  atomic.Pointer[time.Time] // when this node has begun to; nil: it has not
	shuns   shuns
	traffic traffic
	stats   counters
}

// view is what is known of the nodes.
type view struct {
	nodes []Node    // alive, this one too
	gone  []gone    // that were, not long ago
	since time.Time // when the roll was last read
	err   error     // why it could not be read since; nil
}

// gone is a node that is not on the roll any more.
type gone struct {
	Node
	at time.Time
}

// New returns a cluster of this node alone, until Run has found others.
func New(c Config) (*Cluster, error) {
	switch {
	case c.Self.ID == "" || c.Roll == nil:
		return nil, errors.New("peer: a node needs a name and a roll")
	case len(c.Secret) < LeastSecret:
		return nil, fmt.Errorf("peer: the secret of the cluster is %d bytes long and must have at least %d: make one with \"openssl rand -hex 32\" and give it to all nodes", len(c.Secret), LeastSecret)
	}
	if u, err := url.Parse(c.Self.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("peer: %q is no address at which other nodes reach this one: write http://host:port", c.Self.URL)
	}
	cl := &Cluster{self: c.Self, secret: c.Secret, roll: c.Roll, drain: c.Drain, client: c.Client, log: c.Log, patience: patience}
	var err error
	if cl.tls, err = c.Secret.tls(); err != nil {
		return nil, fmt.Errorf("peer: the identity of the cluster: %w", err)
	}
	if cl.client == nil {
		cl.client = NewClient(cl.tls)
	}
	if cl.log == nil {
		cl.log = slog.New(slog.DiscardHandler)
	}
	cl.view.Store(&view{nodes: []Node{c.Self}})
	return cl, nil
}

// Run signs this node in and reads who else is alive, until ctx ends. Then it signs out.
func (c *Cluster) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		c.beat(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			now := time.Now()
			c.ending.Store(&now)
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), every)
			defer cancel()
			if err := c.roll.Leave(leaving, c.self); err != nil {
				c.log.Warn("could not sign out of the cluster, the others will notice", "err", err)
			}
			return nil
		}
	}
}

// beat signs in once. When the roll cannot be read, those that were alive are still taken for it:
// the nodes can do without it, and who does not answer is shunned.
func (c *Cluster) beat(ctx context.Context) {
	beating, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	nodes, err := c.roll.Beat(beating, c.self, dead)
	if ctx.Err() != nil {
		return
	}
	before := c.view.Load()
	if err != nil && len(nodes) == 0 {
		if before.err == nil {
			c.log.Warn("the roll of the cluster cannot be read, the nodes that were alive are taken to be", "nodes", len(before.nodes), "err", err)
		}
		c.view.Store(&view{nodes: before.nodes, gone: before.gone, since: before.since, err: err})
		return
	}
	if err != nil && before.err == nil {
		c.log.Error("this node has no place of its own in the cluster", "node", c.self.ID, "address", c.self.URL, "err", err)
	}
	next := &view{nodes: withSelf(nodes, c.self), since: time.Now(), err: err}
	next.gone = before.missing(next)
	if came, went := differ(before.nodes, next.nodes); len(came)+len(went) > 0 || before.err != nil && err == nil {
		c.log.Info("nodes of the cluster", "alive", len(next.nodes), "came", came, "went", went)
	}
	c.view.Store(next)
}

// withSelf has this node among those alive whatever the roll says: it is.
func withSelf(nodes []Node, self Node) []Node {
	all := []Node{self}
	for _, n := range nodes {
		if n.ID != self.ID {
			all = append(all, n)
		}
	}
	return all
}

// differ returns the names of those that are only in one of the two.
func differ(before, after []Node) (came, went []string) {
	in := func(all []Node, id string) bool {
		for _, n := range all {
			if n.ID == id {
				return true
			}
		}
		return false
	}
	for _, n := range after {
		if !in(before, n.ID) {
			came = append(came, n.ID)
		}
	}
	for _, n := range before {
		if !in(after, n.ID) {
			went = append(went, n.ID)
		}
	}
	return came, went
}

// missing are the nodes that are not in the next view, and were lately.
func (v *view) missing(next *view) (all []gone) {
	here := map[string]bool{}
	for _, n := range next.nodes {
		here[n.ID] = true
	}
	for _, g := range v.gone {
		if !here[g.ID] && next.since.Sub(g.at) < missed {
			all = append(all, g)
			here[g.ID] = true
		}
	}
	for _, n := range v.nodes {
		if !here[n.ID] {
			all = append(all, gone{n, next.since})
		}
	}
	return all
}

// Self is this node.
func (c *Cluster) Self() Node { return c.self }

// Nodes are those that are alive, this one first, and since when that is known. err says why
// nothing newer is.
func (c *Cluster) Nodes() (nodes []Node, since time.Time, err error) {
	v := c.view.Load()
	return v.nodes, v.since, v.err
}

// Node finds one that is alive by its name.
func (c *Cluster) Node(id string) (Node, bool) {
	for _, n := range c.view.Load().nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}

// Silent reports whether a node did not answer lately, so that it is not asked now.
func (c *Cluster) Silent(n Node) bool { return c.shuns.shunned(n.ID, time.Now()) }

// shuns are nodes that did not answer.
type shuns struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (s *shuns) shun(id string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	for other, until := range s.until {
		if now.After(until) {
			delete(s.until, other)
		}
	}
	s.until[id] = now.Add(shunned)
}

func (s *shuns) shunned(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.until[id])
}

// Stats are figures since the start.
type Stats struct {
	Nodes    int   // alive
	Asked    int64 // questions to the owner of content
	Fallback int64 // of these, those that upstream had to answer after all
	Bytes    int64 // that came from other nodes
	Served   int64 // questions of other nodes that were answered
	Refused  int64 // of those that no node had signed
	RollDown bool  // the roll cannot be read

	Forwarded   int64 // requests of clients for uploads that are at other nodes
	Unreachable int64 // of these, those whose node did not answer
	Uploading   int64 // requests of other nodes' clients for uploads here that are under way
}

type counters struct {
	asked, fallback, bytes, served, refused atomic.Int64
	forwarded, unreachable, uploading       atomic.Int64
	answering                               atomic.Int64 // questions of other nodes, now
}

// Stats returns them.
func (c *Cluster) Stats() Stats {
	v := c.view.Load()
	return Stats{
		Nodes: len(v.nodes), RollDown: v.err != nil,
		Asked: c.stats.asked.Load(), Fallback: c.stats.fallback.Load(), Bytes: c.stats.bytes.Load(),
		Served: c.stats.served.Load(), Refused: c.stats.refused.Load(),
		Forwarded: c.stats.forwarded.Load(), Unreachable: c.stats.unreachable.Load(), Uploading: c.stats.uploading.Load(),
	}
}

// owner is the node that brings a digest: the one with the highest score of those that answer.
func (c *Cluster) owner(d registry.Digest) Node {
	now := time.Now()
	best := c.self
	top := score(c.self.ID, d)
	for _, n := range c.view.Load().nodes {
		if s := score(n.ID, d); n.ID != c.self.ID && s > top && !c.shuns.shunned(n.ID, now) {
			best, top = n, s
		}
	}
	return best
}
