package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// counted is a writer that counts what arrives and how often.
type counted struct {
	mu     sync.Mutex
	text   []byte
	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	c.text = append(c.text, p...)
	return len(p), nil
}

func (c *counted) seen() (string, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text), c.writes
}

func TestLinesLeaveInOrderAndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out counted
		l := &lines{out: &out}
		l.Write([]byte("first\n"))
		if text, _ := out.seen(); text != "first\n" {
			t.Error("a line alone did not leave at once")
		}
		for range 100 {
			l.Write([]byte("more\n"))
		}
		if _, writes := out.seen(); writes != 1 {
			t.Errorf("%d writes before the time is up, want 1", writes)
		}
		time.Sleep(3 * linger)
		if text, writes := out.seen(); text != "first\n"+strings.Repeat("more\n", 100) || writes != 2 {
			t.Errorf("%d writes of %d bytes, want 2 with all that was written", writes, len(text))
		}
		l.Write([]byte("after a pause\n"))
		if _, writes := out.seen(); writes != 3 {
			t.Error("a line after a pause did not leave at once")
		}
		l.Write([]byte("last\n"))
		l.Flush()
		if text, _ := out.seen(); !strings.HasSuffix(text, "after a pause\nlast\n") {
			t.Error("Flush left a line behind")
		}
		l.Write(bytes.Repeat([]byte("x"), fullLog))
		if _, writes := out.seen(); writes != 5 {
			t.Error("a full log waited")
		}
		time.Sleep(3 * linger) // the timers end
	})
}
