package route

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/propagation"
)

// Upstreams are the services behind a proxy, by their base URLs.
type Upstreams struct{ Ingest, Query *url.URL }

// forwardSlack is how much longer than the service itself the proxy waits, so
// that the service's own answer to a timeout arrives.
const forwardSlack = 5 * time.Second

// Forward gives the tables to mount on a proxy that puts all APIs on one origin:
// the same endpoints, each handed to the service of its side. The services
// authorize, decode and answer; bodies stream in both directions. The proxy
// itself refuses unknown paths, other methods and bodies over the limit, says
// 502 when a service cannot be reached, and sets X-Forwarded-For, -Host and
// -Proto, dropping those that the client sent. Routes of side Each are left out.
func Forward(routes []Route, to Upstreams, log *slog.Logger) []Route {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true, // bodies pass as they are
	}
	handlers := map[Side]gin.HandlerFunc{
		Ingest: forwardTo(to.Ingest, transport, log),
		Query:  forwardTo(to.Query, transport, log),
	}
	var forwarded []Route
	for _, r := range routes {
		if r.Side == Each {
			continue
		}
		r.Handler = handlers[r.Side]
		r.Access = Anyone
		r.Timeout = firstPositive(r.Timeout, defaultTimeout) + forwardSlack
		r.verbatim = true
		forwarded = append(forwarded, r)
	}
	return forwarded
}

func forwardTo(upstream *url.URL, transport http.RoundTripper, log *slog.Logger) gin.HandlerFunc {
	proxy := httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
			w3c.Inject(r.In.Context(), propagation.HeaderCarrier(r.Out.Header))
		},
	}
	return func(c *gin.Context) {
		var failure error
		attempt := proxy
		attempt.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) { failure = err }
		attempt.ServeHTTP(c.Writer, c.Request)
		if failure != nil {
			Refuse(c, forwardError(c, failure, upstream, log))
		}
	}
}

// forwardError keeps refusals of the proxy itself and of the client's leaving;
// everything else is a service out of reach.
func forwardError(c *gin.Context, err error, upstream *url.URL, log *slog.Logger) error {
	if c.Request.Context().Err() != nil {
		return c.Request.Context().Err()
	}
	if refusal, ok := asError(err); ok {
		return refusal
	}
	log.Warn("service out of reach", slog.String("upstream", upstream.Host), slog.Any("error", err))
	return &Error{Status: http.StatusBadGateway, Message: "the service behind this endpoint is out of reach; try again", RetryAfter: retryBusy}
}

// Checks gives the readiness of the services as checks for the proxy's Health.
func (u Upstreams) Checks() map[string]Check {
	return map[string]Check{"ingest": ready(u.Ingest), "query": ready(u.Query)}
}

func ready(service *url.URL) Check {
	client := &http.Client{Timeout: checkTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, service.JoinPath("/readyz").String(), nil)
		if err != nil {
			return fmt.Errorf("ask %s whether it is ready: %w", service.Host, err)
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("ask %s whether it is ready: %w", service.Host, err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s is not ready: %s", service.Host, response.Status)
		}
		return nil
	}
}
