package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// mostShared is how many calls of Durable share a commit at most: so many that the sync is a small
// part of what each of them costs, few enough that the first does not wait for long.
const mostShared = 256

// queue is the calls of Durable that wait for a commit.
type queue struct {
	mu      sync.Mutex
	waiting []*durable
	led     bool // one of those that wait, or whose turn it is, leads
}

// durable is one call of Durable.
type durable struct {
	fn    func(*Tx) error
	turn  chan struct{} // closed when it has to lead those that wait
	ended chan struct{} // closed when it has been committed, or has to run alone
	alone bool          // readable then
	err   error         // what ended it otherwise
}

// Durable is Update for what must not be lost: when it returns nil, a power cut takes nothing of
// it. Calls that wait at the same time share one transaction and one sync of the disk. If that
// fails for any of them, each runs in a transaction of its own. So fn may run twice, and must
// have no effect but through tx; it sees what others in its transaction wrote.
//
// ctx bounds the wait for a turn to write. A call whose turn has come goes on to its end.
func (db *DB) Durable(ctx context.Context, fn func(*Tx) error) error {
	call := &durable{fn: fn, turn: make(chan struct{}), ended: make(chan struct{})}
	db.queue.join(call)
	select {
	case <-call.ended:
	case <-call.turn:
		if err := db.lead(ctx, call); err != nil {
			return err
		}
	case <-ctx.Done():
		if db.queue.leave(call) {
			return fmt.Errorf("catalog: begin: %w", context.Cause(ctx))
		}
		// It is its turn, or being written.
		select {
		case <-call.ended:
		case <-call.turn:
			db.queue.pass(call)
			return fmt.Errorf("catalog: begin: %w", context.Cause(ctx))
		}
	}
	if !call.alone {
		return call.err
	}
	return db.commit(ctx, true, fn)
}

// lead waits for the turn to write and commits all that wait by then, call among them.
func (db *DB) lead(ctx context.Context, call *durable) error {
	t, err := db.begin(ctx, true)
	if err != nil {
		db.queue.pass(call)
		return err
	}
	all := db.queue.take()
	var fresh []string
	func() {
		// The end of one call's ctx is not that of the others.
		ctx := context.WithoutCancel(ctx)
		defer func() { t.end(ctx, err) }()
		// One that panics fails here, and panics again where it was called from.
		defer func() {
			if recover() != nil {
				err = errors.New("a panic")
			}
		}()
		fresh, err = t.run(ctx, func(tx *Tx) error {
			for _, one := range all {
				if err := one.fn(tx); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	if err == nil {
		db.prepare(ctx, fresh)
	}
	for _, one := range all {
		if errors.Is(err, ErrUnavailable) {
			// That is nobody's own fault, and it may all have been written.
			one.err = err
		} else {
			one.alone = err != nil
		}
		close(one.ended)
	}
	db.queue.next()
	return nil
}

// join makes a call wait, and leads at once when nobody does.
func (q *queue) join(call *durable) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, call)
	if !q.led {
		q.led = true
		close(call.turn)
	}
}

// leave takes back a call that only waits. It reports whether it did.
func (q *queue) leave(call *durable) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-call.turn:
		return false
	default:
	}
	return q.drop(call)
}

// drop removes a call from those that wait; q.mu is held.
func (q *queue) drop(call *durable) bool {
	for i, one := range q.waiting {
		if one == call {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// pass takes back a call that leads and has another one lead.
func (q *queue) pass(call *durable) {
	q.mu.Lock()
	q.drop(call)
	q.mu.Unlock()
	q.next()
}

// take returns those whose turn has come.
func (q *queue) take() []*durable {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), mostShared)
	all := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return all
}

// next has the first of those that wait lead.
func (q *queue) next() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.led = len(q.waiting) > 0
	if q.led {
		close(q.waiting[0].turn)
	}
}
