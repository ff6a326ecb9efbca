package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"roadstead/registry"
)

const (
	// A login waits for at most three answers, and a person for none of them longer than this.
	providerTimeout = 10 * time.Second

	// A provider that gave no answer is not asked again at once: each of many people who
	// want to log in would wait for the same silence.
	providerRest = 5 * time.Second

	// Whoever is sent to a provider that is down sees an error of the browser, and not ours that
	// says what it is: so it is asked anew, but not for each of many.
	discoveryAge = time.Minute

	// The documents and tokens of providers are some KiB long.
	answerLimit = 1 << 20
)

// algorithms are what an ID token may be signed with: by a key pair whose private half is the
// provider's alone. None of them is "none", nor a MAC that the client secret is the key of.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512,
	oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// provider is an OIDC provider as it was last discovered. Nothing is asked of it before somebody
// wants to log in: the house runs without.
type provider struct {
	config *OIDC
	client *http.Client

	mu      sync.Mutex
	found   *discovered // of the last discovery that succeeded; nil: none has
	failure error       // of the last one; nil: it succeeded
	asked   time.Time   // the end of the last one
}

// discovered is what a provider says of itself.
type discovered struct {
	*oidc.Provider
	endpoint oauth2.Endpoint
	origins  []string // scheme and host of whatever is asked by us
}

func newProvider(o *OIDC) (*provider, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("oidc: system certificates: %w", err)
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("oidc ca file: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("oidc ca file %s has no certificate", o.CAFile)
		}
	}
	p := &provider{config: o}
	p.client = &http.Client{
		Transport: &leash{p, &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			TLSClientConfig:       &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          4,
			IdleConnTimeout:       time.Minute,
			ResponseHeaderTimeout: providerTimeout,
		}},
		Timeout: providerTimeout,
		// No endpoint has a reason to send us elsewhere, with a code or a secret in the request.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p, nil
}

// discover returns what the provider says of itself, and asks it when it was not asked lately.
// Unavailable says that it gave no answer that is of use.
func (p *provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	found, failure, age := p.found, p.failure, time.Since(p.asked)
	p.mu.Unlock()
	switch {
	case failure != nil && age < providerRest:
		return nil, failure
	case failure == nil && found != nil && age < discoveryAge:
		return found, nil
	}

	// It outlives a client that leaves, whose impatience says nothing of the provider, but not
	// providerTimeout. Several may ask at a time: they get the same answer.
	found, err := p.ask(context.WithoutCancel(ctx))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure, p.asked = err, time.Now()
	if err != nil {
		return nil, err
	}
	p.found = found
	return found, nil
}

func (p *provider) ask(ctx context.Context) (*discovered, error) {
	said, err := oidc.NewProvider(p.context(ctx), p.config.Issuer)
	if err != nil {
		return nil, noAnswer("discover the OIDC provider", err)
	}
	var more struct {
		Keys    string   `json:"jwks_uri"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := said.Claims(&more); err != nil {
		return nil, noAnswer("discover the OIDC provider", err)
	}
	d := &discovered{Provider: said, endpoint: said.Endpoint()}
	// OpenID Connect Discovery 1.0 §3: without a word on the methods it is Basic. A client without a
	// secret names itself in the body (RFC 6749 §3.2.1).
	d.endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if p.config.ClientSecret == "" || len(more.Methods) > 0 && !slices.Contains(more.Methods, "client_secret_basic") {
		d.endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	endpoints := []string{d.endpoint.AuthURL, d.endpoint.TokenURL, more.Keys}
	if info := said.UserInfoEndpoint(); info != "" { // the only one that a provider need not have
		endpoints = append(endpoints, info)
	}
	for _, endpoint := range endpoints {
		u, err := url.Parse(endpoint)
		if err == nil {
			err = p.config.safe(u)
		}
		if err != nil {
			return nil, noAnswer("an endpoint of the OIDC provider", err)
		}
		d.origins = append(d.origins, origin(u))
	}
	return d, nil
}

// context makes the libraries use our client.
func (p *provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// noAnswer is what a login is told when the provider is of no use. The errors of the libraries may
// have all that it wrote instead.
func noAnswer(doing string, err error) error {
	text := err.Error()
	return &registry.Fault{
		Code:    registry.Unavailable,
		Message: "the login provider gives no answer now; try again later",
		Err:     fmt.Errorf("%s: %s", doing, text[:min(len(text), 500)]),
	}
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// leash lets requests go to the provider's endpoints only, and ends answers that are too long.
type leash struct {
	provider *provider
	next     http.RoundTripper
}

func (l *leash) RoundTrip(r *http.Request) (*http.Response, error) {
	if !l.allows(r.URL) {
		return nil, fmt.Errorf("%s is no host of the OIDC provider", r.URL.Host)
	}
	resp, err := l.next.RoundTrip(r)
	if err == nil {
		resp.Body = &limited{resp.Body, answerLimit}
	}
	return resp, err
}

func (l *leash) allows(u *url.URL) bool {
	issuer, err := url.Parse(l.provider.config.Issuer)
	if err == nil && origin(u) == origin(issuer) {
		return true
	}
	l.provider.mu.Lock()
	defer l.provider.mu.Unlock()
	return l.provider.found != nil && slices.Contains(l.provider.found.origins, origin(u))
}

var errTooLong = errors.New("the answer is too long")

// limited is a body that fails, and does not end, where it is longer than it may be.
type limited struct {
	io.ReadCloser
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p[:min(len(p), l.left+1)])
	if n > l.left {
		return l.left, errTooLong
	}
	l.left -= n
	return n, err
}
