package app

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/sink"
	"github.com/millrace/millrace/query/cache"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// revoke asks for the end of a token that is not there, under a key.
func (l *pipeline) revoke(t *testing.T, key string, keep time.Duration) (outcome registry.Outcome, offset int64) {
	t.Helper()
	e, err := eventlog.NewEvent("/test", &event.TokenRevokeRequested{
		Name: "none", Idempotency: &event.Idempotency{Key: []byte(key), Body: []byte("body\xff"), KeepSeconds: int64(keep / time.Second)},
	})
	if err != nil {
		t.Fatal(err)
	}
	outcome, offset, err = l.registry.Decide(t.Context(), l.appender, e)
	if err != nil {
		t.Fatal(err)
	}
	return outcome, offset
}

func TestAKeyIsFoundInTheProjectionsOnceTheyContainIt(t *testing.T) {
	l := startPipeline(t, t.TempDir())
	p := &process{core: l.core}
	p.gate = gate.New(gate.Config{
		Log: l.log, LogID: l.log.LogID, Generation: l.generation.Number, Group: sink.Group, Registry: prometheus.NewRegistry(), Logger: l.logger,
	})
	t.Cleanup(p.gate.Close)
	var err error
	if p.cache, err = cache.New(cache.Config{Bytes: 1 << 20, Registry: prometheus.NewRegistry(), Logger: l.logger}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.cache.Close)
	find := storedKeysOf(lookups{process: p})
	offsets := map[string]int64{}
	keys := []string{"\x00k'\\\xff", "k2"}
	for _, key := range keys {
		_, offsets[key] = l.revoke(t, key, time.Hour)
	}
	l.revoke(t, "short", 0) // a key that is kept for no time is over at once
	for round := range 2 {
		for _, key := range keys {
			found, err := find(t.Context(), eventlog.Registry, []byte(key), 3)
			if err != nil || found == nil {
				t.Fatalf("round %d, key %q: %v, %v", round, key, found, err)
			}
			var outcome registry.Outcome
			if err := json.Unmarshal(found.Outcome, &outcome); err != nil || outcome.Result != registry.UnknownToken {
				t.Errorf("key %q: outcome %s, %v", key, found.Outcome, err)
			}
			if string(found.Body) != "body\xff" || found.Offset != offsets[key] {
				t.Errorf("key %q: body %q at %d, want it at %d", key, found.Body, found.Offset, offsets[key])
			}
		}
		for _, key := range []string{"short", "never"} {
			if found, err := find(t.Context(), eventlog.Registry, []byte(key), 3); err != nil || found != nil {
				t.Errorf("key %s: found %v, %v", key, found, err)
			}
		}
		if found, err := find(t.Context(), eventlog.Runs, []byte(keys[1]), 0); err != nil || found != nil {
			t.Errorf("a key of another topic: found %v, %v", found, err)
		}
		if _, err := l.processor.Rebuild(t.Context(), nil); err != nil { // the second round asks what was built again
			t.Fatal(err)
		}
		if err := l.generation.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.db.Exec(t.Context(), fmt.Sprintf("DROP TABLE `%s`.idempotency_keys", l.generation.Database())); err != nil {
		t.Fatal(err)
	}
	if _, err := find(t.Context(), eventlog.Registry, []byte("k2"), 3); err == nil {
		t.Error("what cannot be looked up is taken for new")
	}
}
