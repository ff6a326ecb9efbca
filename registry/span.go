package registry

import (
	"context"
	"log/slog"
)

// Span is a piece of work under way, for whoever traces how an answer comes about. Its methods may be
// called concurrently. Work that nobody traces has none; [StartSpan] returns one that does nothing then.
type Span interface {
	// Start begins a piece of this one. It may outlive it.
	Start(name string) Span

	// Note adds facts to it. Keys and values are those of the log: never a credential, token or body.
	Note(facts ...slog.Attr)

	// Link says that it waits for another piece of work, which somebody else has begun. Nil is none.
	Link(other Span)

	// Carry calls set with the headers by which another process continues it (W3C Trace Context).
	Carry(set func(name, value string))

	// End ends it, once; err is how. That something does not exist or is not allowed is an answer
	// and no failure of the work.
	End(err error)
}

type spanKey struct{}

// WithSpan returns a context for a piece of work. Nil changes nothing.
func WithSpan(ctx context.Context, s Span) context.Context {
	if s == nil {
		return ctx
	}
	return context.WithValue(ctx, spanKey{}, s)
}

// SpanOf returns the piece of work that ctx belongs to, or nil if nobody traces it: one that
// [WithSpan] has put there, or the request that a [Trace] is of.
func SpanOf(ctx context.Context) Span {
	if s, ok := ctx.Value(spanKey{}).(Span); ok {
		return s
	}
	if t, _ := ctx.Value(traceKey{}).(*Trace); t != nil {
		return t.Span
	}
	return nil
}

// StartSpan begins a piece of the work of ctx, and returns a context for it. Where nobody traces that
// it is ctx itself.
func StartSpan(ctx context.Context, name string) (context.Context, Span) {
	parent := SpanOf(ctx)
	if parent == nil {
		return ctx, untraced{}
	}
	s := parent.Start(name)
	return WithSpan(ctx, s), s
}

// About are the facts of what a question is about.
func About(repo Repo, ref string) []slog.Attr {
	return []slog.Attr{slog.String("project", repo.Project), slog.String("repo", repo.String()), slog.String("ref", ref)}
}

// untraced is a span that nobody looks at.
type untraced struct{}

func (untraced) Start(string) Span          { return untraced{} }
func (untraced) Note(...slog.Attr)          {}
func (untraced) Link(Span)                  {}
func (untraced) Carry(func(string, string)) {}
func (untraced) End(error)                  {}
