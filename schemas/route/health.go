package route

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
)

// Check tells whether something that the service needs works now.
type Check func(ctx context.Context) error

const (
	// checkTimeout bounds all checks of one round together.
	checkTimeout = 2 * time.Second
	// checkAge is how long a round's result is given to others who ask: anyone
	// may ask, and must not be able to keep the engines busy.
	checkAge = time.Second
)

// Health answers whether the process lives (/healthz) and whether it can take
// requests now (/readyz). They differ: a process that waits for an engine must
// get no requests, and must not be restarted.
type Health struct {
	checks   map[string]Check
	log      *slog.Logger
	draining atomic.Bool

	mu      sync.Mutex
	asked   time.Time
	missing []string
	reasons map[string]string
}

// NewHealth makes a Health that is ready while every check passes. The names of
// the checks are what /readyz reports, so they name engines.
func NewHealth(log *slog.Logger, checks map[string]Check) *Health {
	return &Health{checks: checks, log: log}
}

// Drain makes the process unready for good, while it still serves.
func (h *Health) Drain() { h.draining.Store(true) }

// Missing lists the names of the checks that fail, in order.
func (h *Health) Missing(ctx context.Context) []string {
	missing, _ := h.look(ctx)
	return missing
}

// look gives what is missing, with the reasons that are for everybody: those of
// checks that failed with an *Error.
func (h *Health) look(ctx context.Context) ([]string, map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked.IsZero() && time.Since(h.asked) < checkAge {
		return h.missing, h.reasons
	}
	// Others will be given this result: the one who asked may not cut it short.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	h.missing, h.reasons = h.run(ctx)
	h.asked = time.Now()
	return h.missing, h.reasons
}

func (h *Health) run(ctx context.Context) (missing []string, reasons map[string]string) {
	var wg sync.WaitGroup
	var failures sync.Map
	for name, check := range h.checks {
		wg.Go(func() {
			if err := check(ctx); err != nil {
				failures.Store(name, err)
			}
		})
	}
	wg.Wait()
	for _, name := range slices.Sorted(maps.Keys(h.checks)) {
		if err, failed := failures.Load(name); failed {
			h.log.Warn("not ready", slog.String("missing", name), slog.Any("error", err))
			missing = append(missing, name)
			if public := (*Error)(nil); errors.As(err.(error), &public) {
				if reasons == nil {
					reasons = map[string]string{}
				}
				reasons[name] = public.Message
			}
		}
	}
	return missing, reasons
}

// state is the body of both answers.
type state struct {
	Status  string   `json:"status" doc:"ok, ready, not ready or draining"`
	Missing []string `json:"missing,omitempty" doc:"what the process needs and cannot reach"`
	// Reasons are those that are for everybody.
	Reasons map[string]string `json:"reasons,omitempty" doc:"why, for some of what is missing"`
}

// Routes gives /healthz and /readyz, of the API "operations".
func (h *Health) Routes() []Route {
	return []Route{{
		Method: http.MethodGet, Path: "/healthz", Side: Each, API: "operations", Access: Anyone,
		Summary: "Tell whether the process lives",
		Answers: []Answer{{Status: 200, Body: state{}, Description: "It lives."}},
		Handler: func(c *gin.Context) { c.JSON(http.StatusOK, state{Status: "ok"}) },
	}, {
		Method: http.MethodGet, Path: "/readyz", Side: Each, API: "operations", Access: Anyone,
		Summary: "Tell whether the process can take requests, and what it misses",
		Answers: []Answer{{Status: 200, Body: state{}, Description: "It is ready."},
			{Status: 503, Body: state{}, Description: "It is not, or is about to end."}},
		Handler: h.ready,
	}}
}

func (h *Health) ready(c *gin.Context) {
	if h.draining.Load() {
		c.JSON(http.StatusServiceUnavailable, state{Status: "draining"})
		return
	}
	if missing, reasons := h.look(c.Request.Context()); len(missing) > 0 {
		c.JSON(http.StatusServiceUnavailable, state{Status: "not ready", Missing: missing, Reasons: reasons})
		return
	}
	c.JSON(http.StatusOK, state{Status: "ready"})
}
