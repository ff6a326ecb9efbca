package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"roadstead/registry"
)

const (
	// retries is how often one endpoint is asked again for the same thing (U7).
	retries = 2

	// firstWait is the pause before the first retry, twice as long before the second, each by
	// up to a half shorter or longer so that a herd spreads.
	firstWait = 100 * time.Millisecond

	// longestWait is the longest Retry-After that is worth waiting for inside a request.
	longestWait = 2 * time.Second
)

// budget keeps retries a tenth of all requests, so that they do not bury an upstream that is
// already in trouble. It holds enough for a quiet start.
type budget struct {
	mu    sync.Mutex
	spent float64 // retries that are not paid for
}

const budgetMost = 10

func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(0, b.spent-0.1)
}

func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent+1 > budgetMost {
		return false
	}
	b.spent++
	return true
}

// turn is one endpoint's chance to answer.
type turn struct {
	*endpoint
	by time.Time // when the answer must have begun
}

// each asks one endpoint after the other, from number first on, until one answers. f asks a
// single one and may be called again.
//
// What is unknown to one endpoint may be known to the next; it is unknown to upstream only if
// all say so. An endpoint that could not say anything makes the whole answer "unavailable".
func (r *Registry) each(ctx context.Context, first int, f func(context.Context, turn) error) error {
	if r.offline {
		// Nobody waits for it to end, and it says nothing of upstream.
		return &registry.Fault{Code: registry.Unavailable, Message: "this server is offline and asks no upstream", Answered: true, Err: errOffline}
	}
	end := time.Now().Add(r.timeout)
	var worst *trouble
	for i := range r.endpoints {
		left := time.Until(end) / time.Duration(len(r.endpoints)-i)
		t := turn{endpoint: r.endpoints[(first+i)%len(r.endpoints)], by: time.Now().Add(left)}
		err := r.try(ctx, t, f)
		if err == nil {
			return nil
		}
		found, ok := errors.AsType[*trouble](err)
		if !ok {
			return err // a fault of ours
		}
		if worst == nil || gravity(found) > gravity(worst) {
			worst = found
		}
		if ctx.Err() != nil {
			break
		}
	}
	// Those who waited for one token share its error, so it is not theirs to change.
	fault := *worst.Fault
	if worst.again && fault.RetryAfter == 0 {
		fault.RetryAfter = time.Second // the circuit lets a request pass sooner than that
	}
	return &fault
}

// gravity orders errors by how little they say of what was asked for.
func gravity(t *trouble) int {
	switch {
	case registry.Passing(t):
		return 2
	case errors.Is(t, registry.Denied):
		return 1
	}
	return 0
}

// try asks one endpoint, and again if that may help.
func (r *Registry) try(ctx context.Context, t turn, f func(context.Context, turn) error) error {
	if after := t.quiet(); after > 0 {
		return r.throttled(after, errLeft)
	}
	r.budget.earn()
	for n := 0; ; n++ {
		err := f(ctx, t)
		found, ok := errors.AsType[*trouble](err)
		if !ok || !found.again || n == retries {
			return err
		}
		wait := firstWait << n
		wait += time.Duration((rand.Float64() - 0.5) * float64(wait))
		wait = max(wait, found.RetryAfter)
		if wait > longestWait || time.Now().Add(wait).After(t.by) || !r.budget.spend() {
			return err
		}
		r.stats.retries.Add(1)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return r.calledOff(ctx.Err())
		}
	}
}
