package admin

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// patience is how long an answer about health is waited for. Probes give up after a few
// seconds at most, and should hear what is wrong instead.
const patience = 2 * time.Second

// check asks a question whose answer may hang: a disk that does not answer holds whoever reads
// from it, and no ctx frees him. So the question runs beside those who ask, once however many
// they are, and while it hangs it is not asked again.
type check[T any] struct {
	ask func(context.Context) T

	mu      sync.Mutex
	current *attempt[T] // nil when nothing runs
}

// attempt is a question under way.
type attempt[T any] struct {
	since  time.Time
	done   chan struct{}
	answer T // once done is closed
}

// answer returns an answer that was given after the question was put to c, or that a question
// already under way gave; an error if there is none in time.
func (c *check[T]) answer(ctx context.Context) (T, error) {
	a := c.join(ctx)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var none T
	select {
	case <-a.done:
		return a.answer, nil
	case <-timer.C:
		return none, fmt.Errorf("the check has not ended for %s", time.Since(a.since).Round(time.Second))
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (c *check[T]) join(ctx context.Context) *attempt[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		return c.current
	}
	a := &attempt[T]{since: time.Now(), done: make(chan struct{})}
	c.current = a
	// Outlives the request that began it, for others may have joined, but not its patience
	// if the question heeds that. Nothing can wait for one that does not; there is one at most.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	go func() {
		defer cancel()
		a.answer = c.ask(ctx)
		c.mu.Lock()
		c.current = nil
		c.mu.Unlock()
		close(a.done)
	}()
	return a
}
