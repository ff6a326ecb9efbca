// Package upstream is a remote registry as a [registry.Reader]: its endpoints and what to do
// when one fails, the challenge and token flow, retries, redirects, ranges, limits, outbound
// proxies.
//
// It verifies manifests and leaves blobs to whoever keeps them: a blob's bytes are hashed
// once, where they enter the house. It remembers nothing that it was told but tokens, what
// endpoints said of themselves, and which hosts are down or want to be left alone.
package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"roadstead/registry"
)

// Config says which registry and how to reach it. Only Endpoints must be set.
type Config struct {
	// Name is what messages call this upstream. Zero: the first endpoint's host.
	Name string

	// Endpoints are the base URLs of registries that are all this upstream, asked in this
	// order: "https://registry-1.docker.io". One that does not answer, answers 5xx or does not
	// know what is asked for is followed by the next. A path before /v2/ is allowed.
	Endpoints []string

	// Prefix is put before the name of every repository. Zero: nothing is.
	Prefix string

	// Credentials are shown to the endpoints and their token services, to nobody else.
	// Zero: anonymous.
	Credentials Credentials

	// AuthHosts are hosts, "auth.example" or "auth.example:8443", whose token service may see
	// the credentials too. Zero: only those on an endpoint's own host and, over TLS, below the
	// same registrable domain (FAULTS A2).
	AuthHosts []string

	// AllowPrivate permits connections to loopback, link-local and private addresses. Zero:
	// such connections are refused, whatever name, redirect or token service led there (A8).
	AllowPrivate bool

	// PrivateNetworks are the networks to which connections are permitted without AllowPrivate,
	// whoever chose the endpoint. Zero: none.
	PrivateNetworks []netip.Prefix

	// Proxy is the URL of an outbound proxy, with scheme http, https or socks5, or "direct"
	// for none. Zero: as HTTP_PROXY, HTTPS_PROXY and NO_PROXY say.
	Proxy string

	// CAFile is a file of PEM certificates of authorities to trust beside the system's, and CA are
	// such certificates themselves. With CA the file is not read.
	CAFile, CA string

	// CertificateFile and KeyFile are a client certificate for the endpoints and token
	// services that may see the credentials. The files are read again for each connection, so
	// they may be renewed.
	CertificateFile, KeyFile string

	// Insecure believes every certificate (A9). What it puts at risk are the credentials and
	// the meaning of tags; content by digest is proved all the same.
	Insecure bool

	// Timeout is how long upstream may take to begin an answer, over all endpoints, retries
	// and token requests. Zero: 12 s, so that a client of ours knows within 15 (U19).
	Timeout time.Duration

	// IdleTimeout is how long a body may bring nothing before it is taken for broken.
	// Zero: 30 s.
	IdleTimeout time.Duration

	// MaxBlob is the largest blob that is read, in bytes. Zero: 256 GiB. The manifest that
	// names a blob bounds it better; this is for what never ends.
	MaxBlob int64

	// Offline has every question answered with Unavailable, at once, and no connection made.
	Offline bool

	// UserAgent is sent with every request. Zero: "roadstead".
	UserAgent string

	// Resolver looks host names up. Nil: the system's.
	Resolver *net.Resolver
}

// Registry is a remote registry.
type Registry struct {
	name      string
	prefix    string
	agent     string
	endpoints []*endpoint
	authHosts []string

	timeout time.Duration
	idle    time.Duration
	maxBlob int64
	offline bool

	keys     keyring
	proxy    func(*url.URL) (*url.URL, error)
	dialer   *dialer
	trusted  *http.Transport // for hosts that may see the credentials
	foreign  *http.Transport // for all others; the same one unless there is a client certificate
	circuits circuits
	budget   budget
	stats    counters
}

// New checks a configuration, reads the files it names and makes a Registry of it. It asks
// nobody anything: upstream may be down.
func New(c Config) (*Registry, error) {
	r := &Registry{
		name:    c.Name,
		prefix:  strings.Trim(c.Prefix, "/"),
		agent:   c.UserAgent,
		timeout: c.Timeout, idle: c.IdleTimeout, maxBlob: c.MaxBlob, offline: c.Offline,
		keys: keyring{Credentials: c.Credentials},
	}
	if r.agent == "" {
		r.agent = "roadstead"
	}
	if r.timeout <= 0 {
		r.timeout = 12 * time.Second
	}
	if r.idle <= 0 {
		r.idle = 30 * time.Second
	}
	if r.maxBlob <= 0 {
		r.maxBlob = 256 << 30
	}
	for _, host := range c.AuthHosts {
		r.authHosts = append(r.authHosts, strings.ToLower(host))
	}
	if err := r.addEndpoints(c.Endpoints); err != nil {
		return nil, err
	}
	if r.name == "" {
		r.name = r.endpoints[0].base.Host
	}
	if err := r.keys.check(); err != nil {
		return nil, fmt.Errorf("upstream %s: credentials: %w", r.name, err)
	}
	proxy, err := proxyFor(c.Proxy)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", r.name, err)
	}
	r.proxy = proxy
	r.dialer = newDialer(c.Resolver, c.AllowPrivate, c.PrivateNetworks)
	r.dialer.offline = c.Offline
	if err := r.addTransports(c); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", r.name, err)
	}
	return r, nil
}

func (r *Registry) addEndpoints(all []string) error {
	if len(all) == 0 {
		return errors.New("upstream: no endpoint")
	}
	for _, text := range all {
		base, err := url.Parse(text)
		if err != nil {
			// The parser's own error repeats the text, which may hold a password.
			return errors.New("upstream: an endpoint is not a URL")
		}
		switch {
		case base.User != nil:
			return fmt.Errorf("upstream: endpoint on %s: credentials do not belong into its URL", base.Host)
		case base.Scheme != "https" && base.Scheme != "http" || base.Hostname() == "":
			return fmt.Errorf("upstream: endpoint %q is not http://host or https://host", base.Redacted())
		case base.RawQuery != "" || base.Fragment != "":
			return fmt.Errorf("upstream: endpoint on %s: its URL has a query or fragment", base.Host)
		}
		path := strings.TrimSuffix(base.Path, "/")
		base.Path, base.RawPath = strings.TrimSuffix(path, "/v2"), ""
		r.endpoints = append(r.endpoints, &endpoint{r: r, base: base, origin: originOf(base)})
	}
	return nil
}

func (r *Registry) addTransports(c Config) error {
	config, err := tlsConfig(c.CAFile, c.CA, c.Insecure)
	if err != nil {
		return err
	}
	r.foreign = r.transport(config)
	r.trusted = r.foreign
	if c.CertificateFile == "" && c.KeyFile == "" {
		return nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.CertificateFile, c.KeyFile)
		return &pair, err
	}
	if _, err := load(); err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	config = config.Clone()
	// A resumed session stands for the certificate of its first handshake: it is nothing for
	// strangers, nor after a renewal.
	config.ClientSessionCache = nil
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	r.trusted = r.transport(config)
	return nil
}

func (r *Registry) transport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:           chosenProxy,
		DialContext:     r.dialer.dial,
		TLSClientConfig: config,
		// A custom dialer turns HTTP/2 off unless it is asked for.
		ForceAttemptHTTP2: true,
		// A dead HTTP/2 connection would swallow every request that is put on it.
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		TLSHandshakeTimeout: connectTimeout,
		// A node pulls three layers at a time; this keeps the connections of ten nodes whose
		// layers are all different.
		MaxIdleConnsPerHost: 32,
		MaxIdleConns:        128,
		IdleConnTimeout:     90 * time.Second,
		// Content is addressed by the digest of its bytes as they are.
		DisableCompression: true,
		// Signed URLs are some kilobytes; more than this is an attack on memory (A7).
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// Close closes the connections that nobody uses. Blobs that are open stay so.
func (r *Registry) Close() {
	r.trusted.CloseIdleConnections()
	r.foreign.CloseIdleConnections()
}

// at is the name of a repository at upstream.
func (r *Registry) at(repo registry.Repo) string {
	if r.prefix == "" {
		return repo.Name
	}
	return r.prefix + "/" + repo.Name
}
