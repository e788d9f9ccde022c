package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/query/native/cursor"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/labtest"
	"github.com/millrace/millrace/schemas/event"
)

func TestDeadLettersAreListedByTimeAndState(t *testing.T) {
	l := labtest.New(t)
	var added []string
	l.Together(func() {
		for i := range 7 {
			if i%3 == 0 {
				l.Now = l.Now.Add(time.Minute)
			}
			added = append(added, l.AddDeadLetter("millrace.event.v1.FarmUploadRequested", "it does not parse", nil))
		}
		l.Requeue(added[2])
		l.Requeue(added[2])
		l.Requeue(added[5])
	})
	for _, o := range lab.LetterOrders() {
		for state, want := range map[string]int{"": 7, lab.Open: 5, lab.Requeued: 2} {
			letters := all(t, 2, o, func(p lab.Page) ([]lab.DeadLetter, cursor.Key, error) {
				return l.View().DeadLetters(t.Context(), lab.LetterFilter{State: state, Topic: "runs"}, p)
			})
			if len(letters) != want {
				t.Errorf("order %s, state %q: %d letters, want %d", o.Name, state, len(letters), want)
			}
			for i := range letters {
				if i > 0 && letters[i].At.Before(letters[i-1].At) != (o.Name == "-at") && !letters[i].At.Equal(letters[i-1].At) {
					t.Errorf("order %s: letter %d is out of order", o.Name, i)
				}
				if again := len(letters[i].RequeuedAs); letters[i].ID == added[2] && (again != 2 || letters[i].State != lab.Requeued) {
					t.Errorf("the letter that was requeued twice is %+v", letters[i])
				}
			}
		}
	}
	none, _, err := l.View().DeadLetters(t.Context(), lab.LetterFilter{Topic: "jobs"}, lab.Page{Order: lab.LetterOrders()[0], Limit: 9})
	if err != nil || len(none) != 0 {
		t.Errorf("letters of another topic: %v, %v", none, err)
	}
}

func TestDeadLetterIsShownWithItsRecord(t *testing.T) {
	l := labtest.New(t)
	value, err := proto.Marshal(&event.FarmUploadRequested{MachineId: 3, MachineType: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	readable := l.AddDeadLetter("millrace.event.v1.FarmUploadRequested", "it does not parse", value)
	garbage := l.AddDeadLetter("millrace.event.v1.FarmUploadRequested", "it is garbage", []byte{0xff, 0x00})
	got, err := l.View().DeadLetter(t.Context(), uuid.MustParse(readable))
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Event) != `{"machineId":"3","machineType":"x86_64"}` || got.Unread != "" || string(got.Key) != "key" || !cmp.Equal(got.Value, value) {
		t.Errorf("record is %+v with event %s", got, got.Event)
	}
	if diff := cmp.Diff([]lab.Header{{Name: "ce_type", Value: []byte("millrace.event.v1.FarmUploadRequested")}}, got.Headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	got, err = l.View().DeadLetter(t.Context(), uuid.MustParse(garbage))
	if err != nil || string(got.Event) != "null" || !strings.Contains(got.Unread, "decode millrace.event.v1.FarmUploadRequested") || len(got.Value) != 2 {
		t.Errorf("a record that is no event is %+v with event %s, %v", got, got.Event, err)
	}
	if got, err := l.View().DeadLetter(t.Context(), uuid.New()); got != nil || err != nil {
		t.Errorf("a letter that does not exist is %+v, %v", got, err)
	}
}

func TestRefusedUploadsAreListed(t *testing.T) {
	l := labtest.New(t)
	l.Together(func() {
		for i := range 6 {
			l.Now = l.Now.Add(time.Second)
			l.Refuse(uint64(i%2), 406, "a run with this start time is stored")
		}
	})
	for _, o := range lab.RefusalOrders() {
		found := all(t, 2, o, func(p lab.Page) ([]lab.Refusal, cursor.Key, error) {
			return l.View().Refusals(t.Context(), lab.RefusalFilter{Machine: 1}, p)
		})
		if len(found) != 3 || found[0].Status != 406 || found[0].SHA256 != strings.Repeat("00", 32) || found[0].At.Before(found[1].At) != (o.Name == "at") {
			t.Errorf("order %s: %+v", o.Name, found)
		}
	}
}
