package route

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durations is the histogram of request times. Its labels are few and bounded:
// the route's template and never a path, the status class and never a status.
type durations struct{ histogram *prometheus.HistogramVec }

func newDurations(registry prometheus.Registerer) (*durations, error) {
	histogram := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "millrace_http_request_seconds",
		Help:    "Time from a request's arrival to the end of its answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
	}, []string{"api", "method", "route", "class"})
	if registry == nil {
		return &durations{histogram}, nil
	}
	if err := registry.Register(histogram); err != nil {
		return nil, fmt.Errorf("register request metrics: %w", err)
	}
	return &durations{histogram}, nil
}

// registerLoad shows what each admission lets in and holds at the moment.
func registerLoad(opts Options) error {
	if opts.Metrics == nil {
		return nil
	}
	admissions := map[string]*Admission{
		Ingest.String(): opts.Ingest, Query.String(): opts.Query, "waiting": opts.Waiting, "watching": opts.Watching,
		"uploads": opts.Uploads, "downloads": opts.Downloads,
	}
	for side, admission := range admissions {
		if admission == nil {
			continue
		}
		labels := prometheus.Labels{"side": side}
		requests := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "millrace_http_requests_in_flight", Help: "Requests admitted and not ended.", ConstLabels: labels,
		}, func() float64 { return float64(admission.requests.Load()) })
		bytes := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "millrace_http_body_bytes_held", Help: "Bytes of bodies that admitted requests hold.", ConstLabels: labels,
		}, func() float64 { return float64(admission.bytes.Load()) })
		if err := errors.Join(opts.Metrics.Register(requests), opts.Metrics.Register(bytes)); err != nil {
			return fmt.Errorf("register metrics of the load: %w", err)
		}
	}
	return nil
}

func (d *durations) of(api, method, route string) *observers {
	return &observers{histogram: d.histogram, api: api, method: method, route: route}
}

// observers keeps one route's series by status class. They are made when first
// needed: made ahead, most of them would be exported empty for ever.
type observers struct {
	histogram          *prometheus.HistogramVec
	api, method, route string
	classes            [6]atomic.Pointer[prometheus.Observer]
}

var classes = [6]string{"unknown", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (o *observers) observe(status int, elapsed time.Duration) {
	class := status / 100
	if class < 0 || class >= len(classes) {
		class = 0
	}
	observer := o.classes[class].Load()
	if observer == nil {
		made := o.histogram.WithLabelValues(o.api, o.method, o.route, classes[class])
		observer = &made
		o.classes[class].Store(observer)
	}
	(*observer).Observe(elapsed.Seconds())
}
