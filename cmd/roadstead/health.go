package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry/admin"
	"roadstead/storage"
)

// ready says whether this server should get requests, or why not. That upstreams are down is
// no reason: what is here is served all the same, and another node would fare no better.
func (h *House) ready(ctx context.Context) error {
	return errors.Join(h.stopping(), h.readable(ctx), h.writable())
}

// health tells the parts of the house apart, for people who look.
func (h *House) health(ctx context.Context) []admin.Component {
	return append([]admin.Component{
		component("storage", h.writable()),
		component("catalog", h.readable(ctx)),
	}, h.upstreams.health()...)
}

// health says which upstreams are down, or are believed without proof.
func (u *upstreams) health() []admin.Component {
	u.mu.Lock()
	current := u.current
	u.mu.Unlock()
	var all []admin.Component
	for _, name := range slices.Sorted(maps.Keys(current)) {
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
	if _, err := h.data.Catalog.Usage(ctx); err != nil {
		return fmt.Errorf("catalog: %w", err)
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
		Ready:     h.ready,
		Health:    h.health,
		Version:   thisBuild().Version,
	})
}
