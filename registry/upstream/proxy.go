package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpproxy"
)

// proxyFor says how to choose a proxy for a URL: one for all, none ("direct"), or what the
// environment says ("").
func proxyFor(setting string) (func(*url.URL) (*url.URL, error), error) {
	switch setting {
	case "":
		// Read once, here: net/http's own reading is for the whole life of the process.
		return hideText(httpproxy.FromEnvironment().ProxyFunc()), nil
	case "direct":
		return func(*url.URL) (*url.URL, error) { return nil, nil }, nil
	}
	proxy, err := url.Parse(setting)
	if err != nil {
		// The parser's own error repeats the text, which may hold a password.
		return nil, errors.New("proxy is not a URL")
	}
	switch proxy.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, fmt.Errorf("proxy %q: its scheme is not http, https or socks5", proxy.Redacted())
	}
	if proxy.Hostname() == "" {
		return nil, fmt.Errorf("proxy %q names no host", proxy.Redacted())
	}
	return func(*url.URL) (*url.URL, error) { return proxy, nil }, nil
}

// hideText keeps a proxy's URL, which may hold a password, out of errors.
func hideText(choose func(*url.URL) (*url.URL, error)) func(*url.URL) (*url.URL, error) {
	return func(u *url.URL) (*url.URL, error) {
		proxy, err := choose(u)
		if err != nil {
			return nil, errors.New("the proxy that the environment names is not a URL")
		}
		return proxy, nil
	}
}

type proxyKey struct{}

// withProxy notes in the context of a request that it goes through a proxy, nil for none, so
// that the transport and its dialer agree about it.
func withProxy(ctx context.Context, proxy *url.URL) context.Context {
	return context.WithValue(ctx, proxyKey{}, proxy)
}

func proxyOf(ctx context.Context) *url.URL {
	proxy, _ := ctx.Value(proxyKey{}).(*url.URL)
	return proxy
}

// chosenProxy is the Proxy function of the transports.
func chosenProxy(req *http.Request) (*url.URL, error) { return proxyOf(req.Context()), nil }
