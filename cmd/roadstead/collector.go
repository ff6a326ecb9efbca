package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is where spans are sent, by OTLP over HTTP with protobuf (OTLP specification 1.x, "OTLP/HTTP"). It
// is what otlptracehttp is, which would bring gRPC into the program with it: six megabytes that nothing runs.
type collector struct {
	url    *url.URL
	header http.Header
	gzip   bool
	within time.Duration // for one delivery
	client *http.Client
	log    *slog.Logger

	failing atomic.Bool // the last delivery was none
}

// otlp returns a variable that there may be for traces alone, and which name it had.
func otlp(name string) (value, from string) {
	for _, from := range []string{"OTEL_EXPORTER_OTLP_TRACES_" + name, "OTEL_EXPORTER_OTLP_" + name} {
		if v := os.Getenv(from); v != "" {
			return v, from
		}
	}
	return "", "OTEL_EXPORTER_OTLP_" + name
}

// newCollector reads where the collector is and how it is to be spoken to.
func newCollector(log *slog.Logger) (*collector, error) {
	c := &collector{header: http.Header{}, within: 10 * time.Second, log: log}
	if protocol, from := otlp("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("%s is %q: only http/protobuf is spoken here, which collectors take on port 4318", from, protocol)
	}
	endpoint, from := otlp("ENDPOINT")
	u, err := url.Parse(cmp.Or(endpoint, "http://localhost:4318"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s is no URL of a collector: write http://host:4318 or https://host:4318", from) // it may have a password
	}
	if from != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" {
		u = u.JoinPath("v1/traces")
	}
	c.url = u
	if text, from := otlp("TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms <= 0 {
			return nil, fmt.Errorf("%s is %q: write milliseconds", from, text)
		}
		c.within = time.Duration(ms) * time.Millisecond
	}
	switch how, from := otlp("COMPRESSION"); how {
	case "", "none":
	case "gzip":
		c.gzip = true
	default:
		return nil, fmt.Errorf("%s is %q: write gzip or none", from, how)
	}
	text, from := otlp("HEADERS")
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("%s is not name=value,name=value", from) // whose values are secrets
		}
		c.header.Set(name, value)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig, err = collectorTLS(); err != nil {
		return nil, err
	}
	c.client = &http.Client{
		Transport: transport,
		// What is in the headers is for this collector, and a redirect may make a GET of it that is answered with 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func collectorTLS() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file, from := otlp("CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %s has no certificate in PEM", from, file)
		}
	}
	certificate, from := otlp("CLIENT_CERTIFICATE")
	key, _ := otlp("CLIENT_KEY")
	if certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("%s with its key: %w", from, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// Start has nothing to do: connections are made when there is something to send.
func (c *collector) Start(context.Context) error { return nil }

// Stop closes them.
func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces delivers spans. What cannot be delivered is lost, which is said once, until it can be again.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	err := c.deliver(ctx, spans)
	switch failed := err != nil; {
	case failed && !c.failing.Swap(true):
		c.log.Warn("traces cannot be delivered, and are thrown away until they can", "collector", c.url.Redacted(), "err", err)
	case !failed && c.failing.Swap(false):
		c.log.Info("traces are delivered again", "collector", c.url.Redacted())
	}
	return err
}

const (
	deliveries = 3 // how often it is tried, when the collector says that it is busy

	// mostAnswer is how much is read of an answer, of which nothing is of use.
	mostAnswer = 64 << 10
)

func (c *collector) deliver(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// The bytes of TracesData are those of ExportTraceServiceRequest, whose package has gRPC in it.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("write spans: %w", err)
	}
	if c.gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write(body)
		if err := errors.Join(err, w.Close()); err != nil {
			return fmt.Errorf("compress spans: %w", err)
		}
		body = packed.Bytes()
	}
	wait := time.Second
	for try := 1; ; try++ {
		busy, after, err := c.post(ctx, body)
		if !busy || try == deliveries {
			return err
		}
		select {
		case <-time.After(max(wait, after)):
		case <-ctx.Done():
			return err
		}
		wait *= 2
	}
}

// post sends a body once. busy says that the same may be sent again, and after when.
func (c *collector) post(ctx context.Context, body []byte) (busy bool, after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return false, 0, err
	}
	r.Header = c.header.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "roadstead/"+thisBuild().Version)
	if c.gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	res, err := c.client.Do(r)
	if err != nil {
		return false, 0, err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, mostAnswer)) // for the connection to be used again
	if res.StatusCode/100 == 2 {
		return false, 0, nil
	}
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		busy = true
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
			after = time.Duration(s) * time.Second
		}
	}
	return busy, after, fmt.Errorf("the collector answered %s", res.Status)
}
