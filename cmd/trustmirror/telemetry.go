package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	// flushTimeout is how long spans and metrics may take to be sent when the mirror
	// ends.
	flushTimeout = 5 * time.Second
	// telemetryErrorsEvery is how often the log says at most that telemetry can't be
	// sent.
	telemetryErrorsEvery = 10 * time.Minute
	// maxAttribute is how many bytes of a value go into a span, unless
	// OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT says otherwise: clients choose some of them.
	maxAttribute = 1024

	tracesExporter  = "OTEL_TRACES_EXPORTER"
	metricsExporter = "OTEL_METRICS_EXPORTER"

	scope = "github.com/trustmirror/trustmirror" // of our spans and metrics
)

// telemetry is how a mirror tells of itself: by metrics always, and by traces where
// the standard OTEL_* variables say where to send them. Nil, as outside of serve:
// it doesn't.
type telemetry struct {
	traces  *sdktrace.TracerProvider // nil: nothing is traced
	metrics *metrics
}

// newTelemetry reads the OTEL_* variables; close it when done. What is sent goes
// through a queue: pulls never wait for it, and nothing of it can fail them.
func newTelemetry(ctx context.Context, log *slog.Logger) (*telemetry, error) {
	otel.SetErrorHandler(&telemetryErrors{log: log})
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName("trustmirror"), semconv.ServiceVersion(newBuildVersion().Version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, otelMistake("OTEL_RESOURCE_ATTRIBUTES", err)
	}
	t := &telemetry{}
	var readers []sdkmetric.Option
	if exported(metricsExporter) {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, otelMistake(metricsExporter, err)
		}
		readers = append(readers, sdkmetric.WithReader(reader))
	}
	if t.metrics, err = newMetrics(append(readers, sdkmetric.WithResource(about))...); err != nil {
		return nil, err
	}
	if !exported(tracesExporter, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") {
		return t, nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		t.close(log)
		return nil, otelMistake(tracesExporter, err)
	}
	limits := sdktrace.NewSpanLimits()
	if limits.AttributeValueLengthLimit < 0 {
		limits.AttributeValueLengthLimit = maxAttribute
	}
	t.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about), sdktrace.WithRawSpanLimits(limits))
	return t, nil
}

// exported tells whether the variables ask for something to be sent: the first is
// the exporter's name and decides if it is set, else any of the others does.
func exported(exporter string, endpoints ...string) bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if name := os.Getenv(exporter); name != "" {
		return name != "none"
	}
	for _, variable := range endpoints {
		if os.Getenv(variable) != "" {
			return true
		}
	}
	return false
}

func otelMistake(variable string, err error) error {
	return fmt.Errorf("the OTEL_* variables of the environment can't be used (%s=%q: %w); correct them, or unset them to send no telemetry",
		variable, os.Getenv(variable), err)
}

// tracer makes spans; nil if nothing is traced.
func (t *telemetry) tracer() trace.Tracer {
	if provider := t.tracers(); provider != nil {
		return provider.Tracer(scope)
	}
	return nil
}

// tracers are for those who make spans of requests; nil if nothing is traced.
func (t *telemetry) tracers() trace.TracerProvider {
	if t == nil || t.traces == nil {
		return nil
	}
	return t.traces
}

// counted are the metrics; nil, which counts nothing, if there are none.
func (t *telemetry) counted() *metrics {
	if t == nil {
		return nil
	}
	return t.metrics
}

// close sends what wasn't sent yet, as far as that is quick.
func (t *telemetry) close(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	var wait sync.WaitGroup
	var errs [2]error
	if t.traces != nil {
		wait.Go(func() { errs[0] = t.traces.Shutdown(ctx) })
	}
	wait.Go(func() { errs[1] = t.metrics.provider.Shutdown(ctx) })
	wait.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		log.Warn("the last telemetry could not be sent", "error", err)
	}
}

// telemetryErrors says in the log, now and then, that telemetry can't be sent.
type telemetryErrors struct {
	log *slog.Logger

	mu   sync.Mutex // guards what follows
	said time.Time
	kept int // how many weren't said since
}

// Handle implements otel.ErrorHandler.
func (h *telemetryErrors) Handle(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.said.IsZero() && time.Since(h.said) < telemetryErrorsEvery {
		h.kept++
		return
	}
	h.log.Warn("telemetry can't be sent; pulls go on without", "error", err, "more_since_last", h.kept)
	h.said, h.kept = time.Now(), 0
}
