package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry/admin"
	"roadstead/storage"
)

// ready says whether this server should get requests, or why not. That upstreams are down is
// no reason: what is here is served all the same, and another node would fare no better. Nor is it that
// the catalog or the bucket is away, which they are for all nodes at once as a rule: see degraded.
func (h *House) ready(context.Context) error {
	return errors.Join(h.stopping(), h.blind(), h.writable())
}

// degraded says what this server does without, or nil.
func (h *House) degraded(ctx context.Context) error {
	var all []error
	for _, c := range h.parts(ctx) {
		if c.Status != admin.Healthy {
			all = append(all, fmt.Errorf("%s: %s", c.Name, c.Error))
		}
	}
	return errors.Join(all...)
}

// parts are those that the house is made of, each with a name that does not change.
func (h *House) parts(ctx context.Context) []admin.Component {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	var catalog, bucket error
	var asking sync.WaitGroup
	asking.Go(func() { catalog = h.readable(ctx) })
	if h.data.bucket != nil {
		asking.Go(func() { bucket = h.bucket.ask(ctx, h.data.bucket.Check) })
	}
	storage := h.writable()
	asking.Wait()
	all := []admin.Component{component("storage", storage)}
	if h.data.bucket != nil {
		all = append(all, component("bucket", bucket))
	}
	all = append(all, component("catalog", catalog), component("accounts", h.unsure()))
	if h.nodes.cluster != nil {
		all = append(all, component("cluster", h.nodes.alone()))
	}
	return all
}

// health tells the parts of the house apart, for people who look.
func (h *House) health(ctx context.Context) []admin.Component {
	return slices.Concat(h.parts(ctx), h.hotHealth(), h.nodes.health(), h.leaderHealth(ctx), h.upstreams.health())
}

var errLate = errors.New("it gave no answer in time")

// lately is the last answer to a question that costs its owner a request.
type lately struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// askPatience is how long a part is waited for: those who probe give up after a few seconds, and are to
// hear which of the parts it is.
const askPatience = 1500 * time.Millisecond

// How often it is asked at most, as long as it is well and else: probes come every few seconds from
// several sides, and whoever waits for it to be back waits for nothing else.
const (
	askEvery = 5 * time.Second
	askAgain = time.Second
)

func (l *lately) ask(ctx context.Context, question func(context.Context) error) error {
	l.mu.Lock()
	at, err := l.at, l.err
	l.mu.Unlock()
	if age := time.Since(at); age < askAgain || err == nil && age < askEvery {
		return err
	}
	err = question(ctx)
	if ctx.Err() != nil {
		err = errLate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.err = time.Now(), err
	return err
}

// health says which upstreams are down, or are believed without proof.
func (u *upstreams) health() []admin.Component {
	u.mu.Lock()
	current := u.current
	u.mu.Unlock()
	var all []admin.Component
	for _, name := range slices.Sorted(maps.Keys(current)) {
		if current[name].remote.Offline {
			all = append(all, admin.Component{Name: "upstream " + name, Status: admin.Healthy, Error: "it is never asked (offline: true)"})
			continue
		}
		var down error
		if unreachable(current[name].registry) {
			down = errors.New("no endpoint answers; what is cached is served")
		}
		c := component("upstream "+name, down)
		if current[name].remote.unproven() && c.Error == "" {
			c.Error = "its certificate is not verified (insecure: true)"
		}
		all = append(all, c)
	}
	return all
}

func component(name string, err error) admin.Component {
	if err != nil {
		return admin.Component{Name: name, Status: admin.Unhealthy, Error: err.Error()}
	}
	return admin.Component{Name: name, Status: admin.Healthy}
}

// readable asks the catalog something that it always knows.
func (h *House) readable(ctx context.Context) error {
	if why := h.missing.error(); why != nil && lacking(why) == "catalog" {
		return why
	}
	if _, err := h.data.Catalog.Usage(ctx); err != nil {
		if ctx.Err() != nil {
			return errLate
		}
		return err
	}
	return nil
}

// writable tries to write a byte where all content begins. A full disk is no reason to turn
// requests away: they are served without being kept until there is room again.
func (h *House) writable() error {
	d, err := h.data.Store.Draft(digest.SHA256, 1)
	if errors.Is(err, storage.ErrFull) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	defer d.Close()
	if _, err := d.Write([]byte{0}); err != nil && !errors.Is(err, storage.ErrFull) {
		return fmt.Errorf("storage: %w", err)
	}
	return nil
}

// serveAdmin answers for metrics and health until ctx ends.
func serveAdmin(ctx context.Context, l net.Listener, handler http.Handler) error {
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, WriteTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// A second is enough for answers of a few kilobytes; whoever does not take them is gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		s.Close()
	}
	<-done
	return nil
}

// newAdmin stacks metrics and health on the rooms that have something to tell.
func (h *House) newAdmin() http.Handler {
	return admin.New(admin.Config{
		Cache:     h.cache.Stats,
		Hosted:    h.hosted.Stats,
		Server:    h.server.Stats,
		Upstreams: h.upstreams.Stats,
		Cluster:   h.nodes.stats(),
		Leads:     h.leads(),
		Hot:       h.data.Store.Hot,
		Disk:      h.disk,
		Bucket:    h.bucketRequests,
		Jobs:      h.jobs,
		Settings:  h.settings,
		Ready:     h.ready,
		Degraded:  h.degraded,
		Parts:     h.parts,
		Health:    h.health,
		Version:   thisBuild().Version,
	})
}
