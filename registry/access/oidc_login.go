package access

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"roadstead/registry"
)

const (
	home         = "/c/oidc/"
	loginPath    = "/c/oidc/login"
	callbackPath = "/c/oidc/callback" // Harbor's, so that the provider's settings stay

	flowCookie = "roadstead-login"
)

// errHost is a Host header that is none.
var errHost = errors.New("the host of the request is no host")

// login sends the browser to the provider: the authorization code flow with PKCE.
func (p *portal) login(w http.ResponseWriter, r *http.Request) error {
	d, err := p.provider.discover(r.Context())
	if err != nil {
		return err
	}
	base := p.access.base(r)
	if base == "" {
		return errHost
	}
	f := flow{
		State:    rand.Text(),
		Nonce:    rand.Text(),
		Verifier: oauth2.GenerateVerifier(),
		Redirect: base + callbackPath,
		Next:     local(r.URL.Query().Get("next")),
		Until:    time.Now().Add(flowAge),
	}
	sealed, err := p.sealer.seal(f)
	if err != nil {
		return fmt.Errorf("begin a login: %w", err)
	}
	p.access.cookies(r).write(w, flowCookie, sealed, flowAge)
	w.Header().Set("Location", p.oauth(d, f).AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)))
	w.WriteHeader(http.StatusFound)
	return nil
}

func (p *portal) oauth(d *discovered, f flow) *oauth2.Config {
	o := p.provider.config
	return &oauth2.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret,
		Endpoint: d.endpoint, RedirectURL: f.Redirect, Scopes: o.scopes(),
	}
}

// callback takes the provider's answer, which comes by way of the browser.
func (p *portal) callback(w http.ResponseWriter, r *http.Request) error {
	c := p.access.cookies(r)
	f, err := p.sealer.open(c.read(r, flowCookie), time.Now())
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(f.State)) != 1 {
		return errFlow // what is under way in this browser is another one, and may go on
	}
	c.write(w, flowCookie, "", 0)
	// RFC 9207: who sent this, where the provider says so.
	if iss := q.Get("iss"); iss != "" && iss != p.provider.config.Issuer {
		return refused(fmt.Errorf("an answer of issuer %q", iss))
	}
	if code := q.Get("error"); code != "" {
		return refused(fmt.Errorf("the provider answered %q", code))
	}
	i, err := p.provider.exchange(r, p.oauth, f, q.Get("code"))
	if err != nil {
		return err
	}
	if i.cut {
		p.log.Warn("a user is in too many groups", "subject", i.subject, "kept", maxGroups)
	}
	user, err := p.access.onboard(r.Context(), i, r.RemoteAddr)
	if err != nil {
		return err
	}
	id, err := p.access.sessions.begin(r.Context(), user.ID, user.password, time.Now())
	if err != nil {
		return err
	}
	if err := p.access.KeepSession(w, r, id); err != nil {
		return err
	}
	w.Header().Set("Location", f.Next)
	w.WriteHeader(http.StatusFound)
	return nil
}

// exchange gives the code back to the provider for an ID token, and returns who that says it is.
func (p *provider) exchange(r *http.Request, oauth func(*discovered, flow) *oauth2.Config, f flow, code string) (identity, error) {
	d, err := p.discover(r.Context())
	if err != nil {
		return identity{}, err
	}
	ctx := p.context(r.Context())
	token, err := oauth(d, f).Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return identity{}, exchangeFailed(err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := d.Verifier(&oidc.Config{ClientID: p.config.ClientID, SupportedSigningAlgs: algorithms}).Verify(ctx, raw)
	if err != nil {
		return identity{}, refused(fmt.Errorf("verify the ID token: %w", err))
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1 {
		return identity{}, refused(errors.New("the ID token has another nonce"))
	}
	c := profile{}
	if err := id.Claims(&c); err != nil {
		return identity{}, refused(fmt.Errorf("claims of the ID token: %w", err))
	}
	// OpenID Connect Core 1.0 §3.1.3.7 points 4 and 5: a token that is for others too is from
	// a login at one of them, unless it says that it was asked for by us.
	if azp := c.text("azp"); azp != p.config.ClientID && (azp != "" || len(id.Audience) > 1) {
		return identity{}, refused(fmt.Errorf("the ID token is for %q", azp))
	}
	if id.Subject == "" || len(id.Subject) > 255 {
		return identity{}, refused(errors.New("the ID token has no subject that could be one"))
	}
	// §5.4: what the scopes ask for may be at the UserInfo endpoint only.
	if d.UserInfoEndpoint() != "" && !c.has(p.config.usernameClaim(), p.config.groupsClaim(), "email") {
		info, err := d.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			return identity{}, noAnswer("ask for the claims of a user", err)
		}
		if info.Subject != id.Subject { // §5.3.2
			return identity{}, refused(errors.New("the claims are another user's"))
		}
		more := profile{}
		if err := info.Claims(&more); err != nil {
			return identity{}, refused(fmt.Errorf("claims of a user: %w", err))
		}
		for name, value := range more {
			if c[name] == nil {
				c[name] = value
			}
		}
	}
	return p.config.identity(id.Subject, c), nil
}

// exchangeFailed tells a provider that refuses a code from one that gives no answer. What it
// wrote is not repeated, not even in the log: it knows the code and the secret.
func exchangeFailed(err error) error {
	var answer *oauth2.RetrieveError
	switch {
	case !errors.As(err, &answer):
		return noAnswer("exchange a code", err)
	case answer.Response != nil && answer.Response.StatusCode >= 500:
		return noAnswer("exchange a code", errors.New(answer.Response.Status))
	case answer.ErrorCode == "":
		return refused(errors.New("exchange a code: the provider refused it without a reason"))
	}
	return refused(fmt.Errorf("exchange a code: the provider answered %q", answer.ErrorCode))
}

// refused is a login that came to nothing. The browser is not told why: what it brought may be
// somebody else's.
func refused(err error) error {
	return &registry.Fault{Code: registry.Denied, Message: "the login did not succeed; begin again", Err: err}
}
