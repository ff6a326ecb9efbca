package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"roadstead/registry"
)

const (
	// patience is how long the owner of content may take to begin its answer. If it says within
	// doubtPatience that it waits for upstream, which has 12 s, it may take mostPatience; if not, it
	// is stuck, and there is time left to ask upstream itself before a client gives up.
	patience      = 6 * time.Second
	doubtPatience = 2 * time.Second
	mostPatience  = 14 * time.Second

	// spent is how long an owner has waited in vain for upstream, at least, when that is not asked
	// again: it would have another 12 s, and clients have not got more than 15.
	spent = 3 * time.Second

	// A node that is frozen, or cut off, answers no ping. So it is noticed after five seconds
	// however long a body that it is sending may rightly take.
	pingAfter, pingPatience = 2 * time.Second, 3 * time.Second

	dialPatience = 2 * time.Second

	// continuePatience is how long the body of an upload waits until the other node wants it. It
	// may have to read what is there of the upload first, to hash it.
	continuePatience = time.Minute
)

// NewClient returns what nodes ask each other with: HTTP/2, by TLS for addresses that begin with
// https, and no proxy. config may be nil.
func NewClient(config *tls.Config) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{
		Transport: &http.Transport{
			Protocols:       protocols,
			TLSClientConfig: config.Clone(), // net/http adds to it
			DialContext:     (&net.Dialer{Timeout: dialPatience, KeepAlive: pingAfter}).DialContext,
			HTTP2: &http.HTTP2Config{
				SendPingTimeout: pingAfter, PingTimeout: pingPatience,
				// A window of its own size per stream would let three fast downloads fill it.
				MaxReceiveBufferPerStream: 4 << 20, MaxReceiveBufferPerConnection: 32 << 20,
			},
			TLSHandshakeTimeout:    dialPatience,
			ExpectContinueTimeout:  continuePatience,
			IdleConnTimeout:        90 * time.Second,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// blob opens a blob at a node from off to its end, and says how long all of it is.
func (c *Cluster) blob(ctx context.Context, n Node, repo registry.Repo, d registry.Digest, off int64) (io.ReadCloser, int64, error) {
	res, err := c.get(ctx, n, repo.String()+"/blobs/"+d.String(), off)
	if err != nil {
		return nil, 0, err
	}
	size := res.ContentLength
	if off > 0 && res.StatusCode == http.StatusPartialContent {
		size += off
	} else if off > 0 {
		res.Body.Close()
		return nil, 0, fmt.Errorf("node %s answered %s to a question for a range", n.ID, res.Status)
	}
	if res.ContentLength < 0 {
		res.Body.Close()
		return nil, 0, fmt.Errorf("node %s does not say how long a blob is", n.ID)
	}
	return res.Body, size, nil
}

// manifest has a node say what a tag or digest stands for. The bytes are those of the digest that it
// returns, which is the one asked for if it was one.
func (c *Cluster) manifest(ctx context.Context, n Node, repo registry.Repo, reference string) (registry.Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, mostPatience)
	defer cancel()
	res, err := c.get(ctx, n, repo.String()+"/manifests/"+reference, 0)
	if err != nil {
		return registry.Manifest{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, registry.MaxManifest+1))
	if err != nil {
		c.shuns.shun(n.ID, time.Now())
		return registry.Manifest{}, fmt.Errorf("node %s: %w", n.ID, err)
	}
	want := reference
	if !strings.Contains(reference, ":") {
		want = res.Header.Get("Docker-Content-Digest")
	}
	d, err := registry.ParseDigest(want)
	if err != nil {
		return registry.Manifest{}, fmt.Errorf("node %s: %v", n.ID, err) // nothing that the client got wrong
	}
	if len(body) > registry.MaxManifest || d.Algorithm().FromBytes(body) != d {
		return registry.Manifest{}, fmt.Errorf("node %s sent something else than %s", n.ID, d)
	}
	return registry.Manifest{
		Descriptor: registry.Descriptor{MediaType: res.Header.Get("Content-Type"), Digest: d, Size: int64(len(body))},
		Bytes:      body,
	}, nil
}

// get asks a node and returns its answer if it is one of success. A node that gives none is shunned.
func (c *Cluster) get(ctx context.Context, n Node, path string, off int64) (*http.Response, error) {
	// The patience is for the beginning of the answer. What follows is bounded by ctx, and by pings.
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := c.question(ctx, http.MethodGet, n, path, off)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	waiting, began := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if err := c.watch(waiting, n, path); err != nil {
			cancel(err)
		}
	})
	since := time.Now()
	res, err := c.client.Do(r)
	began()
	watch.Wait()
	if late := context.Cause(ctx); late != nil && err == nil {
		res.Body.Close()
		err = late
	}
	if err != nil {
		if why := context.Cause(ctx); why != nil {
			err = why
		}
		cancel(nil)
		if !errors.Is(err, context.Canceled) {
			c.shuns.shun(n.ID, time.Now())
		}
		return nil, fmt.Errorf("node %s: %w", n.ID, err)
	}
	res.Body = &answer{res.Body, cancel}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent {
		return res, nil
	}
	defer res.Body.Close()
	return nil, refusal(n, res, time.Since(since))
}

// question makes a signed request to a node, for content from off to its end.
func (c *Cluster) question(ctx context.Context, method string, n Node, path string, off int64) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(n.URL, "/")+"/v2/"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.ID, err)
	}
	if off > 0 {
		r.Header.Set("Range", "bytes="+strconv.FormatInt(off, 10)+"-")
	}
	if span := registry.SpanOf(ctx); span != nil && method == http.MethodGet {
		span.Carry(r.Header.Set)
	}
	c.secret.sign(r, c.self.ID, time.Now())
	return r, nil
}

// watch waits for the beginning of an answer, which ends ctx. Its error is that there has been none
// for too long.
func (c *Cluster) watch(ctx context.Context, n Node, path string) error {
	quiet := func(within time.Duration) bool {
		select {
		case <-time.After(within):
			return true
		case <-ctx.Done():
			return false
		}
	}
	switch {
	case !quiet(c.patience):
		return nil
	case !c.waits(ctx, n, path) && ctx.Err() == nil:
		return fmt.Errorf("node %s does not answer, nor does it wait for upstream", n.ID)
	case !quiet(mostPatience - patience):
		return nil
	}
	return fmt.Errorf("node %s did not answer within %s", n.ID, mostPatience)
}

// waits has a node say whether upstream is what it waits for.
func (c *Cluster) waits(ctx context.Context, n Node, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, doubtPatience)
	defer cancel()
	r, err := c.question(ctx, http.MethodHead, n, path, 0)
	if err != nil {
		return false
	}
	res, err := c.client.Do(r)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusNoContent
}

// answer is a body with what has to end with it.
type answer struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close ends the question too.
func (a *answer) Close() error {
	defer a.cancel(nil)
	return a.ReadCloser.Close()
}

// refusal is what an answer that is none of success says. What upstream has told the owner is as
// good as told to this node, also that it does not answer when finding that out took long; that the
// owner is in trouble is not.
func refusal(n Node, res *http.Response, took time.Duration) error {
	var body struct {
		Errors []struct {
			Code    registry.Code
			Message string
		}
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // without it the status says enough
	if json.Unmarshal(b, &body) != nil || len(body.Errors) == 0 {
		return fmt.Errorf("node %s answered %s", n.ID, res.Status)
	}
	first := body.Errors[0]
	fault := &registry.Fault{Code: first.Code, Message: first.Message, Err: fmt.Errorf("node %s answered %s", n.ID, res.Status)}
	if first.Code == registry.TooManyRequests {
		fault.Code = registry.Throttled
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
		fault.RetryAfter = time.Duration(s) * time.Second
	}
	fault.Timeout = first.Code == registry.Unavailable && res.StatusCode == http.StatusGatewayTimeout && took > spent
	return fault
}

// final reports whether an error of the owner is upstream's own word, so that asking upstream again
// would only cost it another request. That there is no such name is not: it may be the project that the
// owner does not know.
func final(err error) bool {
	if f, ok := errors.AsType[*registry.Fault](err); ok && f.Timeout {
		return true
	}
	return errors.Is(err, registry.BlobUnknown) || errors.Is(err, registry.ManifestUnknown) || errors.Is(err, registry.Throttled)
}
