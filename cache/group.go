package cache

import (
	"context"
	"maps"
	"sync"

	"roadstead/registry"
)

// call is one piece of shared work. Its result is state that any number of waiters read once
// done is closed.
type call[V any] struct {
	done  chan struct{}
	value V
	err   error

	span registry.Span // that of whoever has begun it; nil: nobody traces it
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

// await is wait for whoever may have joined the call, which is seen then as a piece of his own work.
func (w *call[V]) await(ctx context.Context, joined bool, name string) (V, error) {
	if !joined {
		return w.wait(ctx)
	}
	ctx, span := registry.StartSpan(ctx, "wait for "+name)
	span.Link(w.span)
	v, err := w.wait(ctx)
	span.End(err)
	return v, err
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
	return g.joinFor(context.Background(), errand{}, k, run, func(registry.Span) (V, error) { return work() })
}

// errand is what work is called, and is about, for whoever traces it.
type errand struct {
	name string
	repo registry.Repo
	ref  string
}

// joinFor is join of work that is a piece of what ctx belongs to, where that is traced. It does not end
// with ctx. The span that work gets is nil else.
func (g *group[K, V]) joinFor(ctx context.Context, of errand, k K, run func(func()) bool, work func(registry.Span) (V, error)) (w *call[V], joined bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.calls[k]; w != nil {
		return w, true
	}
	w = &call[V]{done: make(chan struct{})}
	end := func(error) {}
	if asked := registry.SpanOf(ctx); asked != nil {
		w.span = asked.Start(of.name)
		w.span.Note(registry.About(of.repo, of.ref)...)
		end = w.span.End
	}
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
		w.value, w.err = work(w.span)
		end(w.err)
	})
	if !started {
		w.err = errClosing
		end(w.err)
		close(w.done)
		return w, false
	}
	if g.calls == nil {
		g.calls = map[K]*call[V]{}
	}
	g.calls[k] = w
	return w, false
}
