package registries

import (
	"errors"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

const (
	hub         = "docker.io"            // as images are called
	hubHost     = "registry-1.docker.io" // where containerd asks for them
	hubRegistry = "index.docker.io"      // where wharfie does, and how it calls it
	wildcard    = "*"
)

// address is an endpoint as K3s writes it into hosts.toml: with a scheme, a host and a path that is
// not cleaned. override says that the path is taken as it is.
//
// registry is the name that configs are looked up by.
func address(endpoint string) (u *url.URL, registry string, override bool, err error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "//" + endpoint
	}
	if u, err = url.Parse(endpoint); err != nil {
		return nil, "", false, err
	}
	if u.Scheme == "" {
		u.Scheme = scheme(u)
	}
	registry = u.Host
	if u.Host == hub {
		u.Host = hubHost
	}
	if u.Host == hubHost {
		registry = hub
	}
	switch u.Path {
	case "", "/", "/v2":
		u.Path = "/v2"
		return u, registry, false, nil
	}
	return u, registry, true, nil
}

// scheme is what an endpoint without one has: a registry on this machine is plain, unless it is on the
// port of HTTPS.
func scheme(u *url.URL) string {
	if port := u.Port(); loopback(u.Host) && port != "" && port != "443" {
		return "http"
	}
	return "https"
}

// loopback reports whether a host, with or without a port, is the machine itself.
func loopback(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	if name == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback()
}

// asked is the path below which containerd asks an endpoint.
func asked(u *url.URL, override bool) string {
	p := path.Clean("/" + u.Path)
	if !override && !strings.HasSuffix(p, "/v2") {
		p = path.Join(p, "v2")
	}
	return p
}

// wharfieAddress is an endpoint as wharfie reads it.
func wharfieAddress(endpoint string) (*url.URL, error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "//" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	if u.Host == "" {
		return nil, errNoHost
	}
	if u.Scheme == "" {
		u.Scheme = scheme(u)
	}
	switch u.Path {
	case "", "/", "/v2":
		u.Path = "/v2"
	default:
		u.Path = path.Clean(u.Path)
	}
	return u, nil
}

var errNoHost = errors.New("it has no host")

// namespace is the name of the registry that a client asked of host says in ns, or "" when it says
// none, because it asks that registry itself.
func namespace(registry, host, alias string) string {
	if registry == host || registry == hub && host == alias {
		return ""
	}
	return registry
}

// withNamespace is a URL with that name.
func withNamespace(address, ns string) string {
	if ns == "" {
		return address
	}
	return address + "?ns=" + url.QueryEscape(ns)
}
