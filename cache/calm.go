package cache

import (
	"context"
	"sync"
	"time"
)

// calm keeps the syncs to disk out of the way of downloads. A sync makes everybody who writes
// to the same file system wait for the disk, and so the layers of a pull for each other; no
// client waits for one, because a flight that has all its bytes serves them from its draft.
// So what is to be kept is kept once no bytes are coming in.
type calm struct {
	mu      sync.Mutex
	filling int           // flights that are writing to their drafts
	since   time.Time     // when the last one ended
	quiet   time.Duration // how long there has to be none
}

const (
	// quiet covers the pause that a client makes between two layers.
	quiet = 100 * time.Millisecond

	// restless is the longest that keeping waits for a quiet moment. What is not kept by then
	// could be lost in a crash, and would only have to be downloaded again.
	restless = 3 * time.Second

	// glance is how often those who wait look. There are few of them, and a little late is
	// no harm.
	glance = 20 * time.Millisecond
)

func (c *calm) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filling++
}

func (c *calm) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filling--
	c.since = time.Now()
}

// left is how much longer it has to stay quiet; more than that while something comes in.
func (c *calm) left() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filling > 0 {
		return restless
	}
	return c.quiet - time.Since(c.since)
}

// wait returns in a quiet moment, after restless, or when life ends, which has to go fast.
func (c *calm) wait(life context.Context) {
	for end := time.Now().Add(restless); ; {
		left := c.left()
		if left <= 0 || !time.Now().Before(end) {
			return
		}
		select {
		case <-time.After(min(left, glance)):
		case <-life.Done():
			return
		}
	}
}
