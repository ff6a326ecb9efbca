package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/registry/admin"
	"roadstead/registry/peer"
	"roadstead/registry/server"
	"roadstead/storage/catalog"
)

// nodes is what a house in a cluster has beside others: the other nodes, and the door that is for them
// alone. Without a cluster it is the zero value.
type nodes struct {
	cluster  *peer.Cluster
	listener net.Listener
	handler  http.Handler
}

// openNodes takes the place of this node in its cluster, if it is in one. Nothing is said to the
// others before it runs.
func openNodes(cfg Config, data *Data, h *House) (n nodes, err error) {
	if cfg.Cluster.Listen == "" {
		return nodes{}, nil
	}
	self, err := cfg.Cluster.self(cfg.Storage.Directory)
	if err != nil {
		return nodes{}, err
	}
	n.cluster, err = peer.New(peer.Config{Self: self, Secret: peer.Secret(cfg.Cluster.Secret), Roll: roll{data.Catalog}, Drain: cfg.Drain, Log: h.log})
	if err != nil {
		return nodes{}, err
	}
	n.listener, err = h.supervisor.listen("cluster.listen", cfg.Cluster.Listen)
	return n, err
}

// name is what the others call this node; "" without a cluster.
func (n nodes) name() string {
	if n.cluster == nil {
		return ""
	}
	return n.cluster.Self().ID
}

// forNodes answers other nodes out of the cache, and takes in what their clients push to uploads of this
// one. Who may have what they have decided already; what they ask for is asked of upstream and of
// nobody else, because [peer.Cluster.Handler] notes that it is.
func (h *House) forNodes() http.Handler {
	proxied := func(project string) bool { return !h.hosted.Has(project) && h.table.Load().Known(project) }
	return h.nodes.cluster.Handler(server.New(server.Config{
		Registry: h.cache,
		Traced:   h.traces.request(),
		Known:    proxied,
		Reserved: func(name string) bool { return reservedNames[name] != "" },
	}), proxied, h.hosted)
}

// uploader is where blobs are pushed to: this node, or in a cluster whichever of them an upload is at.
func (h *House) uploader() registry.Uploader {
	if h.nodes.cluster == nil {
		return h.hosted
	}
	return h.nodes.cluster.Uploads(h.hosted)
}

// roll is the one that the catalog keeps, in the words of the cluster.
type roll struct{ catalog *catalog.DB }

// Beat signs a node in.
func (r roll) Beat(ctx context.Context, n peer.Node, within time.Duration) ([]peer.Node, error) {
	alive, err := r.catalog.Beat(ctx, catalog.Node{ID: n.ID, Address: n.URL}, within)
	var all []peer.Node
	for _, one := range alive {
		all = append(all, peer.Node{ID: one.ID, URL: one.Address})
	}
	return all, err
}

// Leave signs it out.
func (r roll) Leave(ctx context.Context, n peer.Node) error { return r.catalog.Leave(ctx, n.ID) }

// alone says why it is not known who else is there, or that another process goes by this node's name, or
// nil.
func (n nodes) alone() error {
	_, since, err := n.cluster.Nodes()
	if errors.Is(err, catalog.ErrTwin) {
		return fmt.Errorf("%w (%s): give each node a cluster.name of its own", catalog.ErrTwin, n.name())
	}
	if err != nil && since.IsZero() {
		return fmt.Errorf("who is alive has never been known: %w", err)
	}
	if err != nil {
		return fmt.Errorf("who is alive was last known %s ago: %w", time.Since(since).Round(time.Second), err)
	}
	return nil
}

// health says which nodes there are, and which of them do not answer this one.
func (n nodes) health() []admin.Component {
	if n.cluster == nil {
		return nil
	}
	all, _, _ := n.cluster.Nodes()
	var parts []admin.Component
	for _, one := range all {
		var err error
		if n.cluster.Silent(one) {
			err = errors.New("it did not answer a moment ago; upstream is asked in its place")
		}
		parts = append(parts, component("node "+one.ID, err))
	}
	return parts
}

// first reports whether this node is the one that keeps the catalog to what its configuration declares.
// The others do that when they start or read theirs again, and no more: two whose configurations
// differ, as they do while one after the other gets a new one, would undo each other's for ever.
//
// It is the one of the lowest ID and not the leader: a change is heard once, and in the seconds in which
// nobody leads, as when the first nodes start or the leader has died, nobody would act on it. Who is first
// is known without a lease, and two who both take themselves for it for a moment do no harm.
func (n nodes) first() bool {
	if n.cluster == nil {
		return true
	}
	all, _, _ := n.cluster.Nodes()
	return !slices.ContainsFunc(all, func(one peer.Node) bool { return one.ID < n.cluster.Self().ID })
}

// stats are the figures of the cluster; nil without one.
func (n nodes) stats() func() peer.Stats {
	if n.cluster == nil {
		return nil
	}
	return n.cluster.Stats
}

// news is what other processes have changed in the catalog and this one has not taken note of yet.
type news struct {
	some chan struct{} // has room for one

	mu      sync.Mutex
	changes []catalog.Change
}

// mostNews is how many changes wait at most. Beyond that anything may have changed.
const mostNews = 1 << 14

func (n *news) add(c catalog.Change) {
	n.mu.Lock()
	if len(n.changes) >= mostNews {
		n.changes = []catalog.Change{{Topic: catalog.Anything}}
	}
	n.changes = append(n.changes, c)
	n.mu.Unlock()
	select {
	case n.some <- struct{}{}:
	default: // the one that waits there is as good
	}
}

func (n *news) take() []catalog.Change {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.changes
	n.changes = nil
	return all
}

// gather is for how long news are gathered: an eviction elsewhere comes in hundreds of pieces, each of
// which would be a walk through memory.
const gather = 100 * time.Millisecond

// hear has what other processes change in the catalog known here, until ctx ends: rules at once, those about
// projects by Run's goroutine, which changed wakes up, and accounts by access; and what has gone by the
// cache.
func (h *House) hear(ctx context.Context, changed chan<- struct{}) error {
	n := news{some: make(chan struct{}, 1)}
	var telling sync.WaitGroup
	defer telling.Wait()
	telling.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-n.some:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(gather):
			}
			h.cache.Gone(n.take())
		}
	})
	h.data.Catalog.Watch(ctx, func(c catalog.Change) { // its error is that ctx has ended
		if c.Topic == catalog.Rules || c.Topic == catalog.Anything {
			h.access.Changed()
			select {
			case changed <- struct{}{}:
			default: // the one that waits there is as good
			}
		}
		if c.Topic != catalog.Rules {
			n.add(c)
		}
	})
	return nil
}
