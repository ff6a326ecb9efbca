package upstream

import (
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// origin is scheme, host and port of a URL, comparable ("https://registry-1.docker.io:443").
type origin string

func originOf(u *url.URL) origin {
	port := u.Port()
	switch {
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	return origin(u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port)
}

// trusts says whether a token service may see the credentials: one on the endpoint's own
// host, one that the configuration names, or one below the same registrable domain where TLS
// proves that it is (FAULTS A2, CVE-2026-33540). Its scheme is as good as the endpoint's
// already.
func (e *endpoint) trusts(realm *url.URL) bool {
	host, own := strings.ToLower(realm.Hostname()), strings.ToLower(e.base.Hostname())
	if host == own {
		return true
	}
	if slices.Contains(e.r.authHosts, host) || slices.Contains(e.r.authHosts, strings.ToLower(realm.Host)) {
		return true
	}
	return realm.Scheme == "https" && sameSite(host, own)
}

// sameSite says whether two host names are below one registrable domain. What ends in a number
// has none: the suffix list knows an address when it sees one, but not that "127.1" is one.
func sameSite(a, b string) bool {
	if numeric(a) || numeric(b) {
		return false
	}
	site, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil {
		return false
	}
	other, err := publicsuffix.EffectiveTLDPlusOne(b)
	return err == nil && site == other
}
