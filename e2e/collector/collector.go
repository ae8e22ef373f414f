// Package collector takes the traces and metrics that programs send over OTLP, with the
// OpenTelemetry collector's own receiver, and keeps them to be looked at.
package collector

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// Collector is an OTLP receiver in this process.
type Collector struct {
	GRPC string // "http://127.0.0.1:4317": what to set OTEL_EXPORTER_OTLP_ENDPOINT to
	HTTP string // "http://127.0.0.1:4318": the same, for the protocol http/protobuf

	traces  consumertest.TracesSink
	metrics consumertest.MetricsSink
	parts   []component.Component // of the receiver, one for each kind of what is sent
}

// Start listens on loopback.
func Start(ctx context.Context) (*Collector, error) {
	grpc, err := lab.FreeAddress()
	if err != nil {
		return nil, err
	}
	http, err := lab.FreeAddress()
	if err != nil {
		return nil, err
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	err = confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{
		"grpc": map[string]any{"endpoint": grpc},
		"http": map[string]any{"endpoint": http},
	}}).Unmarshal(config)
	if err != nil {
		return nil, err
	}
	c := &Collector{GRPC: "http://" + grpc, HTTP: "http://" + http}
	settings := receivertest.NewNopSettings(factory.Type())
	traces, err := factory.CreateTraces(ctx, settings, config, &c.traces)
	if err != nil {
		return nil, err
	}
	metrics, err := factory.CreateMetrics(ctx, settings, config, &c.metrics)
	if err != nil {
		return nil, err
	}
	c.parts = []component.Component{traces, metrics}
	for _, part := range c.parts {
		if err := part.Start(ctx, componenttest.NewNopHost()); err != nil {
			return nil, fmt.Errorf("the collector doesn't start: %w", err)
		}
	}
	return c, nil
}

// Close stops listening. What was received stays.
func (c *Collector) Close(ctx context.Context) error {
	var errs []error
	for _, part := range c.parts {
		errs = append(errs, part.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// Span is a span that was sent.
type Span struct {
	Service    string // the name of the program that sent it
	TraceID    string
	ID         string
	Parent     string // "": it is its trace's first
	Name       string
	Kind       string // "Server", "Client", "Internal"
	Attributes map[string]any
	Links      []Link
}

// Link names another span.
type Link struct {
	TraceID, ID string
	Attributes  map[string]any
}

// Spans returns all spans that were sent, in the order in which they came.
func (c *Collector) Spans() []Span {
	var all []Span
	for _, sent := range c.traces.AllTraces() {
		for _, resource := range sent.ResourceSpans().All() {
			service, _ := resource.Resource().Attributes().Get("service.name")
			for _, scope := range resource.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					span := Span{
						Service: service.Str(), TraceID: s.TraceID().String(), ID: s.SpanID().String(), Parent: s.ParentSpanID().String(),
						Name: s.Name(), Kind: s.Kind().String(), Attributes: s.Attributes().AsRaw(),
					}
					for _, l := range s.Links().All() {
						span.Links = append(span.Links, Link{l.TraceID().String(), l.SpanID().String(), l.Attributes().AsRaw()})
					}
					all = append(all, span)
				}
			}
		}
	}
	return all
}

// Counted returns the sum of a counter's last values, by one of its attributes.
func (c *Collector) Counted(counter, by string) map[string]int64 {
	sums := map[string]int64{}
	for _, sent := range c.metrics.AllMetrics() {
		for _, resource := range sent.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				for _, m := range scope.Metrics().All() {
					if m.Name() != counter {
						continue
					}
					clear(sums) // values are of all time: the last ones count
					for _, point := range m.Sum().DataPoints().All() {
						value, _ := point.Attributes().Get(by)
						sums[value.AsString()] += point.IntValue()
					}
				}
			}
		}
	}
	return sums
}

// Text is all that was sent, as OTLP's JSON.
func (c *Collector) Text() (string, error) {
	var all strings.Builder
	for _, sent := range c.traces.AllTraces() {
		text, err := (&ptrace.JSONMarshaler{}).MarshalTraces(sent)
		if err != nil {
			return "", err
		}
		all.Write(text)
	}
	for _, sent := range c.metrics.AllMetrics() {
		text, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(sent)
		if err != nil {
			return "", err
		}
		all.Write(text)
	}
	return all.String(), nil
}
