package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// expiryMetrics is a Prometheus collector that computes, when it is asked, how
// long trust lasts.
type expiryMetrics struct {
	expiries func() []trustExpiry
	seconds  *prometheus.Desc
}

func newExpiryMetrics(expiries func() []trustExpiry) *expiryMetrics {
	return &expiryMetrics{expiries: expiries, seconds: prometheus.NewDesc("trustmirror_trust_expiry_seconds",
		"Seconds until the signed metadata of a role expire; negative once they have. Archives and pinned digests don't expire and have none.",
		[]string{"image", "role"}, nil)}
}

// Describe implements prometheus.Collector.
func (m *expiryMetrics) Describe(descs chan<- *prometheus.Desc) { descs <- m.seconds }

// Collect implements prometheus.Collector.
func (m *expiryMetrics) Collect(metrics chan<- prometheus.Metric) {
	for _, e := range m.expiries() {
		for _, r := range e.Roles {
			metric, err := prometheus.NewConstMetric(m.seconds, prometheus.GaugeValue, float64(r.Left), e.Image, r.Role)
			if err != nil {
				metric = prometheus.NewInvalidMetric(m.seconds, err)
			}
			metrics <- metric
		}
	}
}

// metricsHandler answers /metrics with what the collectors tell.
func metricsHandler(collectors ...prometheus.Collector) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range collectors {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}
