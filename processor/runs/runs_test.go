package runs

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// history makes records of the runs topic.
type history struct {
	t      testing.TB
	offset int64
	time   int64
}

func (h *history) record(m proto.Message) eventlog.Record {
	h.t.Helper()
	e, err := eventlog.NewEvent("/test", m)
	if err != nil {
		h.t.Fatal(err)
	}
	h.offset++
	return eventlog.Record{Event: e, Partition: eventlog.Partition{Topic: eventlog.Runs}, Offset: h.offset, LogTime: h.time}
}

func upload(machine uint64, kind string, start int64, terms ...string) *event.FarmUploadRequested {
	m := &event.FarmUploadRequested{MachineId: machine, MachineType: kind, StartTime: start}
	for _, term := range terms {
		hash := sha256.Sum256([]byte(term))
		m.Terms = append(m.Terms, &event.Term{Kind: event.TermKind_TERM_KIND_CONFIG, Hash: hash[:16]})
	}
	return m
}

func keyed(m *event.FarmUploadRequested, key, body string) *event.FarmUploadRequested {
	m.Idempotency = &event.Idempotency{Key: []byte(key), Body: []byte(body), KeepSeconds: 60}
	return m
}

func TestUploadsAreDecidedByTheirOrderInTheLog(t *testing.T) {
	h := &history{t: t}
	state := NewState()
	steps := []struct {
		name string
		m    *event.FarmUploadRequested
		want Outcome
	}{
		{"the first run is stored", upload(1, "x86_64", 100), Outcome{Result: Accepted, Run: 1}},
		{"the same start again names the stored run", upload(1, "x86_64", 100), Outcome{Result: Duplicate, Run: 1}},
		{"a refused request used a number up", upload(1, "x86_64", 200), Outcome{Result: Accepted, Run: 3}},
		{"another machine may have the same start", upload(2, "aarch64", 100), Outcome{Result: Accepted, Run: 4}},
		{"the first stored run fixed the type", upload(2, "x86_64", 300), Outcome{Result: OtherType, Type: "aarch64"}},
		{"a key's first request is stored", keyed(upload(1, "x86_64", 400), "k", "b"), Outcome{Result: Accepted, Run: 6}},
		{"its repeat gets the first answer", keyed(upload(1, "x86_64", 400), "k", "b"), Outcome{Result: Accepted, Run: 6, Repeated: true}},
		{"another body under it is refused", keyed(upload(1, "x86_64", 500), "k", "c"), Outcome{Result: KeyReused}},
		{"what the door found in the projections is a duplicate", &event.FarmUploadRequested{
			MachineId: 1, MachineType: "x86_64", StartTime: 7, StoredRunId: 5,
		}, Outcome{Result: Duplicate, Run: 5}},
	}
	for _, step := range steps {
		record := h.record(step.m)
		if got := Apply(state, &record); !cmp.Equal(got, step.want) {
			t.Errorf("%s: got %+v, want %+v", step.name, got, step.want)
		}
	}
	if m := state.Machines[1]; m.Runs != 3 || m.Latest != [3]uint64{6, 3, 1} {
		t.Errorf("machine 1 is %+v, want 3 runs, the newest first", m)
	}
}

func TestAKeyIsForgottenWhenLogTimeHasPassedItsWindow(t *testing.T) {
	h := &history{t: t}
	state := NewState()
	first := h.record(keyed(upload(1, "x", 1), "k", "b"))
	Apply(state, &first)
	h.time = 60_001
	again := h.record(keyed(upload(1, "x", 2), "k", "other"))
	if got := Apply(state, &again); got.Result != Accepted {
		t.Errorf("the key is still taken after its window: %+v", got)
	}
}

func TestDictionaryNumbersFollowFromTheFirstRunThatShowedTheValue(t *testing.T) {
	h := &history{t: t}
	state := NewState()
	for i, terms := range [][]string{{"a", "b"}, {"b", "c"}, {"c", "a"}} {
		record := h.record(upload(1, "x", int64(i), terms...))
		Apply(state, &record)
	}
	for term, want := range map[string]uint64{"a": 1, "b": 2, "c": 3} {
		hash := sha256.Sum256([]byte(term))
		if got := state.TermID(pgperffarm.Term{Kind: pgperffarm.TermConfig, Hash: [16]byte(hash[:16])}); got != want {
			t.Errorf("%s has number %d, want %d", term, got, want)
		}
	}
	if state.TermID(pgperffarm.BranchTerm(pgperffarm.OfficialRepositories()[0], "master")) != 1 {
		t.Error("master of the first official repository is not branch 1, which it is born as")
	}
}

func TestARequeuedUploadTakesThePlaceOfTheOneThatWasNotProjected(t *testing.T) {
	h := &history{t: t}
	state := NewState()
	lost := h.record(upload(1, "x", 1))
	Apply(state, &lost)
	again := h.record(upload(1, "x", 1))
	again.RequeueOf = lost.ID
	if got := Apply(state, &again); got.Result != Accepted || got.Run != 2 {
		t.Fatalf("the requeued upload: %+v", got)
	}
	twice := h.record(upload(1, "x", 1))
	twice.RequeueOf = lost.ID
	if got := Apply(state, &twice); got.Result != Duplicate || got.Run != 2 {
		t.Errorf("the same requeue again: %+v, want a duplicate of run 2", got)
	}
	if m := state.Machines[1]; m.Runs != 1 || m.Latest != [3]uint64{2} || state.Runs != 1 {
		t.Errorf("one run is stored, the state says %+v and %d", m, state.Runs)
	}
}

func TestARequeuedUploadIsNoRepeatOfItsKey(t *testing.T) {
	h := &history{t: t}
	state := NewState()
	lost := h.record(keyed(upload(1, "x", 1), "k", "b"))
	Apply(state, &lost)
	again := h.record(keyed(upload(1, "x", 1), "k", "b"))
	again.RequeueOf = lost.ID
	if got := Apply(state, &again); got.Result != Accepted || got.Run != 2 || got.Repeated {
		t.Errorf("the requeued upload: %+v", got)
	}
	repeat := h.record(keyed(upload(1, "x", 1), "k", "b"))
	if got := Apply(state, &repeat); got.Run != 2 || !got.Repeated {
		t.Errorf("the key now stands for the requeued run, its repeat gets %+v", got)
	}
}

func factKey(fact uuid.UUID, key, body string) *event.FactKeyRequested {
	return &event.FactKeyRequested{
		FactId: fact[:], Idempotency: &event.Idempotency{Key: []byte(key), Body: []byte(body), KeepSeconds: 60},
	}
}

func TestAKeyIsTheFirstFactsThatAsksForIt(t *testing.T) {
	h := &history{t: t}
	state, first := NewState(), uuid.New()
	steps := []struct {
		name string
		m    proto.Message
		want Outcome
	}{
		{"the first has it", factKey(first, "k", "b"), Outcome{Result: KeyTaken, Fact: first}},
		{"a repeat is told the first", factKey(uuid.New(), "k", "b"), Outcome{Result: KeyTaken, Fact: first, Repeated: true}},
		{"another body is refused", factKey(uuid.New(), "k", "c"), Outcome{Result: KeyReused}},
		{"no key", factKey(uuid.New(), "", ""), Outcome{}},
		{"no fact", &event.FactKeyRequested{Idempotency: &event.Idempotency{Key: []byte("l")}}, Outcome{}},
		{"it used no run's number up", upload(1, "x86_64", 100), Outcome{Result: Accepted, Run: 1}},
	}
	for _, step := range steps {
		record := h.record(step.m)
		if got := Apply(state, &record); got != step.want {
			t.Errorf("%s: got %+v, want %+v", step.name, got, step.want)
		}
	}
}

func TestTheOldestNaturalKeysAreForgottenAndCounted(t *testing.T) {
	h := &history{t: t}
	state := NewState()
	for i := range Remembered + 10 {
		record := h.record(upload(1, "x", int64(i)))
		if got := Apply(state, &record); got.Result != Accepted {
			t.Fatalf("upload %d: %+v", i, got)
		}
	}
	if len(state.Natural) != Remembered {
		t.Fatalf("%d keys are remembered, want %d", len(state.Natural), Remembered)
	}
	for _, tc := range []struct {
		machine uint64
		start   int64
		want    uint64
	}{{1, 0, 10}, {1, 9, 10}, {1, 10, 0}, {1, Remembered + 10, 0}, {2, 0, 0}} {
		if got := state.Through(tc.machine, tc.start); got != tc.want {
			t.Errorf("a run of machine %d from %d on is to be looked for through run %d, want %d", tc.machine, tc.start, got, tc.want)
		}
	}
	if state.Find(NaturalKey(1, 9)) != 0 || state.Find(NaturalKey(1, 10)) != 11 {
		t.Error("the oldest keys were not the ones forgotten")
	}
}

// TestReplicasAgree folds random histories in one replica from the beginning and in another from a stored state.
func TestReplicasAgree(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			h := &history{t: t}
			records := make([]eventlog.Record, 300)
			for i := range records {
				h.time += int64(random.IntN(5000))
				records[i] = randomRecord(h, random, records[:i])
			}
			whole, cut := NewState(), random.IntN(len(records))
			whole.Repeats.Limit = 4 // some keys are forgotten early
			var resumed *State
			for i := range records {
				if i == cut {
					resumed = throughStore(t, whole)
				}
				want := Apply(whole, &records[i])
				if resumed == nil {
					continue
				}
				if got := Apply(resumed, &records[i]); !cmp.Equal(got, want, cmpopts.EquateEmpty()) {
					t.Fatalf("record %d: one replica says %+v, the other %+v", i, want, got)
				}
			}
			if diff := cmp.Diff(whole, resumed, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the replicas' states differ:\n%s", diff)
			}
		})
	}
}

func throughStore(t *testing.T, s *State) *State {
	t.Helper()
	bytes, err := encode(s)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := decode(bytes)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func randomRecord(h *history, random *rand.Rand, earlier []eventlog.Record) eventlog.Record {
	m := upload(uint64(random.IntN(3)+1), []string{"x", "x", "x", "y"}[random.IntN(4)], int64(random.IntN(60)), fmt.Sprint(random.IntN(20)), fmt.Sprint(random.IntN(20)))
	if random.IntN(3) == 0 {
		keyed(m, fmt.Sprint(random.IntN(10)), fmt.Sprint(random.IntN(2))).Idempotency.Checked = uint64(random.IntN(60))
	}
	record := h.record(m)
	if random.IntN(6) == 0 {
		record = h.record(factKey(uuid.New(), fmt.Sprint(random.IntN(10)), fmt.Sprint(random.IntN(2))))
	}
	switch pick := random.IntN(12); {
	case pick == 0 && len(earlier) > 0: // the same event twice, as a retried append leaves it
		record.Event = earlier[random.IntN(len(earlier))].Event
	case pick == 1 && len(earlier) > 0:
		record.RequeueOf = earlier[random.IntN(len(earlier))].ID
	case pick == 2:
		record.Data = []byte("not a message")
	case pick == 3:
		record.Type = "millrace.event.v1.NeverHeardOf"
	}
	return record
}

func FuzzApply(f *testing.F) {
	h := &history{t: f}
	record := h.record(keyed(upload(1, "x86_64", 100, "a"), "k", "b"))
	f.Add(record.Type, record.Data)
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		state := NewState()
		for range 2 {
			record := eventlog.Record{Event: eventlog.Event{ID: uuid.Max, Type: kind, Data: data}}
			Apply(state, &record)
		}
		if diff := cmp.Diff(state, throughStore(t, state), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the state does not survive being stored:\n%s", diff)
		}
	})
}
