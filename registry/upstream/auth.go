package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"roadstead/registry"
)

// method is how an endpoint wants to be asked. The zero value is: without credentials, as far
// as we know.
type method struct {
	scheme string // "", "basic" or "bearer"
	tokens tokenService

	// scope is what a challenge asked for in place of the repository, the same for all of them
	// ("aws"). Empty: the repository's own scope.
	scope string
}

// authorization is the header field to send, "" for none.
func (e *endpoint) authorization(ctx context.Context, by time.Time, repo, scope string) (string, error) {
	e.mu.Lock()
	m := e.method
	e.mu.Unlock()
	switch m.scheme {
	case "basic":
		who, err := e.secret(ctx, by)
		if err != nil || who == (secret{}) {
			return "", err
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
			found, ok := errors.AsType[*trouble](err)
			if !ok {
				return "", e.r.calledOff(err)
			}
			if errors.Is(found, registry.Unavailable) && !found.again {
				e.unlearn(m)
			}
			return "", found
		}
		return "Bearer " + token, nil
	}
	return "", nil
}

// unlearn forgets how the endpoint wants to be asked, so that it is asked about it again: its
// token service may have moved, and nobody is left at the old place to say so.
func (e *endpoint) unlearn(m method) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.method == m {
		e.method = method{}
	}
}

func basic(who secret) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(who.username+":"+who.password))
}

// scopeOf is what to ask a token for; "" for one that is good for the root of the API alone.
func (m method) scopeOf(repo string) string {
	if m.scope != "" || repo == "" {
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
func (e *endpoint) challenged(ctx context.Context, by time.Time, fields []string, repo, sent string) (scope string, change bool, err error) {
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
	who, err := e.secret(ctx, by)
	if err == nil && sent == basic(who) {
		e.r.keys.refused(e.base.Host, who)
		who, err = e.secret(ctx, by)
	}
	if err != nil {
		return "", false, err
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
		return nil, e.r.forbidden("has a token service without TLS", fmt.Errorf("%s: the realm of its tokens is http://%s", e.base.Host, registry.Clip(realm.Host)))
	}
	realm.Fragment = ""
	return realm, nil
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
		t.Message = name + " wants credentials, and its token service may not see them: auth_hosts does not name it"
		t.Err = fmt.Errorf("%w; its token service is on %s", t.Err, registry.Clip(realm.Host))
	default:
		t.Message = name + " gives no access with the credentials configured for it"
	}
	return t
}
