package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/deploy/standalone/config"
)

// computed counts the answers that were computed.
func (r *running) computed(t *testing.T) string {
	t.Helper()
	_, body := r.get(t, "/metrics")
	return regexp.MustCompile(`millrace_cache_requests_total{from="computed"} .*`).FindString(body)
}

func TestATrendIsComputedAgainWhenItsOwnSeriesGetsSamplesAndNotWhenOthersDo(t *testing.T) {
	folder := t.TempDir()
	r := runStandalone(t, func(c *config.Config) { c.Data = folder })
	r.upload(t, addMachine(t, folder))
	var token struct{ Token string }
	if err := json.Unmarshal(operate(t, folder, "tokens", `{"name": "prober", "role": "writer"}`), &token); err != nil || token.Token == "" {
		t.Fatalf("token %+v (%v)", token, err)
	}
	probes := 0
	probe := func(metric string) {
		t.Helper()
		probes++
		at := time.Date(2025, 1, 1, 0, 0, probes, 0, time.UTC).Unix()
		r.post(t, "/millrace/v1/runs/1/samples", "Bearer "+token.Token, fmt.Appendf(nil, `{"metric": %q, "points": [[%d, 1]]}`, metric, at))
	}
	trend := func() string {
		t.Helper()
		status, body := r.get(t, "/millrace/v1/trend?machine=1&config=1&branch=1&metric=mine&resolution=hour")
		if status != http.StatusOK {
			t.Fatalf("the trend answers %d: %s", status, body)
		}
		return body
	}
	probe("mine")
	first := trend()
	if !strings.Contains(first, `"samples":1,`) {
		t.Fatalf("the trend does not have its sample: %s", first)
	}
	trend()
	before := r.computed(t)
	for i := range 5 {
		probe(fmt.Sprintf("other%d", i))
		if again := trend(); again != first {
			t.Errorf("the trend changed with samples of others: %s", again)
		}
	}
	if after := r.computed(t); after != before || before == "" {
		t.Errorf("samples of others made the trend be computed: %q before, %q after", before, after)
	}
	probe("mine")
	if again := trend(); !strings.Contains(again, `"samples":2,`) {
		t.Errorf("the trend lacks its newest sample: %s", again)
	}
}
