package upstream

import (
	"context"
	"sync"
	"time"
)

// shared keeps values that cost something to make, each for a while, and has each made by one
// caller at a time. No goroutine is started for it: the first who asks makes the value, and
// when that caller is called off, one of those who wait goes on.
type shared[V any] struct {
	mu      sync.Mutex
	entries map[string]*made[V]
}

// made is a value, or the error in its place. All is set before done is closed and never
// changes after.
type made[V any] struct {
	done      chan struct{}
	value     V
	err       error
	calledOff bool // its maker was; that is no answer for anybody else
	until     time.Time
}

// mostShared is how many values are kept: one for each repository that is asked for within
// the life of a token. It bounds memory and nothing else.
const mostShared = 4096

// get returns the value of a key, or the error that is remembered for it. f makes the value
// and says for how long it, or its error, is kept.
func (s *shared[V]) get(ctx context.Context, key string, f func(context.Context) (V, time.Duration, error)) (V, error) {
	for {
		m, mine := s.enter(key)
		if mine {
			s.make(ctx, key, m, f)
			return m.value, m.err
		}
		select {
		case <-m.done:
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
		if !m.calledOff {
			return m.value, m.err
		}
	}
}

// enter returns the entry of a key, and whether the caller has to make its value.
func (s *shared[V]) enter(key string) (m *made[V], mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.entries[key]; m != nil && !m.over() {
		return m, false
	}
	if s.entries == nil {
		s.entries = map[string]*made[V]{}
	}
	if len(s.entries) >= mostShared {
		s.prune()
	}
	m = &made[V]{done: make(chan struct{})}
	s.entries[key] = m
	return m, true
}

func (s *shared[V]) make(ctx context.Context, key string, m *made[V], f func(context.Context) (V, time.Duration, error)) {
	m.calledOff = true // unless f returns
	keep := time.Duration(0)
	defer func() {
		m.until = time.Now().Add(keep)
		if keep <= 0 {
			s.drop(key, m)
		}
		close(m.done)
	}()
	m.value, keep, m.err = f(ctx)
	m.calledOff = m.err != nil && ctx.Err() != nil
	if m.calledOff {
		keep = 0
	}
}

// forget drops the value of a key if it is still one that was is true for.
func (s *shared[V]) forget(key string, was func(V) bool) {
	s.mu.Lock()
	m := s.entries[key]
	s.mu.Unlock()
	if m != nil && m.ready() && was(m.value) {
		s.drop(key, m)
	}
}

func (s *shared[V]) drop(key string, m *made[V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[key] == m {
		delete(s.entries, key)
	}
}

// prune makes room: what is too old goes, and if that is not a quarter, anything that nobody
// waits for. A quarter, because each time all are looked at.
func (s *shared[V]) prune() {
	for key, m := range s.entries {
		if m.over() {
			delete(s.entries, key)
		}
	}
	for key, m := range s.entries {
		if len(s.entries) <= mostShared*3/4 {
			return
		}
		if m.ready() {
			delete(s.entries, key)
		}
	}
}

func (m *made[V]) ready() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// over says whether a value is there and too old.
func (m *made[V]) over() bool { return m.ready() && time.Now().After(m.until) }
