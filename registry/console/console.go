// Package console is what people see of a registry in their browsers: pages below /c/.
//
// It decides nothing and keeps nothing. What may be seen and done is the estate's to say, and the
// figures are those of the rooms, of which it remembers a day for the charts. Pages are made here,
// whole, and work without script; with it they know of some things sooner.
package console

import (
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"roadstead/cache"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/registry/hosted"
	"roadstead/registry/server"
	"roadstead/registry/upstream"
)

//go:embed pages assets messages
var files embed.FS

// Config is what a Console shows. All of it must be set but Offline, Issuer, Version and Log.
type Config struct {
	Access *access.Access
	Estate *estate.Estate

	// The figures of now, each time they are called.
	Cache     func() cache.Stats
	Flights   func() []cache.Flight
	Hosted    func() hosted.Stats
	Server    func() server.Stats
	Upstreams func() map[string]upstream.Stats // by project

	// Offline reports whether no upstream is ever asked. Nil: they are.
	Offline func() bool

	Issuer  string       // host of the OIDC provider; "": people sign in by password only
	Version string       // of the program
	Log     *slog.Logger // nil: no log
}

// Console serves the pages. All its methods may be called concurrently.
type Console struct {
	config Config
	log    *slog.Logger
	words  map[language]words

	// pages are parsed when the first one is asked for: a start should not wait for them.
	pages func() (map[language]map[string]*template.Template, error)

	assets  map[string]asset
	samples samples
	streams atomic.Int64
	closing chan struct{} // closed when Run ends, and then streams do
	handler http.Handler
}

// New makes a Console. Run has to be called for its charts to fill.
func New(c Config) (*Console, error) {
	if c.Access == nil || c.Estate == nil || c.Cache == nil || c.Flights == nil || c.Hosted == nil || c.Server == nil || c.Upstreams == nil {
		return nil, errors.New("console: a part of the configuration is missing")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	console := &Console{config: c, log: c.Log, closing: make(chan struct{})}
	var err error
	if console.words, err = readWords(); err != nil {
		return nil, err
	}
	if console.assets, err = readAssets(); err != nil {
		return nil, err
	}
	console.pages = sync.OnceValues(func() (map[language]map[string]*template.Template, error) { return readPages(console) })
	console.handler = console.guarded(console.routes())
	return console, nil
}

// ServeHTTP serves what is below /c/ but not below /c/oidc/, which is access's.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.handler.ServeHTTP(w, r.WithContext(access.From(r.Context(), r.RemoteAddr)))
}
