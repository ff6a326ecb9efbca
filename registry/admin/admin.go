// Package admin is what operators and their machines look at: metrics and health. It asks
// the rooms for their plain figures and renders them; no other room knows of Prometheus.
//
// Everything here tells about the inside of the house and asks for no password, so it
// belongs on a listener of its own that clients do not reach.
package admin

import (
	"context"
	"net/http"

	"roadstead/cache"
	"roadstead/registry/hosted"
	"roadstead/registry/peer"
	"roadstead/registry/server"
	"roadstead/registry/upstream"
	"roadstead/storage"
)

// Config says whom to ask. What is nil has nothing to tell.
type Config struct {
	Cache     func() cache.Stats
	Hosted    func() hosted.Stats
	Server    func() server.Stats
	Upstreams func() map[string]upstream.Stats // by project
	Cluster   func() peer.Stats
	Leads     func() bool // whether this node of a cluster does what one has to
	Hot       func() (storage.HotStats, bool)
	Disk      func() (Disk, error)
	Bucket    func() []BucketRequests // by method
	Jobs      func() []Jobs           // by kind
	Settings  func() Settings

	// Ready returns nil when this node should get requests, else why not: an error, or
	// several of them joined. Nil means always.
	Ready func(ctx context.Context) error

	// Degraded says what a node that is Ready does without, or nil: an error, or several of them
	// joined. Nil means nothing.
	Degraded func(ctx context.Context) error

	// Parts are those of the node that are of a fixed set of names, for metrics.
	Parts func(ctx context.Context) []Component

	// Health tells the parts of the node apart, whatever they are.
	Health func(ctx context.Context) []Component

	Version string // of the program, for roadstead_build_info
}

// Component is a part of the node and how it is.
type Component struct {
	Name   string `json:"name"`
	Status string `json:"status"` // Healthy or Unhealthy
	Error  string `json:"error,omitempty"`
}

// The states of a component, in the words that Harbor's health report has.
const (
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
)

// New returns the handler of /metrics, /healthz and /readyz.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics(c))
	mux.Handle("GET /healthz", healthz(c.Health))
	mux.Handle("GET /readyz", readyz(c.Ready, c.Degraded))
	return mux
}
