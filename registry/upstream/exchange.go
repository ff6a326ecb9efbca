package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"roadstead/registry"
)

// maxHops is how many redirects are followed: registry, mirror, signed URL and two to spare
// (U14).
const maxHops = 5

// request is a request as it is sent, before redirects.
type request struct {
	method string
	url    *url.URL
	header http.Header
	form   string // body of a POST

	// authorization goes to url's origin only, and only until a redirect has left it.
	authorization string

	// trusted says that url's host may see credentials, and so a client certificate.
	trusted bool

	by time.Time // when the answer must have begun
}

// follow sends a request and follows its redirects. own says that the answer came from the
// origin that was asked, without a way through others (A1, A3).
//
// An answer with a status of 400 and above is no error here. Its body must be closed.
func (r *Registry) follow(ctx context.Context, q request) (res *http.Response, own bool, err error) {
	own = true
	home := originOf(q.url)
	for hops := 0; ; hops++ {
		res, err = r.send(ctx, q)
		if err != nil {
			return nil, own, err
		}
		if !redirect(res.StatusCode) || q.method == http.MethodPost {
			return res, own, nil
		}
		location := res.Header.Get("Location")
		drain(res)
		if hops == maxHops {
			return nil, own, r.forbidden("redirects in circles", fmt.Errorf("%s: more than %d redirects", q.url.Host, maxHops))
		}
		next, err := q.url.Parse(location)
		if err != nil || location == "" {
			// The parser's own error repeats the location, which may be signed.
			return nil, own, r.unexpected("a redirect", fmt.Errorf("%s: redirect to no URL", q.url.Host))
		}
		if err := r.allowed(q.url, next); err != nil {
			return nil, own, err
		}
		next.User, next.Fragment = nil, ""
		q.url = next
		if originOf(next) != home {
			own = false
		}
		if !own {
			// What comes back from elsewhere comes back as a stranger (CVE-2024-45336).
			q.authorization, q.trusted = "", false
		}
	}
}

func redirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// allowed refuses redirects that leave TLS, or HTTP altogether (A4).
func (r *Registry) allowed(from, to *url.URL) error {
	switch {
	case to.Scheme != "https" && to.Scheme != "http" || to.Hostname() == "":
		return r.forbidden("redirects to something that is not HTTP", fmt.Errorf("%s redirects to scheme %q", from.Host, registry.Clip(to.Scheme)))
	case from.Scheme == "https" && to.Scheme != "https":
		return r.forbidden("redirects from https to http", fmt.Errorf("%s redirects to http://%s", from.Host, registry.Clip(to.Host)))
	}
	return nil
}

// send sends one request and returns its answer's beginning. The body stalls for no longer
// than the idle timeout and ends with ctx.
//
// Where that is traced, the span ends with the beginning of the answer. Nothing of it goes to the host,
// which is somebody else's.
func (r *Registry) send(ctx context.Context, q request) (*http.Response, error) {
	ctx, span := registry.StartSpan(ctx, "upstream "+q.method)
	span.Note(slog.String("http.request.method", q.method), slog.String("server.address", registry.Clip(q.url.Host)), slog.String("upstream", r.name))
	res, err := r.exchange(ctx, q)
	if err == nil {
		span.Note(slog.Int("http.response.status_code", res.StatusCode), slog.Int64("http.response.body.size", res.ContentLength))
	}
	if err == nil && (res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= http.StatusInternalServerError) {
		span.End(fmt.Errorf("%s answered %s", r.name, res.Status))
		return res, nil
	}
	span.End(err)
	return res, err
}

// exchange is send.
func (r *Registry) exchange(ctx context.Context, q request) (*http.Response, error) {
	host := q.url.Host
	if !r.circuits.passes(host) {
		t := r.unavailable(fmt.Errorf("%s: %w", host, errDown))
		t.RetryAfter = time.Second
		return nil, t
	}
	proxy, err := r.proxy(q.url)
	if err != nil {
		return nil, r.forbidden("cannot be reached", err)
	}
	if proxy != nil {
		if err := r.dialer.behindProxy(q.url); err != nil {
			return nil, r.classify(ctx, q, time.Now(), err, nil)
		}
	}

	begun := time.Now()
	sending, cancel := context.WithCancelCause(withProxy(ctx, proxy))
	timer := time.AfterFunc(time.Until(q.by), func() { cancel(errSilent) })
	var handshake atomic.Pointer[error]
	sending = httptrace.WithClientTrace(sending, &httptrace.ClientTrace{
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err != nil {
				handshake.Store(&err)
			}
		},
	})
	req, err := r.newRequest(sending, q)
	if err != nil {
		timer.Stop()
		cancel(nil)
		return nil, r.unexpected("a URL", fmt.Errorf("%s: not a request", host))
	}
	transport := r.foreign
	if q.trusted {
		transport = r.trusted
	}
	res, err := transport.RoundTrip(req)
	timer.Stop()
	if cause := context.Cause(sending); cause != nil {
		if err == nil {
			// The answer and its deadline met; the connection is being cut already.
			res.Body.Close()
		}
		err = cause // HTTP/2 says "canceled" whatever the cause
	}
	r.stats.latency.add(time.Since(begun))
	r.noteAsked(host)
	if err != nil {
		cancel(nil)
		r.stats.count(0)
		return nil, r.classify(ctx, q, begun, err, handshake.Load())
	}
	r.stats.count(res.StatusCode)
	// A 5xx too: the host is there, and what it says of one blob it does not say of the next.
	r.circuits.answered(host)
	res.Body = &stream{ReadCloser: res.Body, ctx: sending, cancel: cancel, timer: timer, idle: r.idle, count: &r.stats.bytes}
	return res, nil
}

func (r *Registry) newRequest(ctx context.Context, q request) (*http.Request, error) {
	var body io.Reader
	if q.method == http.MethodPost {
		body = strings.NewReader(q.form)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, "", body)
	if err != nil {
		return nil, err
	}
	req.URL, req.Host = q.url, q.url.Host
	req.Header = q.header.Clone()
	req.Header.Set("User-Agent", r.agent)
	req.Header.Set("Accept-Encoding", "identity")
	if q.authorization != "" {
		req.Header.Set("Authorization", q.authorization)
	}
	return req, nil
}

// noteAsked remembers which endpoints were asked.
func (r *Registry) noteAsked(host string) {
	for _, e := range r.endpoints {
		if e.base.Host == host {
			e.asked.Store(true)
		}
	}
}

// classify says what a request that brought no answer means, and counts it for the circuit of
// its host. handshake is the error of a TLS handshake, if that is what failed.
func (r *Registry) classify(ctx context.Context, q request, begun time.Time, err error, handshake *error) *trouble {
	host := q.url.Host
	why := fmt.Errorf("%s %s: %w", q.method, host, err)
	switch dial, isDial := errors.AsType[*dialError](err); {
	case errors.Is(err, errPrivate):
		return r.forbidden("leads to an address that is not public, which needs allow_private, or its network in allow_private_networks", why)
	case errors.Is(err, errMetadata):
		return r.forbidden("leads to the metadata service of a cloud, which is no registry", why)
	case ctx.Err() != nil:
		// That a caller left says nothing of the host; that its deadline passed in silence
		// does, a little.
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && time.Since(begun) > time.Second {
			r.circuits.failed(host, broken)
		}
		return r.calledOff(fmt.Errorf("%s %s: %w", q.method, host, ctx.Err()))
	case errors.Is(err, errSilent):
		r.circuits.failed(host, silent)
		t := r.unavailable(why)
		t.Timeout = true
		return t
	case isDial:
		r.circuits.failed(host, unreachable)
		t := r.unavailable(why)
		network, ok := errors.AsType[net.Error](dial.err)
		t.Timeout = ok && network.Timeout()
		t.RetryAfter = time.Second
		return t
	case handshake != nil && !cut(*handshake):
		r.circuits.failed(host, unreachable)
		return r.forbidden("cannot prove who it is: its TLS certificate or version is not acceptable", why)
	}
	network, ok := errors.AsType[net.Error](err)
	if ok && network.Timeout() {
		// The TLS handshake's; all other waiting ends in errSilent.
		r.circuits.failed(host, silent)
		t := r.unavailable(why)
		t.Timeout = true
		return t
	}
	r.circuits.failed(host, broken)
	t := r.unavailable(why)
	t.again = true
	return t
}

// cut says whether a TLS handshake ended for reasons that have nothing to do with TLS.
func cut(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() {
		return true
	}
	// crypto/tls has operations of its own for alerts: "remote error" and "local error".
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "read" || op.Op == "write")
}
