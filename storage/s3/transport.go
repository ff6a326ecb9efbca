package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// transport ends requests that make no progress. How long a whole one takes it does not limit:
// ten gigabytes over a slow line are in order as long as they come.
type transport struct {
	next  http.RoundTripper
	stall time.Duration
	slow  time.Duration // instead, when the server has to put parts together or to copy an object

	// frozen is until when the server counts as frozen, in nanoseconds since 1970: since a call has
	// ended because nothing came, until anything comes. Whoever waits for this server has somebody
	// waiting for him, who may be served from elsewhere; it is enough that the first have waited
	// long. It ends by itself, because a server that is only slow would stay frozen for ever.
	frozen atomic.Int64

	stats counters

	circuit *circuit // nil: whoever calls would rather wait
}

const (
	hurry = 10 // by how much less patience there is with a server that has frozen
	again = 6  // after how many times the usual patience it gets that again
)

func (t *transport) isFrozen() bool { return time.Now().UnixNano() < t.frozen.Load() }

func (t *transport) patience(c *call) time.Duration {
	if t.isFrozen() {
		return c.patience / hurry
	}
	return c.patience
}

// answerPatience is patience until an answer begins. Whoever reads in haste has somewhere else to go: of
// the two times that he waits both are shorter.
func (t *transport) answerPatience(c *call, method string) time.Duration {
	p := t.patience(c)
	if c.hasty && (method == http.MethodGet || method == http.MethodHead) && !t.isFrozen() {
		p /= 2
	}
	return p
}

func newTransport(c Config) (*transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file: %s has no certificate in PEM", c.CAFile)
		}
	}
	dialer := &net.Dialer{Timeout: min(5*time.Second, c.stall()), KeepAlive: 15 * time.Second}
	t := &transport{stall: c.stall(), slow: slow * c.stall(), next: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: min(10*time.Second, c.stall()),
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true, // what is stored is what is wanted, however it is encoded
		WriteBufferSize:     64 << 10,
		ReadBufferSize:      64 << 10,
	}}
	if c.Hasty {
		t.circuit = &circuit{}
	}
	return t, nil
}

var errStalled = errors.New("the server made no progress")

// call is one call of a method, which may be several requests.
type call struct {
	end      context.CancelCauseFunc
	patience time.Duration
	began    time.Time
	stalls   atomic.Int32
	hasty    bool
	failed   atomic.Bool // a request of it has got no answer, or that of a server in trouble
	answered atomic.Bool // another one has
}

type callKey struct{}

// call begins a call. What it opens ends when done is called.
func (d *Driver) call(ctx context.Context) (_ context.Context, done func()) {
	return d.patientCall(ctx, d.transport.stall)
}

func (d *Driver) patientCall(ctx context.Context, patience time.Duration) (_ context.Context, done func()) {
	ctx, end := context.WithCancelCause(ctx)
	c := &call{end: end, patience: patience, began: time.Now(), hasty: d.transport.circuit != nil && ctx.Value(patientKey{}) == nil}
	return context.WithValue(ctx, callKey{}, c), func() {
		if c.hasty {
			d.transport.circuit.ended(c)
		}
		end(context.Canceled)
	}
}

// stalled counts. A connection whose other end has died is the usual reason for the first time,
// and a new one helps. The second time it is the server, and a third would only take as long.
func (t *transport) stalled(c *call) {
	if c.stalls.Add(1) > 1 {
		t.frozen.Store(time.Now().Add(again * t.stall).UnixNano())
		c.end(errStalled)
	} else if t.isFrozen() {
		c.end(errStalled)
	}
}

// RoundTrip sends a request and watches it.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c, ok := req.Context().Value(callKey{}).(*call)
	if !ok {
		c = &call{end: func(error) {}, patience: t.stall} // for credentials
	}
	if c.hasty && !t.circuit.admit(c) {
		c.end(errMoment) // so that it is not tried again
		return nil, errMoment
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{transport: t, call: c, patience: t.answerPatience(c, req.Method), cancel: cancel}
	w.timer = time.AfterFunc(w.patience, w.expire)
	req = req.WithContext(ctx)
	var body *sending
	if req.Body != nil && req.Body != http.NoBody {
		body = &sending{watch: w, body: req.Body}
		req.Body = body
	}
	begun := time.Now()
	res, err := t.next.RoundTrip(req)
	waited := w.expired.Load() || req.Context().Err() == nil
	switch {
	case err == nil:
		t.stats.count(req.Method, res.StatusCode, time.Since(begun))
	case waited:
		t.stats.count(req.Method, 0, time.Since(begun))
	}
	if body != nil {
		body.stop()
	}
	w.pause()
	t.learn(c, res, err, waited)
	if err != nil {
		cancel(nil)
		return nil, w.reason(err)
	}
	t.frozen.Store(0)
	w.patience = t.patience(c)
	res.Body = &receiving{watch: w, body: res.Body}
	return res, nil
}

// learn notes what the end of a request says of the server. waited is false when it ended because its
// caller left.
func (t *transport) learn(c *call, res *http.Response, err error, waited bool) {
	if t.circuit == nil {
		return
	}
	if err == nil && !troubled(res.StatusCode) {
		c.answered.Store(true)
		t.circuit.answered()
		return
	}
	if !waited || !c.hasty {
		return
	}
	c.failed.Store(true)
	if t.circuit.isOpen() {
		c.end(errMoment) // it was the one that went out to see, and has seen
	}
}

// watch cancels a request when nothing has happened for a while.
type watch struct {
	transport *transport
	call      *call
	patience  time.Duration
	cancel    context.CancelCauseFunc
	timer     *time.Timer
	expired   atomic.Bool
}

func (w *watch) expire() {
	w.expired.Store(true)
	w.transport.stalled(w.call)
	w.cancel(errStalled)
}

func (w *watch) pause()    { w.timer.Stop() }
func (w *watch) progress() { w.timer.Reset(w.patience) }

func (w *watch) reason(err error) error {
	if w.expired.Load() {
		return fmt.Errorf("%w for %v", errStalled, w.patience)
	}
	return err
}

// sending is the body of a request. The transport may read on after it has reported the request
// to have failed, while a repetition reads the same file from its beginning; so it must not get
// at what is behind any more by then.
type sending struct {
	watch *watch

	mu      sync.Mutex // held while reading, which is from memory or a local file
	body    io.ReadCloser
	stopped bool
}

func (s *sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return 0, errors.New("the request has ended")
	}
	s.watch.progress()
	return s.body.Read(p)
}

// Close does not close what is behind, which is the caller's.
func (s *sending) Close() error { return nil }

func (s *sending) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
}

// receiving is the body of an answer. While nobody reads it no time passes.
type receiving struct {
	watch *watch
	body  io.ReadCloser
}

func (r *receiving) Read(p []byte) (int, error) {
	r.watch.progress()
	n, err := r.body.Read(p)
	r.watch.pause()
	if err != nil && err != io.EOF {
		err = r.watch.reason(err)
	}
	return n, err
}

func (r *receiving) Close() error {
	r.watch.pause()
	err := r.body.Close()
	r.watch.cancel(nil)
	return err
}
