package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/estate"
	"roadstead/rewrite/registries"
)

const (
	// probePatience is how long an endpoint may take to answer: longer than this server lets an upstream.
	probePatience = 20 * time.Second

	// mostToken is the longest answer of a token service that is read, in bytes.
	mostToken = 1 << 20
)

// probe asks, as each client does, one endpoint after the other, and no more when one has what it
// wants.
func probe(ctx context.Context, e estate.Explanation) {
	for _, w := range e.Ways {
		for i := range w.Steps {
			if (prober{ctx: ctx, wharfie: w.Client == registries.Wharfie}).step(&w.Steps[i]) {
				break
			}
		}
	}
}

// prober asks one endpoint. Its life is that of one call of probe, which ctx bounds.
type prober struct {
	ctx     context.Context
	wharfie bool // whose credentials go out with each request where a ping without was good
	client  *http.Client
	auth    *registries.Auth
}

// step asks one endpoint for all that it may be asked for, and reports whether it has all of it.
func (p prober) step(s *estate.Step) bool {
	var err error
	p.client, err = clientOf(s.TLS)
	p.auth = s.Auth
	whole := err == nil
	for i := range s.Outcomes {
		o := &s.Outcomes[i]
		authorization := ""
		for _, r := range o.Requests {
			if r.Kind != "ping" && r.Kind != "tag" {
				continue
			}
			a := estate.Answer{Request: r, Error: plainError(err)}
			if err == nil {
				a = p.ask(r, o.Scope, authorization)
			}
			o.Probes = append(o.Probes, a)
			good := a.Status == http.StatusOK || r.Kind == "ping" && a.Status == http.StatusUnauthorized
			if whole = whole && good; !good {
				break // without its ping wharfie asks for nothing more
			}
			if name, _ := credentials(p.auth); p.wharfie && r.Kind == "ping" && a.Status == http.StatusOK && name != "" {
				authorization = p.basic()
			}
		}
	}
	return whole
}

// clientOf speaks to a registry as its config says, and by the proxy that the environment names: containerd
// and wharfie do so too. Neither that nor this asks a loopback address by one.
func clientOf(t *registries.TLS) (*http.Client, error) {
	config := &tls.Config{}
	if t != nil {
		config.InsecureSkipVerify = t.SkipVerify
		if t.CAFile != "" {
			text, err := readSmall(t.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read the authority of line %d: %w", t.Line, err)
			}
			if config.RootCAs, err = x509.SystemCertPool(); err != nil {
				config.RootCAs = x509.NewCertPool()
			}
			config.RootCAs.AppendCertsFromPEM(text)
		}
		if t.CertFile != "" {
			pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("read the certificate of line %d: %w", t.Line, err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
	}
	return &http.Client{
		Timeout:   probePatience,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true},
		// A redirect is an answer of its own to whoever wants to know.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// ask sends a request, and again with a token if one is wanted.
func (p prober) ask(r registries.Request, scope, authorization string) estate.Answer {
	a := estate.Answer{Request: r}
	start := time.Now()
	res, err := p.send(r, authorization)
	if err == nil && res.StatusCode == http.StatusUnauthorized && r.Kind != "ping" {
		if authorization, a.Token = p.authorization(res.Header.Values("WWW-Authenticate"), scope); authorization != "" {
			res, err = p.send(r, authorization)
		}
	}
	a.Took = time.Since(start).Seconds()
	if err != nil {
		a.Error = plainError(err)
		return a
	}
	a.Status, a.Headers = res.StatusCode, map[string]string{}
	for _, name := range answerHeaders {
		if value := res.Header.Get(name); value != "" {
			a.Headers[name] = value
		}
	}
	return a
}

// send sends a request and lets go of the answer's body.
func (p prober) send(r registries.Request, authorization string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(p.ctx, r.Method, r.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "roadstead-explain/"+thisBuild().Version)
	req.Header.Set("Accept", strings.Join(append(slices.Clone(registry.ManifestTypes), "*/*"), ", "))
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	return res, nil
}

func (p prober) basic() string {
	name, password := credentials(p.auth)
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// authorization is what a challenge is answered with, and how it was come by. It is "" when there is
// nothing to answer with.
func (p prober) authorization(challenges []string, scope string) (authorization, how string) {
	for _, c := range challenges {
		scheme, rest, _ := strings.Cut(c, " ")
		switch strings.ToLower(scheme) {
		case "basic":
			if name, _ := credentials(p.auth); name == "" {
				return "", "a name and a password are wanted, and there are none"
			}
			return p.basic(), "none, but the name and the password themselves"
		case "bearer":
			return p.token(parameters(rest), scope)
		}
	}
	return "", "401 without a challenge that clients understand"
}

// token asks a token service.
func (p prober) token(challenge map[string]string, scope string) (authorization, how string) {
	req, err := p.tokenRequest(challenge, scope)
	if err != nil {
		return "", err.Error()
	}
	at := req.URL.Scheme + "://" + req.URL.Host + req.URL.Path
	res, err := p.client.Do(req)
	if err != nil {
		return "", at + ": " + plainError(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, mostToken))
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	who := "anonymously"
	if name, _ := credentials(p.auth); name != "" {
		who = "as " + name
	} else if req.Method == http.MethodPost {
		who = "as whom the identity token names"
	}
	token := cmp.Or(answer.Token, answer.AccessToken)
	if err != nil || res.StatusCode != http.StatusOK || token == "" {
		return "", fmt.Sprintf("%s answers %d, %s", at, res.StatusCode, who)
	}
	return "Bearer " + token, fmt.Sprintf("by %s, %s", at, who)
}

// tokenRequest is what a token service is asked: with a GET, or where there is an identity token with
// a POST, as the Docker token specification has it.
func (p prober) tokenRequest(challenge map[string]string, scope string) (*http.Request, error) {
	realm, err := url.Parse(challenge["realm"])
	if err != nil || realm.Host == "" {
		return nil, fmt.Errorf("the challenge names %q as its realm", registry.Clip(challenge["realm"]))
	}
	values := realm.Query()
	values.Set("scope", "repository:"+scope+":pull")
	if challenge["service"] != "" {
		values.Set("service", challenge["service"])
	}
	if p.auth != nil && p.auth.IdentityToken != "" {
		values.Set("grant_type", "refresh_token")
		values.Set("refresh_token", p.auth.IdentityToken)
		values.Set("client_id", "roadstead-explain")
		req, err := http.NewRequestWithContext(p.ctx, http.MethodPost, realm.String(), strings.NewReader(values.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	realm.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, realm.String(), nil)
	if name, password := credentials(p.auth); err == nil && name != "" {
		req.SetBasicAuth(name, password)
	}
	return req, err
}

// credentials are the name and the password of an auth.
func credentials(a *registries.Auth) (name, password string) {
	switch {
	case a == nil:
		return "", ""
	case a.Username == "" && a.Auth != "":
		text, _ := base64.StdEncoding.DecodeString(a.Auth)
		name, password, _ = strings.Cut(string(text), ":")
		return name, password
	}
	return a.Username, a.Password
}

// parameters are those of a challenge.
func parameters(text string) map[string]string {
	all := map[string]string{}
	for text != "" {
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			break
		}
		name = strings.ToLower(strings.Trim(name, ", "))
		if value, quoted := strings.CutPrefix(rest, `"`); quoted {
			all[name], text, _ = strings.Cut(value, `"`)
		} else {
			all[name], text, _ = strings.Cut(rest, ",")
		}
	}
	return all
}

// plainError is what went wrong, without the URL that is beside it anyway.
func plainError(err error) string {
	if err == nil {
		return ""
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err.Error()
	}
	return err.Error()
}
