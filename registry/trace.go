package registry

import "context"

// Outcome is how a question was answered, for the log line and the metrics of a request.
type Outcome string

// The outcomes. A request that asks several questions (a tag, then its manifest) has the
// farthest one: miss before stale before join before hit.
const (
	Hit   Outcome = "hit"   // from what is here
	Join  Outcome = "join"  // from a download that another request had started
	Stale Outcome = "stale" // from what is here, because upstream could not be asked
	Miss  Outcome = "miss"  // from upstream
)

// Trace is filled while a request is being answered by one goroutine at a time. The server puts
// one into the context; a registry that knows the outcome notes it.
type Trace struct {
	Outcome Outcome
	Stale   bool  // some part of the answer was stale
	Why     error // why that was, for the log; nil when nothing is known of it
}

type traceKey struct{}

// WithTrace returns a context that carries t.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// Note records an outcome in the trace of ctx, if it has one.
func Note(ctx context.Context, o Outcome) {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	if t == nil {
		return
	}
	if o == Stale {
		t.Stale = true
	}
	if rank(o) > rank(t.Outcome) {
		t.Outcome = o
	}
}

// NoteStale records that an answer was stale, and why upstream could not be asked.
func NoteStale(ctx context.Context, why error) {
	Note(ctx, Stale)
	if t, _ := ctx.Value(traceKey{}).(*Trace); t != nil && t.Why == nil {
		t.Why = why
	}
}

func rank(o Outcome) int {
	switch o {
	case Hit:
		return 1
	case Join:
		return 2
	case Stale:
		return 3
	case Miss:
		return 4
	}
	return 0
}
