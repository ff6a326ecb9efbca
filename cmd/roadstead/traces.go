package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"roadstead/registry"
)

// traces are where spans go, as the environment says: the variables are those of the OpenTelemetry
// specification, "Environment Variable Specification" and "OTLP Exporter". Without any of them there are none,
// which is nil.
type traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// lastSpans bounds how long the end of a server waits for its last spans to be delivered.
const lastSpans = 2 * time.Second

// openTraces reads the environment, and starts to deliver spans if it says where. A collector that is
// away is no error: its absence is said once, and pulls are nothing to it.
func openTraces(ctx context.Context, node string, log *slog.Logger) (*traces, error) {
	on, err := wantTraces()
	if err != nil || !on {
		return nil, err
	}
	to, err := newCollector(log)
	if err != nil {
		return nil, err
	}
	if err := checkSampler(); err != nil {
		return nil, err
	}
	about := []attribute.KeyValue{attribute.String("service.name", "roadstead"), attribute.String("service.version", thisBuild().Version)}
	if node != "" {
		about = append(about, attribute.String("service.instance.id", node))
	}
	what, err := resource.New(ctx, resource.WithHost(), resource.WithAttributes(about...), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w; write it as name=value,name=value", err)
	}
	exporter, err := otlptrace.New(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	// The collector says itself what goes wrong; of what else the SDK complains of, nobody has to act on.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Debug("traces", "err", err) }))
	// The sampler, the limits of spans and the size of batches it reads from the environment itself.
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(what), sdktrace.WithBatcher(exporter))
	log.Info("traces are delivered", "collector", to.url.Redacted())
	return &traces{provider, provider.Tracer("roadstead")}, nil
}

// wantTraces reports whether the environment asks for traces. A collector somewhere is enough; without one
// there have to be the words.
func wantTraces() (bool, error) {
	if off, err := boolean("OTEL_SDK_DISABLED"); off || err != nil {
		return false, err
	}
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "otlp":
		return true, nil
	case "none":
		return false, nil
	case "":
		return os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "", nil
	default:
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: write otlp, or none for no traces", exporter)
	}
}

func boolean(name string) (bool, error) {
	switch v := strings.ToLower(os.Getenv(name)); v {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, fmt.Errorf("%s is %q: write true or false", name, v)
	}
}

// checkSampler refuses what the SDK would pass over with a default that nobody meant.
func checkSampler() error {
	name, arg := os.Getenv("OTEL_TRACES_SAMPLER"), os.Getenv("OTEL_TRACES_SAMPLER_ARG")
	switch name {
	case "", "always_on", "always_off", "parentbased_always_on", "parentbased_always_off":
		return nil
	case "traceidratio", "parentbased_traceidratio":
		if share, err := strconv.ParseFloat(cmp.Or(arg, "1"), 64); err != nil || share < 0 || share > 1 {
			return fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is %q: write the share of requests to trace, from 0 to 1", arg)
		}
		return nil
	}
	return fmt.Errorf("OTEL_TRACES_SAMPLER is %q: write always_on, always_off, traceidratio, or one of these with parentbased_ before it", name)
}

// Close delivers what is left.
func (t *traces) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
	defer cancel()
	// That it could not be delivered has been said, and is no failure of the server.
	_ = t.provider.Shutdown(ctx)
	return nil
}

// request is what begins the span of a request; nil where nothing is traced, so that a server does not even
// ask.
func (t *traces) request() func(http.Header, string) registry.Span {
	if t == nil {
		return nil
	}
	return func(header http.Header, name string) registry.Span {
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(header))
		_, s := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
		return &span{t.tracer, s}
	}
}

// span is a registry.Span that is delivered.
type span struct {
	tracer trace.Tracer
	trace.Span
}

// Start begins a piece of it.
func (s *span) Start(name string) registry.Span {
	kind := trace.SpanKindInternal
	if name == "ask node" || strings.HasPrefix(name, "upstream ") {
		kind = trace.SpanKindClient
	}
	_, below := s.tracer.Start(trace.ContextWithSpan(context.Background(), s.Span), name, trace.WithSpanKind(kind))
	return &span{s.tracer, below}
}

// Note adds facts. Keys that are no names of OpenTelemetry's get one of our own before them.
func (s *span) Note(facts ...slog.Attr) {
	if !s.IsRecording() {
		return
	}
	all := make([]attribute.KeyValue, 0, len(facts))
	for _, f := range facts {
		key := f.Key
		if !strings.Contains(key, ".") {
			key = "roadstead." + key
		}
		switch f.Value.Kind() {
		case slog.KindInt64:
			all = append(all, attribute.Int64(key, f.Value.Int64()))
		case slog.KindBool:
			all = append(all, attribute.Bool(key, f.Value.Bool()))
		default:
			if text := f.Value.String(); text != "" {
				all = append(all, attribute.String(key, text))
			}
		}
	}
	s.SetAttributes(all...)
}

// Link says what it waits for.
func (s *span) Link(other registry.Span) {
	if o, ok := other.(*span); ok {
		s.AddLink(trace.Link{SpanContext: o.SpanContext()})
	}
}

// Carry gives out traceparent, and tracestate if a client has sent one.
func (s *span) Carry(set func(name, value string)) {
	propagation.TraceContext{}.Inject(trace.ContextWithSpan(context.Background(), s.Span), carrier(set))
}

// End ends it. What does not exist or is not allowed is an answer, and a client that left is nobody's failure.
func (s *span) End(err error) {
	switch {
	case err == nil:
	case registry.Unknown(err), errors.Is(err, registry.Denied), errors.Is(err, registry.Unauthorized), errors.Is(err, context.Canceled):
		s.Note(slog.String("answer", err.Error()))
	default:
		s.SetStatus(codes.Error, err.Error())
	}
	s.Span.End()
}

// carrier is headers that are only written.
type carrier func(name, value string)

// Get is for extraction, which is not done here.
func (carrier) Get(string) string { return "" }

// Set sets a header.
func (c carrier) Set(name, value string) { c(name, value) }

// Keys is for extraction too.
func (carrier) Keys() []string { return nil }
