package fold_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/fold"
	"github.com/millrace/millrace/processor/internal/enginetest"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// chain is a fold that shows every difference: its state hashes all events, in order, with their log times.
type chain struct {
	Sum   [sha256.Size]byte
	Count int
}

func (c *chain) apply(record *eventlog.Record) int {
	c.Count++
	c.Sum = sha256.Sum256(fmt.Appendf(c.Sum[:], "%s %d %q", record.ID, record.LogTime, record.Data))
	return c.Count
}

func definition(version uint32) *fold.Definition[*chain, int] {
	return &fold.Definition[*chain, int]{
		Name: "chain", Version: version, Topic: eventlog.Runs,
		New:    func() *chain { return &chain{} },
		Apply:  (*chain).apply,
		Encode: func(c *chain) ([]byte, error) { return fmt.Appendf(nil, "%x %d", c.Sum, c.Count), nil },
		Decode: func(text []byte) (*chain, error) {
			c, sum := &chain{}, []byte(nil)
			_, err := fmt.Sscanf(string(text), "%x %d", &sum, &c.Count)
			copy(c.Sum[:], sum)
			return c, err
		},
	}
}

// site is a log, which is the second of its installation, and an archive with the first.
type site struct {
	cluster  *kfake.Cluster
	client   *eventlog.Client
	appender *eventlog.Appender
	archive  *archive.Archive
	store    *fold.Store
	// former are the records of the first log.
	former []eventlog.Record
}

const epoch = 2

var runs0 = eventlog.Partition{Topic: eventlog.Runs}

func newSite(t *testing.T, random *rand.Rand) *site {
	t.Helper()
	s := &site{cluster: enginetest.Log(t)}
	db := enginetest.Open(t, enginetest.Database(t))
	s.client, s.archive, s.store = enginetest.Dial(t, s.cluster), archive.New(db), fold.NewStore(db)
	s.appender = enginetest.Appender(t, s.client)
	s.former = make([]eventlog.Record, random.IntN(20))
	for i := range s.former {
		headers := []kafka.Header{{Key: "ce_id", Value: []byte(uuid.NewString())}, {Key: "ce_type", Value: []byte("a")}}
		s.former[i] = eventlog.NewRecord(runs0, int64(i), random.Int64N(1000), nil, headers, nil)
	}
	if len(s.former) > 0 {
		s.write(t, epoch-1, s.former)
	}
	return s
}

func (s *site) write(t *testing.T, epoch uint32, records []eventlog.Record) {
	t.Helper()
	if err := s.archive.Write(t.Context(), epoch, fmt.Sprint("log", epoch), uuid.NewString(), records, false); err != nil {
		t.Fatal(err)
	}
}

// append puts n events into the log.
func (s *site) append(t *testing.T, n int) {
	t.Helper()
	for range n {
		e, err := eventlog.NewEvent("/test", &event.FarmUploadRefused{Reason: uuid.NewString()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.appender.Append(t.Context(), runs0, e); err != nil {
			t.Fatal(err)
		}
	}
}

// logged gives the records of the log in a range.
func (s *site) logged(t *testing.T, from, to int64) []eventlog.Record {
	t.Helper()
	var records []eventlog.Record
	for from < to {
		fetched, err := s.client.Fetch(t.Context(), runs0, from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range fetched {
			if from = record.Offset + 1; record.Offset < to {
				records = append(records, record)
			}
		}
	}
	return records
}

func (s *site) end(t *testing.T) int64 {
	t.Helper()
	ends, err := s.client.Ends(t.Context(), runs0)
	if err != nil {
		t.Fatal(err)
	}
	return ends[runs0]
}

func (s *site) trim(t *testing.T, before int64) {
	t.Helper()
	if err := s.cluster.DeleteRecords(eventlog.Runs, 0, before); err != nil {
		t.Fatal(err)
	}
}

// start runs a replica. What it ends with goes to the channel.
func (s *site) start(t *testing.T, d *fold.Definition[*chain, int]) (*fold.Replica[*chain, int], <-chan error) {
	t.Helper()
	replica, err := fold.NewReplica(t.Context(), d, s.client, s.archive, s.store, epoch, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	var wait sync.WaitGroup
	wait.Go(func() { ended <- replica.Run(ctx) })
	t.Cleanup(func() { stop(); wait.Wait() })
	return replica, ended
}

// whole folds the first log and then the records of the second, and stores the state behind the cut-th of all.
func (s *site) whole(t *testing.T, records []eventlog.Record, cut int) *chain {
	t.Helper()
	progress, folded := definition(1).Start(), 0
	step := func(epoch uint32, record eventlog.Record) {
		if folded == cut {
			s.save(t, progress)
		}
		progress.Apply(epoch, &record)
		folded++
	}
	for _, record := range s.former {
		step(epoch-1, record)
	}
	for _, record := range records {
		step(epoch, record)
	}
	return progress.State
}

// save stores a state, unless nothing was folded yet.
func (s *site) save(t *testing.T, progress *fold.Progress[*chain, int]) {
	t.Helper()
	snapshot, err := progress.Snapshot()
	if err == nil && snapshot != nil {
		err = s.store.Save(t.Context(), "log", snapshot)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) want(t *testing.T, who string, replica *fold.Replica[*chain, int], want *chain) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := replica.CatchUp(ctx); err != nil {
		t.Fatalf("the replica %s: %v", who, err)
	}
	replica.View(func(got *chain) {
		if *got != *want {
			t.Errorf("the replica %s has folded %d records to %x, want %d to %x", who, got.Count, got.Sum, want.Count, want.Sum)
		}
	})
}

// TestReplicasAgreeWithTheWholeLog gives replicas a random history over two logs: some of the second is archived, some of
// that is trimmed from the log, and a state is stored somewhere.
func TestReplicasAgreeWithTheWholeLog(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			s := newSite(t, random)
			early, _ := s.start(t, definition(1))
			s.append(t, 2+random.IntN(40))
			end := s.end(t)
			records := s.logged(t, 0, end)
			archived := 1 + random.Int64N(end-1)
			s.write(t, epoch, records[:archived])
			s.trim(t, 1+random.Int64N(archived))
			want := s.whole(t, records, random.IntN(len(s.former)+len(records)))
			fromState, _ := s.start(t, definition(1))
			s.want(t, "that was there from the beginning", early, want)
			s.want(t, "that starts from a stored state", fromState, want)
			another, _ := s.start(t, definition(2))
			s.want(t, "of another version, which no stored state fits", another, want)
			s.append(t, 5)
			want = s.whole(t, append(records, s.logged(t, end, end+5)...), -1)
			s.want(t, "that was there from the beginning", early, want)
			s.want(t, "that started from a stored state", fromState, want)
		})
	}
}

func TestALoadGivesTheNewestStateOfItsVersion(t *testing.T) {
	s := newSite(t, rand.New(rand.NewPCG(1, 1)))
	load := func(version uint32) *fold.Progress[*chain, int] {
		t.Helper()
		progress, err := fold.Load(t.Context(), s.store, definition(version))
		if err != nil {
			t.Fatal(err)
		}
		return progress
	}
	if got := load(1); got.Next != (eventlog.Place{}) || got.State.Count != 0 {
		t.Errorf("before any state was stored, a load gives %s with %d records", got.Next, got.State.Count)
	}
	// Two processors store states, and the one that is behind comes last.
	for _, place := range []eventlog.Place{{Epoch: 1, Offset: 9}, {Epoch: 2, Offset: 3}, {Epoch: 1, Offset: 12}} {
		progress := definition(1).Start()
		progress.State.Count, progress.Next, progress.LogTime = int(place.Offset), place, 100*place.Offset
		s.save(t, progress)
	}
	if got, want := load(1), (eventlog.Place{Epoch: 2, Offset: 3}); got.Next != want || got.State.Count != 3 || got.LogTime != 300 {
		t.Errorf("a load gives %s with %d records at %d, want %s with 3 at 300", got.Next, got.State.Count, got.LogTime, want)
	}
	for _, version := range []uint32{2, 0} {
		if got := load(version); got.Next != (eventlog.Place{}) || got.State.Count != 0 {
			t.Errorf("version %d loads the state of version 1, at %s", version, got.Next)
		}
	}
}

func TestAnUnreadableStoredStateIsAnErrorThatNamesTheFold(t *testing.T) {
	s := newSite(t, rand.New(rand.NewPCG(1, 1)))
	broken := definition(1)
	broken.Encode = func(*chain) ([]byte, error) { return []byte("no state"), nil }
	progress := broken.Start()
	progress.Next = eventlog.Place{Epoch: 1, Offset: 1}
	s.save(t, progress)
	if _, err := fold.Load(t.Context(), s.store, definition(1)); err == nil || !strings.Contains(err.Error(), "fold chain") {
		t.Errorf("the load gives %v", err)
	}
}

func TestADecisionHasTheSameOutcomeAtEveryReplica(t *testing.T) {
	s := newSite(t, rand.New(rand.NewPCG(2, 1)))
	one, _ := s.start(t, definition(1))
	other, _ := s.start(t, definition(1))
	outcomes := make([]int, 20)
	var wait sync.WaitGroup
	for i := range outcomes {
		replica := []*fold.Replica[*chain, int]{one, other}[i%2]
		wait.Go(func() {
			e, err := eventlog.NewEvent("/test", &event.FarmUploadRefused{})
			if err != nil {
				t.Error(err)
				return
			}
			outcome, offset, err := replica.Decide(t.Context(), s.appender, e)
			if err != nil || outcome != len(s.former)+int(offset)+1 {
				t.Errorf("the decision at offset %d came out as %d (%v), behind %d records of the first log", offset, outcome, err, len(s.former))
				return
			}
			outcomes[offset] = outcome
		})
	}
	wait.Wait()
	want := s.whole(t, s.logged(t, 0, s.end(t)), -1)
	s.want(t, "that decided the even requests", one, want)
	s.want(t, "that decided the odd requests", other, want)
}

func TestAReplicaEndsWhenTheLogLostWhatWasNeverArchived(t *testing.T) {
	s := newSite(t, rand.New(rand.NewPCG(3, 1)))
	s.append(t, 10)
	s.write(t, epoch, s.logged(t, 0, 4))
	s.trim(t, 6)
	_, ended := s.start(t, definition(1))
	select {
	case err := <-ended:
		if !errors.Is(err, eventlog.ErrTrimmed) || !strings.Contains(err.Error(), "restore ClickHouse's folder") {
			t.Errorf("the replica ended with %v, want that records are gone and what to restore", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the replica goes on, though records 4 and 5 are neither in the log nor in the archive")
	}
}
