package server

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"

	"roadstead/registry"
)

// spanNames are what spans of requests are called, by their kind: a closed set, as names of spans have to
// be.
var spanNames = func() (all [kinds]string) {
	for k := range all {
		all[k] = "registry " + names[k]
	}
	return all
}()

// trace ends the span of a request. Keys are those of the semantic conventions of OpenTelemetry where these
// have one, and of the log where not.
func (s *Server) trace(res *response, r *http.Request, how string, err error) {
	span, t := res.trace.Span, &res.target
	facts := []slog.Attr{
		slog.String("http.request.method", printable(r.Method, 20)),
		slog.Int("http.response.status_code", res.status),
		slog.Int64("http.response.body.size", res.bytes),
		slog.String("user_agent.original", printable(r.UserAgent(), 120)),
		slog.String("kind", names[t.kind]),
	}
	if res.repo.Name != "" {
		facts = append(facts, registry.About(res.repo, cmp.Or(t.tag, string(t.digest)))...)
	}
	if res.trace.Outcome != "" {
		facts = append(facts, slog.String("outcome", string(res.trace.Outcome)), slog.Bool("stale", res.trace.Stale))
	}
	span.Note(facts...)
	switch {
	case how == gone, res.status < http.StatusInternalServerError && how == "":
		err = nil // by the conventions a refusal is no failure of the server, nor is a client that left
	case err == nil:
		err = fmt.Errorf("status %d", res.status)
	}
	span.End(err)
}
