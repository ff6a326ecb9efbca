package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"roadstead/registry"
)

// ErrUnavailable says that the database could not be asked, or has not answered in time: what was
// asked is neither there nor not there. Later it may be asked again.
//
// From Update and Durable it can mean that the commit has gone out and its answer never came: all of
// it is in the catalog then, or nothing.
//
// To whoever answers requests it is a [registry.Unavailable].
var ErrUnavailable error = away{}

type away struct{}

func (away) Error() string { return "the catalog's database is not available" }
func (away) Unwrap() error { return registry.Unavailable }

// ErrRefused is in an ErrUnavailable of a database that has answered and does not let us in: it is not
// away, and somebody has to change it or the configuration.
var ErrRefused = errors.New("it refuses us")

// remote is what it takes to ask a database in another process, maybe elsewhere. Whatever happens to
// that or to what is between, each question ends. nil is for a database that is a file.
type remote struct {
	// An answer is waited for no longer than patience, and a turn to write than queue.
	patience time.Duration
	queue    time.Duration
	// lost reports whether an error means that a connection is gone or cannot be made.
	lost func(error) bool
	// renew closes the connections that nobody uses: what has broken one has broken others. nil: there
	// is no more than one.
	renew func()
	// unprepared: the schema may be an older one, or none. Nobody is to ask.
	unprepared atomic.Bool

	mu      sync.Mutex
	down    bool
	retry   time.Time                  // not asked before that while it is down
	probing bool                       // while it is down: somebody is asking
	waiting map[int]context.CancelFunc // who waits for others to have written, and not for the database
	last    int                        // of their numbers
}

// pause is how long nobody asks a database that did not answer. After it one question goes out, and
// the others are refused at once until that has an answer: thousands of pulls that each wait for it
// would be as good as an outage of what is known without it.
const pause = time.Second

// enter says whether to ask at all. Whoever may has to leave.
func (r *remote) enter() error {
	if r == nil {
		return nil
	}
	if r.unprepared.Load() {
		return fmt.Errorf("%w: it has not been reached since the start", ErrUnavailable)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.down {
		return nil
	}
	if r.probing || time.Now().Before(r.retry) {
		return fmt.Errorf("%w: it did not answer a moment ago", ErrUnavailable)
	}
	r.probing = true
	return nil
}

// leave notes what the error of whoever entered says of the database. ctx is that of the caller.
func (r *remote) leave(ctx context.Context, err error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil && (ctx.Err() != nil || errors.Is(err, errBusy) || errors.Is(err, errBroken)):
		// The caller did not wait for an answer or was not asking, or asked by a connection that is no
		// more, so there is nothing to learn.
	case err != nil && r.silent(err):
		r.down, r.retry = true, time.Now().Add(pause)
		for _, cancel := range r.waiting {
			cancel()
		}
	default:
		r.down = false
	}
	r.probing = false
}

// whileHeard is a ctx that ends when the database turns out not to answer somebody else. Whoever waits for
// others to have written cannot tell their patience from its silence. Whoever asks whether it is back has
// it as it is.
func (r *remote) whileHeard(ctx context.Context) (_ context.Context, done func()) {
	if r == nil {
		return ctx, func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	if r.waiting == nil {
		r.waiting = map[int]context.CancelFunc{}
	}
	r.last++
	number := r.last
	r.waiting[number] = cancel
	return ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, number)
		cancel()
	}
}

// silent reports whether an error is that of a database that gave no answer.
func (r *remote) silent(err error) bool { return errors.Is(err, errSilent) || r.lost(err) }

// errSilent is in the errors of questions that had no answer in time. That of a caller whose own time
// is over has none of it.
var errSilent = errors.New("no answer")

// errBroken is in the errors of transactions whose connection was gone in the middle. They cannot be tried
// again by a new one, as a question can, and so say nothing of whether there is one to be had.
var errBroken = errors.New("the connection broke")

// within is what the error of a transaction that had begun says of the database.
func (r *remote) within(err error) error {
	if r == nil || err == nil || errors.Is(err, errSilent) || !r.lost(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

// errBusy is in the errors of those whom others of this process were in the way of: of their turn to write,
// or of a connection. It says nothing of the database.
var errBusy = errors.New("others of this process were first")

// seats are as many as a pool has connections. Whoever asks takes one before, so that the wait for others
// cannot be mistaken for the silence of the database, as it can in the pool. nil: it is not counted.
type seats chan struct{}

// seat waits for one so long.
func (r *remote) seat(ctx context.Context, all seats, patience time.Duration) (free func(), err error) {
	if all == nil {
		return func() {}, nil
	}
	select {
	case all <- struct{}{}:
		return func() { <-all }, nil
	default:
	}
	heard, done := r.whileHeard(ctx)
	defer done()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case all <- struct{}{}:
		return func() { <-all }, nil
	case <-timer.C:
		return nil, fmt.Errorf("%w: %w: %d had all connections for %s", ErrUnavailable, errBusy, cap(all), patience)
	case <-heard.Done():
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("%w: %w, and had no answer", ErrUnavailable, errBusy)
}

// ask asks a question when one of the seats is free.
func (r *remote) ask(ctx context.Context, all seats, question func(context.Context) error) error {
	if r == nil {
		return question(ctx)
	}
	if err := r.enter(); err != nil {
		return err
	}
	free, err := r.seat(ctx, all, r.patience)
	if err != nil {
		r.leave(ctx, err)
		return err
	}
	defer free()
	return r.answer(ctx, question)
}

// answer asks a question: twice if the first time a connection turned out to be gone, and the second time by
// one that is new. A restart of the server leaves nothing but broken ones in a pool.
func (r *remote) answer(ctx context.Context, question func(context.Context) error) error {
	within, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	err := question(within)
	if err != nil && r.lost(err) && within.Err() == nil {
		if r.renew != nil {
			r.renew()
		}
		err = question(within)
	}
	err = r.judge(ctx, err)
	r.leave(ctx, err)
	return err
}

// bound bounds one statement of a transaction.
func (r *remote) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if r == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, r.patience)
}

// judge tells an answer that is an error from none. ctx is that of the caller, whose own end is told
// as it is.
func (r *remote) judge(ctx context.Context, err error) error {
	switch {
	case r == nil || err == nil || errors.Is(err, ErrUnavailable):
		return err
	case ctx.Err() != nil:
		if r.lost(err) { // it is we who have closed it
			return context.Cause(ctx)
		}
		return err
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		// Not %w, or the caller would take it for the end of its own time.
		return fmt.Errorf("%w: %w: %v", ErrUnavailable, errSilent, err)
	case r.lost(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
