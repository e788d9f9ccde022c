package eventlog

import (
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"

	millrace "github.com/millrace/millrace/schemas/event"
)

func TestAnEventComesBackFromItsHeaders(t *testing.T) {
	want, err := NewEvent("/pgperffarm", &millrace.TokenRevokeRequested{Name: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	want.RequeueOf = uuid.Must(uuid.NewV7())
	want.Key = []byte("key")
	want.DataRef = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	want.Trace = []kafka.Header{{Key: "traceparent", Value: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}}
	record := NewRecord(Partition{Topic: Runs}, 7, 8, want.Key, want.headers(), want.Data)
	if record.Malformed != nil {
		t.Fatal(record.Malformed)
	}
	if diff := cmp.Diff(want, record.Event); diff != "" {
		t.Errorf("the event changed on its way:\n%s", diff)
	}
	message, err := record.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := message.(*millrace.TokenRevokeRequested); !ok || m.GetName() != "ci" {
		t.Errorf("the payload came back as %v", message)
	}
}

func TestHeadersAreCloudEventsInBinaryMode(t *testing.T) {
	e, err := NewEvent("/pgperffarm", &millrace.TokenRevokeRequested{})
	if err != nil {
		t.Fatal(err)
	}
	cloud := event.New()
	for _, h := range e.headers() {
		value := string(h.Value)
		switch h.Key {
		case "ce_specversion":
			cloud.SetSpecVersion(value)
		case "ce_id":
			cloud.SetID(value)
		case "ce_source":
			cloud.SetSource(value)
		case "ce_type":
			cloud.SetType(value)
		case "ce_time":
			at, err := types.ParseTime(value)
			if err != nil {
				t.Fatal(err)
			}
			cloud.SetTime(at)
		case "content-type":
			cloud.SetDataContentType(value)
		default:
			t.Errorf("header %s is no attribute of CloudEvents", h.Key)
		}
	}
	if err := cloud.Validate(); err != nil {
		t.Error(err)
	}
}

func TestRecordsThatAreNoEventsSayWhy(t *testing.T) {
	good := []kafka.Header{{Key: "ce_id", Value: []byte(uuid.NewString())}, {Key: "ce_type", Value: []byte("t")}}
	for name, headers := range map[string][]kafka.Header{
		"no headers":   nil,
		"no id":        good[1:],
		"no type":      good[:1],
		"id no UUID":   {{Key: "ce_id", Value: []byte("7")}, good[1]},
		"requeue of 7": append([]kafka.Header{{Key: "ce_requeueof", Value: []byte("7")}}, good...),
	} {
		if record := NewRecord(Partition{}, 0, 0, nil, headers, nil); record.Malformed == nil {
			t.Errorf("%s: the record passes for an event", name)
		}
	}
}

func TestUnknownTypesAndBrokenPayloadsAreErrors(t *testing.T) {
	for _, e := range []Event{
		{Type: "millrace.event.v1.NeverHeardOf"}, {Type: ""}, {Type: "millrace.event.v1.LogStarted", Data: []byte{0xff}},
	} {
		if message, err := e.Decode(); err == nil {
			t.Errorf("type %q with payload %x decodes to %v", e.Type, e.Data, message)
		}
	}
}

func TestPositionsComeBackFromTheirText(t *testing.T) {
	for _, text := range []string{"", "abc;registry/0=12", "abc;metrics/1=0,metrics/12=9223372036854775807,runs/0=4"} {
		position, err := ParsePosition(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if position.String() != text {
			t.Errorf("%q came back as %q", text, position)
		}
	}
}

func TestWhatIsNoPositionIsRefused(t *testing.T) {
	for _, text := range []string{"abc", ";runs/0=1", "abc;", "abc;runs=1", "abc;runs/0", "abc;runs/x=1", "abc;runs/0=-1", "abc;runs/0=x", "abc;/0=1", "abc;runs/70000=1"} {
		if position, err := ParsePosition(text); err == nil {
			t.Errorf("%q was read as %v", text, position)
		}
	}
}

func TestPositionsMergeByMaximumWithinOneLog(t *testing.T) {
	runs, metrics := Partition{Topic: Runs}, Partition{Topic: Metrics, ID: 1}
	a := Position{Log: "l", Offsets: map[Partition]int64{runs: 5, metrics: 1}}
	b := Position{Log: "l", Offsets: map[Partition]int64{runs: 3, metrics: 9}}
	want := Position{Log: "l", Offsets: map[Partition]int64{runs: 5, metrics: 9}}
	if got := a.Merge(b); !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := a.Merge(At("other", runs, 100)); !cmp.Equal(got, a) {
		t.Errorf("a position of another log changed it to %v", got)
	}
	if got := (Position{}).Merge(b); !cmp.Equal(got, b) {
		t.Errorf("the empty position with %v is %v", b, got)
	}
}

func TestTopicsThatDecideHaveOnePartition(t *testing.T) {
	for _, topic := range Topics(8) {
		if topic.Decides && topic.Partitions != 1 {
			t.Errorf("%s decides and has %d partitions", topic.Name, topic.Partitions)
		}
	}
}

func TestOneRecordAndOneBatchFitTheTopics(t *testing.T) {
	const limit = 1048588
	if topicConfig(0, 3)["max.message.bytes"] != "1048588" || MaxRecordBytes >= maxBatchBytes || maxBatchBytes >= limit {
		t.Errorf("a record of %d and a batch of %d bytes must fit max.message.bytes %s", MaxRecordBytes, maxBatchBytes, topicConfig(0, 3)["max.message.bytes"])
	}
	if got := topicConfig(0, 3)["min.insync.replicas"]; got != "2" {
		t.Errorf("of three replicas %s must have a write, want 2", got)
	}
	if got := topicConfig(time.Minute, 1)["retention.ms"]; got != "60000" {
		t.Errorf("a minute's retention is %s ms", got)
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("abc;registry/0=12,runs/0=34")
	f.Fuzz(func(t *testing.T, text string) {
		position, err := ParsePosition(text)
		if err != nil {
			return
		}
		again, err := ParsePosition(position.String())
		if err != nil || !cmp.Equal(again, position) {
			t.Errorf("%q reads as %v, its text as %v (%v)", text, position, again, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"LogStarted", "FarmUploadRequested", "RunSamplesRecorded", "DeadLetter", "FarmSignInRequested"} {
		f.Add("millrace.event.v1."+name, []byte{0x0a, 0x01, 0x61})
	}
	f.Fuzz(func(_ *testing.T, kind string, data []byte) {
		e := Event{Type: kind, Data: data}
		_, _ = e.Decode()
	})
}

func FuzzNewRecord(f *testing.F) {
	f.Add("ce_id", []byte("0190c5c0-0000-7000-8000-000000000000"), "ce_time", []byte("2026-01-01T00:00:00Z"))
	f.Fuzz(func(t *testing.T, name string, value []byte, other string, text []byte) {
		record := NewRecord(Partition{}, 0, 0, nil, []kafka.Header{{Key: name, Value: value}, {Key: other, Value: text}}, nil)
		if record.Malformed == nil && (record.ID == uuid.Nil || record.Type == "") {
			t.Error("a record without id or type passes for an event")
		}
	})
}
