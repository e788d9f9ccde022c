package pgperffarm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

const (
	// refusalsPerSecond and refusalBurst bound the run log: who is turned away must not be able to fill the disk.
	refusalsPerSecond = 50
	refusalBurst      = 500
	// refusalTime bounds the append: the answer does not depend on it.
	refusalTime = 2 * time.Second
	// maxReason is the length of a reason in characters (contract 4.4).
	maxReason = 500
)

// refusals keeps the run log: an event for each upload that was turned away.
type refusals struct {
	log     door.Log
	rate    *rate.Limiter
	counter *prometheus.CounterVec
	logger  *slog.Logger
}

func newRefusals(d Dependencies) (*refusals, error) {
	r := &refusals{
		log: d.Log, rate: rate.NewLimiter(refusalsPerSecond, refusalBurst), logger: d.Logger,
		counter: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_pgperffarm_refused_uploads_total", Help: "Uploads that were turned away, by whether the run log has them.",
		}, []string{"recorded"}),
	}
	if err := d.Metrics.Register(r.counter); err != nil {
		return nil, fmt.Errorf("register the metrics of refused uploads: %w", err)
	}
	return r, nil
}

// record appends a refusal and gives its position; the empty position when the run log does not get it.
func (r *refusals) record(ctx context.Context, machine uint64, status int, reason string, body []byte) eventlog.Position {
	if !r.rate.Allow() {
		r.counter.WithLabelValues("no").Inc()
		return eventlog.Position{}
	}
	position, err := r.append(ctx, machine, status, reason, body)
	if err != nil {
		r.counter.WithLabelValues("no").Inc()
		r.logger.WarnContext(ctx, "a refused upload is missing in the run log", "machine", machine, "reason", reason, "error", err)
		return eventlog.Position{}
	}
	r.counter.WithLabelValues("yes").Inc()
	return position
}

func (r *refusals) append(ctx context.Context, machine uint64, status int, reason string, body []byte) (eventlog.Position, error) {
	sum := sha256.Sum256(body)
	fact, err := door.NewEvent(ctx, source, &event.FarmUploadRefused{
		MachineId: machine, Status: uint32(status), Reason: cut(reason), Sha256: sum[:], Size: uint64(len(body)),
	})
	if err != nil {
		return eventlog.Position{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, refusalTime)
	defer cancel()
	return r.log.Record(ctx, eventlog.Results, binary.BigEndian.AppendUint64(nil, machine), fact)
}

// cut shortens a reason to what is kept of it.
func cut(reason string) string {
	if utf8.RuneCountInString(reason) <= maxReason {
		return reason
	}
	return string([]rune(reason)[:maxReason-1]) + "…"
}
