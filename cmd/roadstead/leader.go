package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"roadstead/registry/admin"
	"roadstead/storage/catalog"
)

// housekeeping is the lease of the node that does what is done once for all of a cluster: it makes
// room, retains and collects by plan, prunes the audit log and tidies the bucket.
const housekeeping = "housekeeping"

// leader is whether this is that node. One that has no others always is.
type leader struct {
	log *slog.Logger

	mu      sync.Mutex
	tenure  *tenure
	changed chan struct{} // closed when there is another tenure; nil: nobody waits for that
}

// tenure is a time in which this node leads.
type tenure struct {
	ctx  context.Context // ends with it
	work sync.WaitGroup  // what is done because of it
}

// run leads whenever no other node does, until ctx ends. node is what this one is called; "" without a
// cluster.
func (l *leader) run(ctx context.Context, db *catalog.DB, node string) error {
	db.Lead(ctx, housekeeping, node, func(within context.Context) { // its error is that ctx has ended
		if node != "" {
			l.log.Info("this node leads")
		}
		t := &tenure{ctx: within}
		l.set(t)
		<-within.Done()
		if ctx.Err() == nil {
			l.log.Warn("this node leads no more", "err", context.Cause(within))
		}
		l.set(nil)
		t.work.Wait()
	})
	return nil
}

func (l *leader) set(t *tenure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tenure = t
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// leads reports whether this node does now.
func (l *leader) leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tenure != nil
}

// while calls fn each time that this node leads, until ctx ends. fn gets a ctx that ends with that.
func (l *leader) while(ctx context.Context, fn func(ctx context.Context)) {
	for ctx.Err() == nil {
		t, changed := l.join()
		if t != nil {
			within, cancel := context.WithCancel(ctx)
			stop := context.AfterFunc(t.ctx, cancel)
			fn(within)
			<-within.Done() // what has nothing more to do is done for this time
			stop()
			cancel()
			t.work.Done()
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// join returns the tenure there is, of whose work the caller is a part then, or nil and what is closed
// when there is one.
func (l *leader) join() (*tenure, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tenure != nil && l.tenure.ctx.Err() == nil {
		l.tenure.work.Add(1)
		return l.tenure, nil
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return nil, l.changed
}

// leads says whether this node does, to whoever asks about a cluster; nil without one.
func (h *House) leads() func() bool {
	if h.nodes.cluster == nil {
		return nil
	}
	return h.leader.leads
}

// leaderHealth says which node of a cluster leads.
func (h *House) leaderHealth(ctx context.Context) []admin.Component {
	if h.nodes.cluster == nil {
		return nil
	}
	who, err := h.data.Catalog.Holder(ctx, housekeeping)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		err = errors.New("no node leads; one will within ten seconds, or none reaches the database")
	case err != nil:
		err = fmt.Errorf("which node leads is not known: %w", err)
	default:
		return []admin.Component{component("leader "+who.Node, nil)}
	}
	return []admin.Component{component("leader", err)}
}
