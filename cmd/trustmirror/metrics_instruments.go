package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// maxLabels is how many labels an instrument has at most.
const maxLabels = 3

// labelled makes what a measurement is labelled with, once for each set of values,
// so that counting allocates nothing.
type labelled struct {
	names []string

	mu   sync.RWMutex // guards made
	made map[[maxLabels]string]labels
}

// labels are the options of a measurement.
type labels struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

func newLabelled(names []string) labelled {
	return labelled{names: names, made: make(map[[maxLabels]string]labels)}
}

func (l *labelled) of(values [maxLabels]string) labels {
	l.mu.RLock()
	known, ok := l.made[values]
	l.mu.RUnlock()
	if ok {
		return known
	}
	var attrs []attribute.KeyValue
	for i, name := range l.names {
		attrs = append(attrs, attribute.String(name, values[i]))
	}
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	known = labels{add: []metric.AddOption{set}, record: []metric.RecordOption{set}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made[values] = known
	return known
}

// counter only rises.
type counter struct {
	labelled
	metric.Int64Counter
}

// add counts n, with the labels' values in the order of their names.
func (c *counter) add(n int64, values ...string) {
	var key [maxLabels]string
	copy(key[:], values)
	c.Add(context.Background(), n, c.of(key).add...)
}

func (m *metrics) counter(name, unit, help string, labels ...string) *counter {
	c, err := m.meter.Int64Counter("trustmirror."+name, metric.WithUnit(unit), metric.WithDescription(help))
	m.failed = errors.Join(m.failed, err)
	return &counter{newLabelled(labels), c}
}

// histogram is of durations.
type histogram struct {
	labelled
	metric.Float64Histogram
}

func (h *histogram) record(d time.Duration, values ...string) {
	var key [maxLabels]string
	copy(key[:], values)
	h.Record(context.Background(), d.Seconds(), h.of(key).record...)
}

func (m *metrics) histogram(name, help string, labels ...string) *histogram {
	h, err := m.meter.Float64Histogram("trustmirror."+name, metric.WithUnit("s"), metric.WithDescription(help), durations())
	m.failed = errors.Join(m.failed, err)
	return &histogram{newLabelled(labels), h}
}

// observer is told a value and its labels.
type observer func(value float64, labels ...attribute.KeyValue)

// gauge is asked for its values whenever somebody looks.
func (m *metrics) gauge(name, unit, help string, values func(context.Context, observer)) {
	_, err := m.meter.Float64ObservableGauge("trustmirror."+name, metric.WithUnit(unit), metric.WithDescription(help),
		metric.WithFloat64Callback(func(ctx context.Context, o metric.Float64Observer) error {
			values(ctx, func(value float64, labels ...attribute.KeyValue) { o.Observe(value, metric.WithAttributes(labels...)) })
			return nil
		}))
	m.failed = errors.Join(m.failed, err)
}

// total is a counter that somebody else keeps.
func (m *metrics) total(name, help string, value func() uint64) {
	_, err := m.meter.Float64ObservableCounter("trustmirror."+name, metric.WithDescription(help),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(float64(value()))
			return nil
		}))
	m.failed = errors.Join(m.failed, err)
}
