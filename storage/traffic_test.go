package storage

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// Whoever wants content that is leaving waits until it is gone, and not for ever.
func TestTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const awayPatience = 5 * time.Second
		var way Traffic
		const d = digest.Digest("sha256:1")
		gone, ok := way.Leave(d)
		if !ok {
			t.Fatal("content of which nobody knows cannot leave")
		}
		if _, ok := way.Leave(d); ok {
			t.Error("it leaves twice")
		}
		came := make(chan time.Time, 2)
		for range 2 {
			go func() {
				if !way.Come(d, awayPatience) {
					t.Error("it is gone and not free to come")
				}
				came <- time.Now()
			}()
		}
		time.Sleep(time.Second)
		left := time.Now()
		gone()
		for range 2 {
			if at := <-came; !at.Equal(left) {
				t.Errorf("it came %s after it was gone", at.Sub(left))
			}
		}
		if _, ok := way.Leave(d); ok {
			t.Error("it leaves while two bring it")
		}
		way.Came(d)
		if _, ok := way.Leave(d); ok {
			t.Error("it leaves while one brings it")
		}
		way.Came(d)
		gone, ok = way.Leave(d)
		if !ok {
			t.Fatal("it cannot leave any more")
		}
		start := time.Now()
		if way.Come(d, awayPatience) { // a removal that hangs
			t.Error("it is free to come while it is leaving")
		}
		if waited := time.Since(start); waited != awayPatience {
			t.Errorf("waited %s for a removal that hangs", waited)
		}
		gone()
		way.Came(d)
		if len(way.coming)+len(way.leaving) > 0 {
			t.Errorf("left over: %v, %v", way.coming, way.leaving)
		}
	})
}
