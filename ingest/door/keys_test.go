package door_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// remembering is the registry's fold with a memory of few keys.
func remembering(limit int) *fold.Definition[*registry.State, registry.Outcome] {
	definition := registry.Fold()
	definition.New = func() *registry.State {
		s := registry.NewState()
		s.Repeats.Limit = limit
		return s
	}
	return definition
}

// desk is a door of one process, on a log that others may share, with projections that are folded from that log.
type desk struct {
	t    *testing.T
	log  *doortest.Log
	fold *doortest.Fold[*registry.State, registry.Outcome]
	// looked counts the look-ups in the projections.
	looked int
	// broken is what they fail with.
	broken error
}

func newDesk(t *testing.T, log *doortest.Log, limit int) *desk {
	t.Helper()
	d := &desk{t: t, log: log, fold: doortest.NewFold(log, remembering(limit))}
	d.fold.Stored(func(_ context.Context, topic string, key []byte, through uint64) (*door.StoredKey, error) {
		d.looked++
		if d.broken != nil {
			return nil, d.broken
		}
		return d.projected(topic, limit, key, through), nil
	})
	return d
}

// projected finds a key in what the log says up to the ordinal that the door asks for.
func (d *desk) projected(topic string, limit int, key []byte, through uint64) (found *door.StoredKey) {
	progress := remembering(limit).Start()
	for _, record := range d.log.Records(topic) {
		taken := progress.Repeats().Taken
		outcome := progress.Apply(1, &record)
		if progress.Repeats().Taken == taken || taken >= through {
			continue
		}
		name, kept := progress.Repeats().Newest()
		if name == string(key) {
			text, err := json.Marshal(outcome)
			if err != nil {
				d.t.Fatal(err)
			}
			found = &door.StoredKey{Body: []byte(kept.Body), Outcome: text, Offset: record.Offset}
		}
	}
	return found
}

// add asks for a token under a key.
func (d *desk) add(name, key, body string) (registry.Outcome, eventlog.Position, error) {
	hash := make([]byte, 32)
	copy(hash, name)
	return door.Decide(context.Background(), d.log.Door(), d.fold, "/test", &event.TokenAddRequested{
		Name: name, TokenHash: hash, Idempotency: &event.Idempotency{Key: []byte(key), Body: []byte(body), KeepSeconds: 3600},
	})
}

// fill has other keys push the older ones out of a fold's memory.
func (d *desk) fill(n int) {
	d.t.Helper()
	for i := range n {
		name := fmt.Sprint("filler", len(d.log.Records(eventlog.Registry)), i)
		if outcome, _, err := d.add(name, name, ""); err != nil || outcome != (registry.Outcome{Result: registry.Done}) {
			d.t.Fatalf("%s: %+v, %v", name, outcome, err)
		}
	}
}

func (d *desk) wants(key, body string, want registry.Outcome) {
	d.t.Helper()
	if outcome, _, err := d.add("ci", key, body); err != nil || outcome != want {
		d.t.Errorf("key %s with body %s: %+v, %v; want %+v", key, body, outcome, err, want)
	}
}

var (
	done     = registry.Outcome{Result: registry.Done}
	repeated = registry.Outcome{Result: registry.Done, Repeated: true}
	reused   = registry.Outcome{Result: registry.KeyReused}
)

func TestAKeyThatTheFoldForgotIsAnsweredFromTheProjections(t *testing.T) {
	d := newDesk(t, doortest.NewLog(time.Now), 3)
	d.wants("k", "b", done)
	d.wants("k", "b", repeated)
	if d.looked != 0 {
		t.Errorf("%d look-ups although the fold has forgotten nothing", d.looked)
	}
	d.fill(5)
	appended := len(d.log.Records(eventlog.Registry))
	d.wants("k", "b", repeated)
	d.wants("k", "other", reused)
	if now := len(d.log.Records(eventlog.Registry)); now != appended {
		t.Errorf("%d events were appended for requests that were answered before", now-appended)
	}
	_, position, err := d.add("ci", "k", "b")
	if err != nil || position.Offsets[eventlog.Partition{Topic: eventlog.Registry}] != 0 {
		t.Errorf("the repeat's position is %v, %v; want the first request's", position, err)
	}
}

func TestAReplicaThatLagsBehindAKeyItNeverSawGivesItsFirstAnswer(t *testing.T) {
	log := doortest.NewLog(time.Now)
	ahead, behind := newDesk(t, log, 3), newDesk(t, log, 3)
	ahead.wants("k", "b", done)
	ahead.fill(5)
	behind.wants("k", "b", repeated)
	behind.wants("k", "c", reused)
}

func TestAKeyThatIsForgottenBetweenTheLookAndTheRequestGivesItsFirstAnswer(t *testing.T) {
	log := doortest.NewLog(time.Now)
	ahead, behind := newDesk(t, log, 3), newDesk(t, log, 3)
	ahead.wants("k", "b", done)
	if err := behind.fold.CatchUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	ahead.fill(5) // behind still knows the key
	behind.wants("k", "b", repeated)
}

func TestAForgottenKeyThatCannotBeLookedUpIs503AndHasNoEffect(t *testing.T) {
	d := newDesk(t, doortest.NewLog(time.Now), 3)
	d.wants("k", "b", done)
	d.fill(5)
	appended := len(d.log.Records(eventlog.Registry))
	d.broken = door.OutOfReach("ClickHouse")
	for _, key := range []string{"k", "new"} {
		_, _, err := d.add("ci", key, "b")
		var refusal *route.Error
		if !errors.As(err, &refusal) || refusal.Status != http.StatusServiceUnavailable || refusal.RetryAfter <= 0 {
			t.Errorf("key %s: %v, want 503 with Retry-After", key, err)
		}
	}
	if now := len(d.log.Records(eventlog.Registry)); now != appended {
		t.Error("a request was appended although nobody knows whether it is a repeat")
	}
	d.broken = nil
	d.wants("k", "b", repeated)
}
