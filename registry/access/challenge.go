package access

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Challenge is the WWW-Authenticate header of a 401: where a client gets a token that is good for
// some scopes, such as "repository:production/web:pull,push".
func (a *Access) Challenge(r *http.Request, scopes ...string) string {
	base := a.base(r)
	if base == "" {
		return `Basic realm="` + service + `"` // which works everywhere, too
	}
	if len(scopes) > 0 {
		return `Bearer realm="` + base + `/service/token",service="` + service + `",scope="` + strings.Join(scopes, " ") + `"`
	}
	// Whoever pings with ns, as RKE2's bootstrap does, makes a scope of a name as it is at that
	// registry, and keeps the token whatever a later challenge says. The realm leads ns to where the
	// name is understood.
	query := ""
	if ns := r.URL.Query().Get("ns"); hostOK(ns) {
		query = "?ns=" + url.QueryEscape(ns)
	}
	return `Bearer realm="` + base + `/service/token` + query + `",service="` + service + `"`
}

// Base is the URL at which whoever sent a request reaches this server, "https://host", or "" when
// that cannot be told.
func (a *Access) Base(r *http.Request) string { return a.base(r) }

// base is how the client reaches the server, without a slash at its end: as configured, or as the
// request says itself. X-Forwarded-* is what anybody can write and is not looked at (FAULTS C18);
// a Host header that is none gives "" (C20).
func (a *Access) base(r *http.Request) string {
	if a.config.URL != "" {
		return strings.TrimSuffix(a.config.URL, "/")
	}
	if !hostOK(r.Host) {
		return ""
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// hostOK reports whether a Host header is a name or an address, with a port or without
// (RFC 3986, section 3.2.2, without what no host has in practice).
func hostOK(host string) bool {
	if len(host) > 255 {
		return false
	}
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		if name, port = host[:i], host[i+1:]; port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && addr.Is6() && addr.Zone() == "" && strings.HasSuffix(name, "]")
	}
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == ""
}

// checkURL says whether a configured URL is one that clients can be sent to.
func checkURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !hostOK(u.Host) || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("url %q is not like https://registry.example.com: scheme, host and perhaps a port", text)
	}
	return nil
}
