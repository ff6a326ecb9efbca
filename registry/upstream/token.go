package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"roadstead/registry"
)

const (
	// shortestToken is how long a token lives that says nothing of it, or less: the token
	// specification's own minimum (distribution, "Token Authentication Specification").
	shortestToken = 60 * time.Second

	// longestToken bounds what is believed; a token that ends sooner is replaced when it is
	// refused.
	longestToken = 12 * time.Hour

	// keepDenial keeps wrong credentials from being tried for every request of a herd, which
	// gets accounts locked (U4).
	keepDenial = 5 * time.Second

	// maxToken is the longest answer of a token service, in bytes. Tokens of a few kilobytes
	// exist; header fields end somewhere above.
	maxToken = 256 << 10
)

// tokenService is where an endpoint's tokens come from, as its challenge says.
type tokenService struct {
	realm   *url.URL
	service string
}

// fetchToken asks for a token for a scope. The credentials go along if the token service may
// see them; if it may not, the token is an anonymous one.
func (e *endpoint) fetchToken(ctx context.Context, by time.Time, from tokenService, scope string) (string, time.Duration, error) {
	r := e.r
	q := request{method: http.MethodGet, header: http.Header{"Accept": {"application/json"}}, by: by, trusted: e.trusts(from.realm)}
	var who secret
	if q.trusted {
		var err error
		if who, err = e.secret(ctx, by); err != nil {
			return "", 0, err
		}
	}
	u := *from.realm
	q.url = &u
	values := url.Values{"service": {from.service}, "scope": {scope}}
	if from.service == "" {
		values.Del("service")
	}
	if scope == "" {
		values.Del("scope")
	}
	switch {
	case who.identity():
		q.method = http.MethodPost
		values.Set("grant_type", "refresh_token")
		values.Set("client_id", r.agent)
		values.Set("refresh_token", who.password)
		q.form = values.Encode()
		q.header.Set("Content-Type", "application/x-www-form-urlencoded")
	default:
		query := u.Query()
		for name, value := range values {
			query[name] = value
		}
		u.RawQuery = query.Encode()
		if who != (secret{}) {
			q.authorization = basic(who)
		}
	}
	r.stats.tokens.Add(1)
	res, _, err := r.follow(ctx, q)
	if err != nil {
		return "", 0, err
	}
	if res.StatusCode != http.StatusOK {
		return e.noToken(res, who)
	}
	defer res.Body.Close()
	body, err := r.read(res, maxToken, "a token")
	if err != nil {
		return "", 0, err
	}
	token, life, err := parseToken(body)
	if err != nil {
		return "", 0, r.unexpected("a token", fmt.Errorf("%s: %w", u.Host, err))
	}
	return token, life, nil
}

// noToken is the token service's refusal to somebody.
func (e *endpoint) noToken(res *http.Response, who secret) (string, time.Duration, error) {
	t := e.r.verdict(res, registry.Unavailable)
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		// Helpers and files may know better by the next time.
		e.r.keys.refused(e.base.Host, who)
		return "", keepDenial, e.refusal(t)
	case res.StatusCode == http.StatusTooManyRequests:
		t.RetryAfter = e.silence(t.RetryAfter)
	case res.StatusCode < 500:
		// Nothing is known of what was asked for: a token service has no manifests to miss.
		t = e.r.unexpected("a token", t.Err)
	}
	return "", 0, t
}

// secret is what to show to this endpoint. Its error is a trouble.
func (e *endpoint) secret(ctx context.Context, by time.Time) (secret, error) {
	// A helper is a program that may hang.
	brief, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	who, err := e.r.keys.secret(brief, e.base.Host)
	switch {
	case err == nil:
		return who, nil
	case ctx.Err() != nil:
		return secret{}, e.r.calledOff(ctx.Err())
	}
	// Unlike wrong credentials, those that are not to be had may be there in a moment.
	t := e.r.forbidden("cannot be asked: its credentials are not to be had", err)
	t.Timeout = brief.Err() != nil
	return secret{}, t
}

// parseToken reads the answer of a token service. Both names of the token are in use; times
// of its clock are not believed, only spans (U20).
func parseToken(body []byte) (token string, life time.Duration, err error) {
	var answer struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(body, &answer) != nil {
		// The parser's own error could show a piece of the token.
		return "", 0, errors.New("not JSON with a token in it")
	}
	token = answer.Token
	if token == "" {
		token = answer.AccessToken
	}
	if token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", 0, errors.New("no token that fits a header in it")
	}
	var seconds float64
	// Some services send it as text; one that makes no sense counts as none.
	if json.Unmarshal([]byte(strings.Trim(string(answer.ExpiresIn), `"`)), &seconds) != nil {
		seconds = 0
	}
	life = longestToken
	if seconds < longestToken.Seconds() {
		life = time.Duration(seconds * float64(time.Second))
	}
	life = max(life, shortestToken)
	// A token has to live until its request arrives.
	return token, life - min(life/10, 30*time.Second), nil
}
