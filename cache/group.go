package cache

import (
	"context"
	"maps"
	"sync"
)

// call is one piece of shared work. Its result is state that any number of waiters read once
// done is closed.
type call[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// pending returns the call for k that is under way, or nil.
func (g *group[K, V]) pending(k K) *call[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls[k]
}

// matching returns the calls under way that match.
func (g *group[K, V]) matching(match func(K) bool) []*call[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*call[V]
	for k, w := range g.calls {
		if match(k) {
			all = append(all, w)
		}
	}
	return all
}

// drop lets nobody join the calls that match any more. They go on for those who have.
func (g *group[K, V]) drop(match func(K) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.calls, func(k K, _ *call[V]) bool { return match(k) })
}

// wait blocks until the work is done or ctx ends.
func (w *call[V]) wait(ctx context.Context) (V, error) {
	select {
	case <-w.done:
		return w.value, w.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// group lets all who ask the same at the same time share one answer.
type group[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

// join returns the call for k, starting one by run if there is none. The work does not belong
// to the caller: run starts it in a goroutine that outlives him, or returns false when it may
// not, and then the answer is errClosing. joined says that somebody else had started it.
func (g *group[K, V]) join(k K, run func(func()) bool, work func() (V, error)) (w *call[V], joined bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.calls[k]; w != nil {
		return w, true
	}
	w = &call[V]{done: make(chan struct{})}
	started := run(func() {
		defer func() {
			// A waiter that comes after the removal starts anew and finds, in memory, what
			// the work has left there.
			g.mu.Lock()
			if g.calls[k] == w {
				delete(g.calls, k)
			}
			g.mu.Unlock()
			close(w.done)
		}()
		w.value, w.err = work()
	})
	if !started {
		w.err = errClosing
		close(w.done)
		return w, false
	}
	if g.calls == nil {
		g.calls = map[K]*call[V]{}
	}
	g.calls[k] = w
	return w, false
}
