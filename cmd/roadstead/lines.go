package main

import (
	"io"
	"sync"
	"time"
)

// lines is the log's way out of the process. A line leaves at once, unless another has just
// left: then it waits a moment for more to leave with it. A write for each line is a tenth of
// what a cached manifest costs, and nobody reads a thousand lines a second one by one.
type lines struct {
	out io.Writer

	// It is held during the write as well: the order of the lines is what it guards.
	mu   sync.Mutex
	held []byte
	left time.Time // when the last line left
	due  bool      // a timer will flush
}

const (
	// linger is how long a line waits at most: what a crash may take with it.
	linger = 50 * time.Millisecond

	// fullLog is how much is held at most.
	fullLog = 32 << 10
)

// Write takes one line.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = append(l.held, p...)
	if len(l.held) >= fullLog || !l.due && time.Since(l.left) > linger {
		return len(p), l.flush()
	}
	if !l.due {
		l.due = true
		time.AfterFunc(linger, func() { l.Flush() })
	}
	return len(p), nil
}

// Flush writes what is held.
func (l *lines) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due = false
	return l.flush()
}

// flush must be called with the lock held. What cannot be written is lost, as it would be
// without waiting.
func (l *lines) flush() error {
	if len(l.held) == 0 {
		return nil
	}
	_, err := l.out.Write(l.held)
	l.held, l.left = l.held[:0], time.Now()
	return err
}
