// Package api is the REST API that Harbor's clients speak, /api/v2.0, and beside it in the same style
// what Harbor lacks, /api/roadstead/v1.
//
// What lives here: which calls there are, what is in their bodies, and how answers and errors look on
// the wire, all as Harbor has it. Who may what, what can be and when it is in force is the estate's:
// nothing here decides.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"

	"roadstead/registry/access"
	"roadstead/registry/estate"
)

// Config is what an API answers from. Estate and Access must be set.
type Config struct {
	Estate *estate.Estate
	Access *access.Access

	// URL is how clients reach the server, without a path; "": by the Host header of each request.
	URL string

	Version string // of the program

	// OIDC says that people may log in by a provider.
	OIDC bool

	// Health tells how the parts of the house are; nil: it is not known. Those that are not Core are
	// for administrators.
	Health func(context.Context) []Component

	// Room is how large the filesystem of the content is and what is free of it, in bytes. Nil: it is
	// not known.
	Room func() (free, total int64, err error)

	// Upstreams and Cache tell the figures of the house; nil: there are none. Of Figures, the Answers of
	// all projects together are counted here.
	Upstreams func() []Upstream
	Cache     func() Figures

	// Stopping reports whether the server is about to end. Nil: it never is.
	Stopping func() bool

	Log *slog.Logger // nil: none
}

// Component is a part of the house and how it is.
type Component struct {
	Name  string
	Down  bool   // it does not work
	Error string // what is wrong with it, or what to know of one that works
	Core  bool   // what everybody may know of
}

// API is an http.Handler for all that is below /api/.
type API struct {
	config Config
	estate *estate.Estate
	access *access.Access
	log    *slog.Logger
	mux    *chi.Mux
	origin *http.CrossOriginProtection

	audience audience
}

// New makes an API.
func New(c Config) *API {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Health == nil {
		c.Health = func(context.Context) []Component { return nil }
	}
	a := &API{config: c, estate: c.Estate, access: c.Access, log: c.Log, origin: http.NewCrossOriginProtection()}
	a.mux = chi.NewRouter()
	for _, row := range slices.Concat(routes, mines) {
		a.mux.Method(row.method, row.pattern, a.handler(row.serve))
	}
	a.mux.NotFound(a.handler(func(*call) error { return nothing }))
	a.mux.MethodNotAllowed(a.handler(func(*call) error { return notAllowed }))
	return a
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Content-Type", "application/json; charset=utf-8")
	a.mux.ServeHTTP(w, r.WithContext(access.From(r.Context(), r.RemoteAddr)))
}

// handler has a call answered, or its error.
func (a *API) handler(serve func(*call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{API: a, w: w, r: r}
		if err := c.enter(); err != nil {
			c.refuse(err)
			return
		}
		if err := serve(c); err != nil {
			c.refuse(err)
		}
	}
}
