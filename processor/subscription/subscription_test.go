package subscription_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/subscription"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func TestSubscriberIsToldOfWhatItAskedForAndOfNothingBefore(t *testing.T) {
	s := newSite(t)
	s.submit(t, "ci/amd64") // before anybody asked
	ends, ci := newReceiver(t, nil), newReceiver(t, nil)
	s.subscribe(t, "ends", ends.url, nil, projection.NoticeJobEnded, projection.NoticeDeadLetter)
	s.subscribe(t, "ci", ci.url, []string{"ci/*", "other"}, projection.NoticeJobSubmitted, projection.NoticeJobHandedOut)
	s.processor(t, nil)
	submitted := s.submit(t, "ci/amd64")
	s.submit(t, "cine")
	other := s.submit(t, "other")
	claimed := s.append(t, eventlog.Jobs, &event.JobClaimRequested{Queues: []string{"ci/amd64"}, Asker: "worker"})
	s.append(t, eventlog.Jobs, &event.JobClaimRequested{Queues: []string{"nothing"}, Asker: "worker"})
	ended := s.append(t, eventlog.Jobs, &event.JobCancelRequested{Job: &event.JobRef{Name: &event.JobRef_Seq{Seq: 3}}})
	s.append(t, eventlog.Jobs, &event.JobCancelRequested{Job: &event.JobRef{Name: &event.JobRef_Seq{Seq: 3}}})
	s.append(t, eventlog.Runs, &event.LogStarted{KeyId: "harmless"})
	poison := s.append(t, eventlog.Results, &event.JobFileExpired{EventId: "no UUID"})
	ci.awaitAll(t, submitted, other, claimed)
	ends.awaitAll(t, ended)
	until(t, "the dead letter", func() bool { return len(ends.ids()) == 2 })
	if got := len(ci.ids()); got != 3 {
		t.Errorf("%d deliveries were made to ci, want 3", got)
	}
	if slices.Contains(ends.ids(), poison.ID.String()) {
		t.Error("the dead letter has its record's id")
	}
}

func TestDeliveryIsACloudEvent(t *testing.T) {
	s, r := newSite(t), newReceiver(t, nil)
	s.subscribe(t, "all", r.url, nil, projection.NoticeKinds()...)
	s.processor(t, nil)
	e := s.append(t, eventlog.Jobs, &event.JobSubmitted{Family: event.JobFamily_JOB_FAMILY_TESTFLINGER, Queue: "testflinger/rpi4", JobId: "{AA}"})
	r.awaitAll(t, e)
	var told map[string]any
	if err := json.Unmarshal([]byte(r.first), &told); err != nil {
		t.Fatal(err)
	}
	if at, err := time.Parse(time.RFC3339, told["time"].(string)); err != nil || time.Since(at).Abs() > patience {
		t.Errorf("its time is %v, %v", told["time"], err)
	}
	delete(told, "time")
	got, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"data":{"attempt":0,"family":"testflinger","queue":"testflinger/rpi4","state":"waiting"},"datacontenttype":"application/json",` +
		`"id":"` + e.ID.String() + `","millraceposition":"` + s.client.LogID + `;jobs/0=0","source":"/millrace","specversion":"1.0",` +
		`"subject":"testflinger-{AA}","type":"millrace.job.submitted"}`
	if string(got) != want {
		t.Errorf("the body is\n%s\nwant\n%s", got, want)
	}
}

func TestBatchIsToldJobByJob(t *testing.T) {
	s, r := newSite(t), newReceiver(t, nil)
	s.subscribe(t, "all", r.url, nil, projection.NoticeKinds()...)
	stop, _ := s.processor(t, nil)
	items := &event.JobItems{}
	for range 1100 { // more than are read at a time
		items.Items = append(items.Items, &event.JobItem{})
	}
	e := s.batch(t, items)
	want := []string{e.ID.String()}
	for n := 1; n < len(items.GetItems()); n++ {
		want = append(want, e.ID.String()+"."+itoa(n))
	}
	until(t, "the batch", func() bool { return len(r.ids()) == len(want) })
	s.awaitProgress(t, "all", eventlog.Jobs, 1)
	stop()
	got := r.ids()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d deliveries were made, want %d, each once", len(got), len(want))
	}
}

func TestEventIsRepeatedUntilItsReceiverTakesIt(t *testing.T) {
	release := make(chan struct{})
	s, r := newSite(t), newReceiver(t, func(w http.ResponseWriter, request *http.Request, attempt int) bool {
		switch attempt {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			http.Redirect(w, request, "/elsewhere", http.StatusTemporaryRedirect)
		case 3:
			<-release // longer than anybody waits
		case 4:
			panic(http.ErrAbortHandler) // the connection breaks
		default:
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write(make([]byte, 1<<20)) // what it says does not matter
			return true
		}
		return false
	})
	t.Cleanup(func() { close(release) })
	s.subscribe(t, "slow", r.url, nil, projection.NoticeJobSubmitted)
	stop, metrics := s.processor(t, nil)
	var events []eventlog.Event
	for range 30 {
		events = append(events, s.submit(t, "q"))
	}
	r.awaitAll(t, events...)
	s.awaitProgress(t, "slow", eventlog.Jobs, 30)
	if got := len(r.ids()); got != 30 {
		t.Errorf("%d events were taken, want each of 30 once", got)
	}
	for name, want := range map[string]float64{
		"millrace_webhook_delivered_total": 30, "millrace_webhook_failed_total": 120, "millrace_webhook_waiting": 0,
	} {
		if got := measured(t, metrics, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	stop()
}

func TestSubscriptionIsPausedVisiblyAndGoesOnWithoutASkip(t *testing.T) {
	var mu sync.Mutex
	broken := true
	s, r := newSite(t), newReceiver(t, func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		mu.Lock()
		defer mu.Unlock()
		if broken {
			w.WriteHeader(http.StatusBadGateway)
		}
		return !broken
	})
	made := s.subscribe(t, "ci", r.url, nil, projection.NoticeJobSubmitted)
	s.processor(t, func(c *subscription.Config) { c.Window = 400 * time.Millisecond })
	events := []eventlog.Event{s.submit(t, "q"), s.submit(t, "q")}
	until(t, "the trouble to be told", func() bool {
		_, trouble, err := subscription.Progress(t.Context(), s.client, made.ID)
		return err == nil && trouble.Problem == "it answers 502" && !trouble.Since.IsZero() && trouble.Attempts > 0
	})
	var paused *registry.Subscription
	s.await(t, func(state *registry.State) bool {
		paused = state.Subscription("ci")
		return paused.Paused
	})
	if !strings.Contains(paused.PausedFor, "502") || paused.PausedTime == 0 {
		t.Errorf("it is paused for %q since %d", paused.PausedFor, paused.PausedTime)
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	events = append(events, s.submit(t, "q"))
	s.append(t, eventlog.Registry, &event.SubscriptionResumeRequested{Name: "ci"})
	r.awaitAll(t, events...)
	until(t, "the trouble to be over", func() bool {
		_, trouble, err := subscription.Progress(t.Context(), s.client, made.ID)
		return err == nil && trouble.Since.IsZero()
	})
	s.await(t, func(state *registry.State) bool { return !state.Subscription("ci").Paused })
}

func TestFailingTimeIsNotForgottenByAnotherProcessor(t *testing.T) {
	s, r := newSite(t), newReceiver(t, func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.WriteHeader(http.StatusNotFound)
		return false
	})
	made := s.subscribe(t, "ci", r.url, nil, projection.NoticeJobSubmitted)
	stop, _ := s.processor(t, nil)
	s.submit(t, "q")
	var first subscription.Trouble
	until(t, "the trouble", func() bool {
		_, trouble, err := subscription.Progress(t.Context(), s.client, made.ID)
		first = trouble
		return err == nil && !trouble.Since.IsZero()
	})
	stop()
	s.processor(t, nil)
	until(t, "the other one's attempts", func() bool {
		_, trouble, err := subscription.Progress(t.Context(), s.client, made.ID)
		return err == nil && trouble.Attempts > first.Attempts+5 && trouble.Since.Equal(first.Since)
	})
}

// A processor that is killed has delivered what it could not note any more.
func TestNothingIsSkippedWhenProcessorsAreKilled(t *testing.T) {
	s, r := newSite(t), newReceiver(t, nil)
	made := s.subscribe(t, "ci", r.url, nil, projection.NoticeJobSubmitted)
	var mu sync.Mutex
	dead := map[string]bool{} // members whose commits the log gets no more
	current := ""
	s.cluster.ControlKey(int16(kmsg.OffsetCommit), func(request kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		commit, ok := request.(*kmsg.OffsetCommitRequest)
		if !ok || commit.Group != subscription.Group(made.ID) {
			return nil, nil, false
		}
		mu.Lock()
		defer mu.Unlock()
		current = commit.MemberID
		if dead[commit.MemberID] {
			return nil, context.Canceled, true // the connection breaks
		}
		return nil, nil, false
	})
	var events []eventlog.Event
	for round := range 4 {
		stop, _ := s.processor(t, nil)
		for range 20 {
			events = append(events, s.submit(t, "q"))
		}
		r.awaitAll(t, events[:round*20+10]...)
		mu.Lock()
		dead[current] = true
		mu.Unlock()
		events = append(events, s.submit(t, "q"))
		stop()
	}
	s.processor(t, nil)
	r.awaitAll(t, events...)
	s.awaitProgress(t, "ci", eventlog.Jobs, int64(len(events)))
}

func TestProcessorsShareTheWork(t *testing.T) {
	s, r := newSite(t), newReceiver(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		s.subscribe(t, name, r.url, nil, projection.NoticeJobSubmitted)
	}
	stop, _ := s.processor(t, nil)
	s.processor(t, nil)
	e := s.submit(t, "q")
	until(t, "all three to be told", func() bool { return len(r.ids()) == 3 })
	stop()
	later := s.submit(t, "q")
	until(t, "all three to be told again", func() bool { return count(r.ids(), later.ID.String()) >= 3 })
	if got := count(r.ids(), e.ID.String()); got < 3 {
		t.Errorf("the first event was delivered %d times", got)
	}
}

func TestDeletedSubscriptionIsToldNothingMore(t *testing.T) {
	s, r, other := newSite(t), newReceiver(t, nil), newReceiver(t, nil)
	s.subscribe(t, "gone", r.url, nil, projection.NoticeJobSubmitted)
	s.subscribe(t, "stays", other.url, nil, projection.NoticeJobSubmitted)
	s.processor(t, nil)
	first := s.submit(t, "q")
	r.awaitAll(t, first)
	s.append(t, eventlog.Registry, &event.SubscriptionDeleteRequested{Name: "gone"})
	s.await(t, func(state *registry.State) bool { return state.Subscription("gone") == nil })
	second := s.submit(t, "q")
	other.awaitAll(t, first, second)
	s.subscribe(t, "gone", other.url, nil, projection.NoticeJobSubmitted) // the name is free again
	third := s.submit(t, "q")
	until(t, "both to be told", func() bool { return count(other.ids(), third.ID.String()) == 2 })
	if got := r.ids(); len(got) != 1 {
		t.Errorf("the deleted one was told of %v", got)
	}
}

// measured is the one value of a measurement.
func measured(t *testing.T, metrics *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name && len(family.GetMetric()) == 1 {
			return family.GetMetric()[0].GetCounter().GetValue() + family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

func count(list []string, value string) (n int) {
	for _, item := range list {
		if item == value {
			n++
		}
	}
	return n
}
