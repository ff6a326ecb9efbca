package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"roadstead/registry"
)

// endpoint is one of the registries that an upstream is made of, and what it has said of
// itself.
type endpoint struct {
	r      *Registry
	base   *url.URL // scheme, host and what comes before /v2/
	origin origin
	tokens shared[string] // by scope key
	heads  atomic.Int32   // whether HEAD of a manifest is to be believed: headUnknown …
	asked  atomic.Bool    // so that something is known of how it is

	mu     sync.Mutex
	method method
	silent time.Time // until then it wants no requests
}

// question is what an endpoint is asked.
type question struct {
	method  string
	path    string   // below /v2/
	query   string   // already encoded
	url     *url.URL // in place of path and query: the next page of a list
	accept  []string
	span    string // of a Range field
	ifRange string
	repo    string        // whose scope a token needs
	unknown registry.Code // what 404 means
}

// ask asks an endpoint and returns its answer if that is 200 or 206. The caller closes its
// body. All errors are troubles.
func (t turn) ask(ctx context.Context, q question) (*http.Response, error) {
	e := t.endpoint
	out := request{method: q.method, url: q.url, header: http.Header{}, by: t.by, trusted: true}
	if q.url == nil {
		u := *e.base
		u.Path += "/v2/" + q.path
		u.RawQuery = q.query
		out.url = &u
	}
	if len(q.accept) > 0 {
		out.header["Accept"] = q.accept
	}
	if q.span != "" {
		out.header.Set("Range", q.span)
	}
	if q.ifRange != "" {
		out.header.Set("If-Range", q.ifRange)
	}
	if originOf(out.url) != e.origin {
		// A page elsewhere, where a redirect led: what follows is asked for as a stranger.
		out.trusted = false
		res, _, err := e.r.follow(ctx, out)
		return t.accepted(res, false, err, q)
	}
	return t.askAs(ctx, q, out)
}

// askAs shows the credentials that the endpoint wants to see, as soon as it is known which:
// before it asks for them, if it did so before. A token that it refuses is replaced once, and
// so are credentials that have changed meanwhile; then no means no (U4, U20).
func (t turn) askAs(ctx context.Context, q question, out request) (*http.Response, error) {
	e := t.endpoint
	scope := "" // as the last challenge named it
	for refused := 0; ; {
		var err error
		if out.authorization, err = e.authorization(ctx, t.by, q.repo, scope); err != nil {
			return nil, err
		}
		res, own, err := e.r.follow(ctx, out)
		if err != nil || res.StatusCode != http.StatusUnauthorized || !own {
			return t.accepted(res, own, err, q)
		}
		if out.authorization != "" {
			refused++
		}
		fields := res.Header.Values("WWW-Authenticate")
		found := e.r.verdict(res, q.unknown)
		var change bool
		if scope, change, err = e.challenged(ctx, t.by, fields, q.repo, out.authorization); err != nil {
			return nil, err
		}
		if !change || refused > 1 {
			return nil, e.refusal(found)
		}
	}
}

// accepted lets a good answer pass, and makes an error of any other.
func (t turn) accepted(res *http.Response, own bool, err error, q question) (*http.Response, error) {
	if err != nil {
		return nil, err
	}
	if own {
		t.r.stats.noteLimit(res.Header)
	}
	good := res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent && q.span != ""
	if !good {
		found := t.r.verdict(res, q.unknown)
		if errors.Is(found, registry.Throttled) && own {
			found.RetryAfter = t.silence(found.RetryAfter)
		}
		return nil, found
	}
	if encoding := res.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		res.Body.Close()
		return nil, t.r.unexpected("what was asked for", fmt.Errorf("%s: content encoding %q, identity was asked for", res.Request.URL.Host, registry.Clip(encoding)))
	}
	return res, nil
}

// silence remembers that the endpoint wants no requests for a while, and returns how long.
func (e *endpoint) silence(after time.Duration) time.Duration {
	if after <= 0 {
		// Docker Hub says that its limit is reached and not until when. A few seconds keep a
		// herd away and cost nobody much when the limit ends.
		after = 10 * time.Second
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.silent = time.Now().Add(after)
	return after
}

// quiet is for how long yet the endpoint wants no requests, in whole seconds.
func (e *endpoint) quiet() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := time.Until(e.silent)
	if left <= 0 {
		return 0
	}
	return (left + time.Second - 1).Truncate(time.Second)
}
