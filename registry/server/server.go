// Package server answers the OCI distribution API 1.1 over any registry.
//
// What lives here: which paths there are, what a request means and what right it takes, how
// content, lists and errors look on the wire, how content that is pushed comes in, and how
// connections are accepted, watched and let go. It does not know what is behind the
// [registry.Reader] and [registry.Writer] it is given, nor which projects and accounts there are.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"roadstead/registry"
)

// Config is what a server is made of. Only Registry must be set.
type Config struct {
	// Registry answers, by full names. If it has one of these methods, it is used:
	//
	//	StatBlob(ctx, Repo, Digest) (Descriptor, error)          // HEAD of a blob without opening it
	//	Repositories(ctx, after string, n int) ([]string, error) // GET /v2/_catalog, which is not there without it
	//	Doubt(Repo, Digest, error)                               // told of a blob that could not be read to its end
	//
	// If the reader of a blob that is no *os.File has this one, it is used to have the kernel
	// send what is there of it already (see the interface sectioned for what it promises):
	//
	//	Section(most int64) (*os.File, int64, error)
	Registry registry.Reader

	// Locate returns a URL at which a client is to fetch a blob by itself, or "" where Registry is to
	// answer. It is asked when it has been decided that the client may have the blob, and for a plain
	// GET only. Whoever knows the URL has the blob, so it is told to nobody else. Nil: nowhere.
	Locate func(ctx context.Context, repo registry.Repo, d registry.Digest) string

	// Writer and Uploader are what hosted projects are pushed to. Nil: none can be.
	Writer   registry.Writer
	Uploader registry.Uploader

	// Hosted reports whether a project can be pushed to; the others are proxy caches. Nil: none.
	Hosted func(project string) bool

	// Access says who may do what. Nil: anybody may read everything, and nobody write.
	Access Access

	// Pulled is told of each manifest that a GET is answered with, and by whom it was asked for: nil
	// where nobody can say. It must not wait. Nil: nobody is told.
	Pulled func(registry.Principal, registry.Repo, registry.Digest)

	// Asked is told of each request of the registry API, at its end. It must not wait. Nil: nobody is.
	Asked func(registry.Asked)

	// Traced begins a span for a request of the registry API, by the headers that came with it; nil where it
	// is not to be traced. Nil: none is.
	Traced func(header http.Header, name string) registry.Span

	// Route says which repository is meant by a name, the ns parameter that came with it and
	// the Host header. Nil: the first component is the project.
	Route func(host, ns, name string) (registry.Repo, error)

	// Known reports whether a project of that name exists. Nil: none does.
	Known func(project string) bool

	// Reserved reports whether paths that begin with a name are Other's, and no project can be
	// called so. Nil: all names are that are no project, which tells what projects there are.
	Reserved func(name string) bool

	// Other answers what is no path of the registry API. Nil: 404 in JSON.
	Other http.Handler

	// Log gets one line for each request at its end. Nil: no log.
	Log *slog.Logger

	// Connections is how many may be open at once; more wait to be accepted.
	// Zero: 10,000, which is 400 MB if each of them is a stalled stream.
	Connections int

	// Stall is how long a client may take no byte of what is being sent to it, or send none of
	// what it pushes, before its connection is dropped. There is no limit for the whole.
	// Zero: 60 s.
	Stall time.Duration

	// HeaderTimeout bounds reading a request: its header, and as long again a body that is
	// ignored. Zero: 10 s.
	HeaderTimeout time.Duration

	// IdleTimeout bounds the wait for the next request of a connection. Zero: 120 s.
	IdleTimeout time.Duration

	// Drain bounds how long running requests may take when Serve is told to end.
	// Zero: 60 s.
	Drain time.Duration
}

// Server is an http.Handler. Its zero value is of no use; see New.
type Server struct {
	config       Config
	mux          *chi.Mux
	stat         func(context.Context, registry.Repo, registry.Digest) (registry.Descriptor, error) // or nil
	repositories func(ctx context.Context, after string, n int) ([]string, error)                   // or nil
	doubt        func(registry.Repo, registry.Digest, error)                                        // or nil
	slots        chan struct{}                                                                      // one for each open connection
	buffers      sync.Pool                                                                          // of *[bufferSize]byte
	counters     counters
}

// New returns a server. It starts nothing.
func New(c Config) *Server {
	if c.Route == nil {
		c.Route = func(_, _, name string) (registry.Repo, error) { return registry.SplitRepo(name), nil }
	}
	if c.Known == nil {
		c.Known = func(string) bool { return false }
	}
	if c.Hosted == nil {
		c.Hosted = func(string) bool { return false }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Connections <= 0 {
		c.Connections = 10_000
	}
	c.Stall = orDefault(c.Stall, 60*time.Second)
	c.HeaderTimeout = orDefault(c.HeaderTimeout, 10*time.Second)
	c.IdleTimeout = orDefault(c.IdleTimeout, 120*time.Second)
	c.Drain = orDefault(c.Drain, 60*time.Second)

	s := &Server{config: c, slots: make(chan struct{}, c.Connections)}
	s.buffers.New = func() any { return new([bufferSize]byte) }
	if r, ok := c.Registry.(interface {
		StatBlob(context.Context, registry.Repo, registry.Digest) (registry.Descriptor, error)
	}); ok {
		s.stat = r.StatBlob
	}
	if r, ok := c.Registry.(interface {
		Repositories(ctx context.Context, after string, n int) ([]string, error)
	}); ok {
		s.repositories = r.Repositories
	}
	if r, ok := c.Registry.(interface {
		Doubt(registry.Repo, registry.Digest, error)
	}); ok {
		s.doubt = r.Doubt
	}

	// chi matches "/v2/*" with the path as it came, whatever is in it; so does "/*", where
	// projects may have a root of their own. It never redirects.
	s.mux = chi.NewRouter()
	s.mux.HandleFunc("/v2", s.serve)
	s.mux.HandleFunc("/v2/*", s.serve)
	s.mux.HandleFunc("/*", s.serve)
	s.mux.NotFound(s.serve)
	s.mux.MethodNotAllowed(s.serve)
	return s
}

func orDefault(d, zero time.Duration) time.Duration {
	if d == 0 {
		return zero
	}
	return d
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// serve answers one request and accounts for it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	s.counters.inFlight.Add(1)
	defer s.counters.inFlight.Add(-1)

	res := &response{w: w, server: s, start: start}
	res.head = r.Method == http.MethodHead
	res.http1 = r.ProtoMajor == 1
	res.target, res.err = parse(r.URL.Path, r.URL.RawPath, s.config.Known, s.mine)
	res.plain = res.http1 && r.TLS == nil
	if s.config.Traced != nil && res.target.kind != other {
		res.trace.Span = s.config.Traced(r.Header, spanNames[res.target.kind])
	}
	defer s.finish(res, r, start)
	s.spare(res, r)
	if res.target.kind == other && s.config.Other != nil {
		s.other(res, r)
		return
	}
	if res.err == nil {
		res.err = s.answer(res, r)
	} else if r.Method == http.MethodPut && errors.Is(res.err, registry.ManifestUnknown) {
		res.err = invalid(registry.TagInvalid, res.err.Error()) // no tag to look for is meant, but one to make
	}
}

// spare sees to it that the body of a request costs little as long as nobody reads it, or when
// nobody does any more.
func (s *Server) spare(res *response, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody || !res.http1 {
		return // HTTP/2 does not take more than a window of it
	}
	// net/http reads what is left of a body, at most 256 KiB, to get to the next request. It
	// lifts the deadline itself at the end of the body. An error here means a connection that
	// knows no deadlines, and then there is none.
	_ = http.NewResponseController(res.w).SetReadDeadline(time.Now().Add(s.config.HeaderTimeout))
	if len(r.TransferEncoding) > 0 {
		// Content-Length beside Transfer-Encoding is how requests are smuggled; net/http drops
		// the former without a trace, and RFC 9112, section 6.1 wants the connection closed.
		res.close = true
	}
}

// other has what is no path of the registry API answered.
func (s *Server) other(res *response, r *http.Request) {
	if res.close {
		res.Header()["Connection"] = closing
	}
	if path := collapse(r.URL.Path); path != r.URL.Path {
		// Slashes are collapsed here as they are everywhere, and nobody is redirected for them.
		clean := *r.URL
		clean.Path, clean.RawPath = path, ""
		r = r.WithContext(r.Context())
		r.URL = &clean
	}
	res.err = nil
	s.config.Other.ServeHTTP(res, r)
}

// mine reports whether a name at the beginning of a path is that of a project, or could be.
func (s *Server) mine(name string) bool {
	if s.config.Reserved == nil {
		return s.config.Known(name)
	}
	return registry.CheckProject(name) == nil && !s.config.Reserved(name)
}

// answer does what a request asks for.
func (s *Server) answer(res *response, r *http.Request) error {
	header := res.Header()
	header["Docker-Distribution-Api-Version"] = apiVersion
	if res.close {
		header["Connection"] = closing
	}
	if len(r.URL.RawQuery) > maxQuery {
		return invalid(uriTooLong, "the query is too long")
	}
	t := &res.target
	if t.kind == nothing || t.kind == other {
		return invalid(registry.NameUnknown, "there is nothing at this path: the paths of the registry API are /v2/<name>/{manifests,blobs,tags,referrers}/…")
	}
	row := s.route(t, verbOf(r.Method))
	if row == nil {
		return invalid(registry.Unsupported, "the method is not allowed here")
	}
	if err := s.enter(res, r, row); err != nil {
		return err
	}
	if row.hosted {
		res.newPush(r)
	}
	// The trace is for the registry only: a context of r itself would copy r.
	err := row.serve(s, registry.WithTrace(r.Context(), &res.trace), res, r)
	if row.audited {
		s.record(res, r, row, err)
	}
	return err
}

// ping says that this is a registry. It is also where a client learns that it must
// authenticate: as soon as one repository is not for everybody, a ping without credentials
// has to be an Unauthorized with a challenge, since with an open ping docker, podman and
// crane never ask for a token at all (RKE2 §3.4).
func (s *Server) ping(_ context.Context, res *response, _ *http.Request) error {
	return res.json("application/json", pong)
}

// pong is the answer to a ping.
var pong = []byte("{}")

// Header values that never change. net/http reads the slices and does not keep them.
var (
	apiVersion  = []string{"registry/2.0"}
	closing     = []string{"close"}
	nosniff     = []string{"nosniff"}
	sandbox     = []string{"sandbox"}
	stale       = []string{`110 - "Response is Stale"`}
	filtered    = []string{"artifactType"}
	nothingLong = []string{"0"}
)
