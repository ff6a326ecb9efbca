package upstream

import (
	"context"
	"encoding/base64"
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

	mu     sync.Mutex
	method method
	silent time.Time // until then it wants no requests
}

// method is how an endpoint wants to be asked. The zero value is: without credentials, as far
// as we know.
type method struct {
	scheme string // "", "basic" or "bearer"
	tokens tokenService

	// scope is what a challenge asked for in place of the repository, the same for all of them
	// ("aws"). Empty: the repository's own scope.
	scope string
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
		if scope, change, err = e.challenged(ctx, fields, q.repo, out.authorization); err != nil {
			return nil, err
		}
		if !change || refused > 1 {
			return nil, e.refusal(found)
		}
	}
}

// refusal makes a denial say what the operator can do about it.
func (e *endpoint) refusal(t *trouble) *trouble {
	e.mu.Lock()
	realm := e.method.tokens.realm
	e.mu.Unlock()
	name := "upstream " + e.r.name
	switch {
	case e.r.keys.Credentials == (Credentials{}):
		t.Message = name + " gives no anonymous access"
	case realm != nil && !e.trusts(realm):
		t.Message = name + " wants credentials, and its token service may not see them: auth_hosts does not have " + clip(realm.Hostname())
	default:
		t.Message = name + " gives no access with the credentials configured for it"
	}
	return t
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
		return nil, t.r.unexpected("what was asked for", fmt.Errorf("%s: content encoding %q, identity was asked for", res.Request.URL.Host, clip(encoding)))
	}
	return res, nil
}

// authorization is the header field to send, "" for none.
func (e *endpoint) authorization(ctx context.Context, by time.Time, repo, scope string) (string, error) {
	e.mu.Lock()
	m := e.method
	e.mu.Unlock()
	switch m.scheme {
	case "basic":
		who, err := e.r.keys.secret(ctx, e.base.Host)
		if err != nil {
			return "", e.r.noCredentials(ctx, err)
		}
		if who == (secret{}) {
			return "", nil
		}
		return basic(who), nil
	case "bearer":
		if scope == "" {
			scope = m.scopeOf(repo)
		}
		token, err := e.tokens.get(ctx, m.key(repo), func(ctx context.Context) (string, time.Duration, error) {
			return e.fetchToken(ctx, by, m.tokens, scope)
		})
		if err != nil {
			if _, ok := errors.AsType[*trouble](err); !ok {
				err = e.r.calledOff(err)
			}
			return "", err
		}
		return "Bearer " + token, nil
	}
	return "", nil
}

func basic(who secret) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(who.username+":"+who.password))
}

// scopeOf is what to ask a token for.
func (m method) scopeOf(repo string) string {
	if m.scope != "" {
		return m.scope
	}
	return "repository:" + repo + ":pull"
}

// key is what a token is kept under. The realm is part of it: a token is worth nothing to who
// has since named another.
func (m method) key(repo string) string {
	return m.tokens.realm.String() + " " + m.tokens.service + " " + m.scopeOf(repo)
}

// challenged learns from a 401 how the endpoint wants to be asked. It says which scope the
// challenge named, and whether asking again is any use after what was sent.
func (e *endpoint) challenged(ctx context.Context, fields []string, repo, sent string) (scope string, change bool, err error) {
	m, scope, err := e.choose(parseChallenges(fields), repo)
	if err != nil {
		return "", false, err
	}
	e.mu.Lock()
	before := e.method
	if m.scheme != "" {
		e.method = m
	}
	e.mu.Unlock()
	switch {
	case m.scheme == "":
		return "", false, nil
	case m.scheme == "bearer":
		// The token that was refused is worth nothing, nor is one from before the endpoint
		// wanted Basic for a while.
		token, _ := strings.CutPrefix(sent, "Bearer ")
		forget := func(was string) bool { return was == token || before.scheme == "basic" }
		e.tokens.forget(m.key(repo), forget)
		if before.scheme == "bearer" {
			e.tokens.forget(before.key(repo), forget)
		}
		return scope, true, nil
	}
	who, err := e.r.keys.secret(ctx, e.base.Host)
	if err != nil {
		return "", false, e.r.noCredentials(ctx, err)
	}
	if sent == basic(who) {
		e.r.keys.refused(e.base.Host, who)
		if who, err = e.r.keys.secret(ctx, e.base.Host); err != nil {
			return "", false, e.r.noCredentials(ctx, err)
		}
	}
	return "", who != (secret{}) && sent != basic(who), nil
}

// choose picks the challenge to answer: a token if there is one, because a token shows the
// password to fewer.
func (e *endpoint) choose(all []challenge, repo string) (m method, scope string, err error) {
	for _, c := range all {
		switch c.scheme {
		case "bearer":
			realm, err := e.realm(c.params["realm"])
			if err != nil {
				return method{}, "", err
			}
			m = method{scheme: "bearer", tokens: tokenService{realm, c.params["service"]}}
			if len(c.params["scope"]) <= maxScope {
				scope = c.params["scope"]
			}
			if !strings.Contains(scope, repo+":") {
				m.scope = scope
			}
			return m, scope, nil
		case "basic":
			m.scheme = "basic"
		}
	}
	return m, "", nil
}

// maxScope is the longest scope that is passed on: a repository name and some actions.
const maxScope = 1 << 10

// realm checks where a challenge sends us for tokens (A2). It says nothing yet of who may see
// the credentials.
func (e *endpoint) realm(text string) (*url.URL, error) {
	realm, err := url.Parse(text)
	if err != nil || realm.Scheme != "https" && realm.Scheme != "http" || realm.Hostname() == "" || realm.User != nil {
		return nil, e.r.unexpected("a challenge", fmt.Errorf("%s: the realm of its tokens is not a URL", e.base.Host))
	}
	if e.base.Scheme == "https" && realm.Scheme != "https" {
		return nil, e.r.forbidden("has a token service without TLS", fmt.Errorf("%s: the realm of its tokens is http://%s", e.base.Host, clip(realm.Host)))
	}
	realm.Fragment = ""
	return realm, nil
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
