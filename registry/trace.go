package registry

import (
	"context"
	"time"
)

// Outcome is how a question was answered, for the log line and the metrics of a request.
type Outcome string

// The outcomes. A request that asks several questions (a tag, then its manifest) has the
// farthest one: miss before held before stale before join before hit.
const (
	Hit   Outcome = "hit"   // from what is here
	Join  Outcome = "join"  // from a download that another request had started
	Stale Outcome = "stale" // from what is here, because upstream could not be asked
	Held  Outcome = "held"  // from what is here, because the project does not follow upstream yet
	Miss  Outcome = "miss"  // from upstream
)

// Trace is filled while a request is being answered by one goroutine at a time. The server puts
// one into the context; a registry that knows the outcome notes it.
type Trace struct {
	Outcome Outcome
	Stale   bool   // some part of the answer was stale
	Held    string // why a tag is answered as it was before it moved upstream; "": it is not
	Why     error  // why that was, for the log; nil when nothing is known of it
	Span    Span   // the request itself; nil: nobody traces it
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

// NoteHeld records that a tag is answered as it was before it moved upstream, and why.
func NoteHeld(ctx context.Context, why string) {
	Note(ctx, Held)
	if t, _ := ctx.Value(traceKey{}).(*Trace); t != nil {
		t.Held = why
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
	case Held:
		return 4
	case Miss:
		return 5
	}
	return 0
}

// Asked is a request of a client that has been answered, for whoever keeps an eye on clients. What is
// text in it is as the client sent it.
type Asked struct {
	At      time.Time
	Remote  string // address and port
	Agent   string
	User    string // "": nobody in particular
	Kind    string // "manifest", "blob", "ping" …
	Repo    Repo   // empty for what is about none
	Ref     string // the tag, or the digest where there is none
	NS      string // the registry that the client thinks it asks
	Status  int    // as it was sent; 499 when the client left
	Outcome Outcome
	Known   bool  // credentials came with it
	Err     error // why it was not answered as it was meant; nil else
}
