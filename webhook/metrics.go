// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/podproc/podproc/webhook/inject"
)

// Metrics are what the webhook counts.
type Metrics struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	inFlight prometheus.Gauge
	bundle   *prometheus.CounterVec
}

// NewMetrics registers the metrics. notAfter is when the serving certificate
// expires, zero if there is none.
func NewMetrics(reg prometheus.Registerer, notAfter func() time.Time) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "podproc_webhook_requests_total",
			Help: "Admission requests by kind of object, outcome and reason. Requests that a matchCondition or selector kept from the webhook are not seen here.",
		}, []string{"kind", "outcome", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "podproc_webhook_request_duration_seconds",
			Help:    "Time to decide about an admission request.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1, 3},
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "podproc_webhook_requests_in_flight",
			Help: "Admission requests being answered.",
		}),
		bundle: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "podproc_webhook_ca_bundle_writes_total",
			Help: "Writes of caBundle into the MutatingWebhookConfiguration, by result.",
		}, []string{"result"}),
	}
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "podproc_webhook_certificate_not_after_timestamp_seconds",
		Help: "When the serving certificate expires, in seconds since 1970; 0 without a certificate.",
	}, func() float64 {
		t := notAfter()
		if t.IsZero() {
			return 0
		}
		return float64(t.Unix())
	})
	reg.MustRegister(m.requests, m.duration, m.inFlight, m.bundle, expiry)
	for _, result := range []string{"ok", "error"} {
		m.bundle.WithLabelValues(result)
	}
	return m
}

func (m *Metrics) request(kind inject.Kind, result inject.Result, took time.Duration) {
	m.requests.WithLabelValues(string(kind), string(result.Outcome), string(result.Reason)).Inc()
	m.duration.Observe(took.Seconds())
}

// BundleWritten counts a write of caBundle.
func (m *Metrics) BundleWritten(err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.bundle.WithLabelValues(result).Inc()
}
