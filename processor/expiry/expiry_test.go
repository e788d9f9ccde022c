package expiry_test

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/processor/expiry"
	"github.com/millrace/millrace/processor/internal/enginetest"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// site is a log that is archived record by record.
type site struct {
	t        *testing.T
	client   *eventlog.Client
	archive  *archive.Archive
	archived map[eventlog.Partition]int64
	appender *eventlog.Appender
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, client: enginetest.Dial(t, enginetest.Log(t)), archived: map[eventlog.Partition]int64{}}
	s.archive, s.appender = archive.New(enginetest.Open(t, enginetest.Database(t))), enginetest.Appender(t, s.client)
	return s
}

// stored appends an event that brings a file of some content.
func (s *site) stored(topic, content string, payload proto.Message, of *event.Document) {
	s.t.Helper()
	sum := sha256.Sum256([]byte(content))
	of.Place = &event.Document_Blob{Blob: &event.BlobRef{Sha256: sum[:], Size: uint64(len(content))}}
	e, err := eventlog.NewEvent("/test", payload)
	if err != nil {
		s.t.Fatal(err)
	}
	e.DataRef = document.DataRef(of)
	if _, err := s.appender.Append(s.t.Context(), eventlog.Partition{Topic: topic}, e); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) artifact(content string) {
	s.t.Helper()
	d := &event.Document{}
	s.stored(eventlog.Results, content, &event.JobArtifactStored{Job: "job-1", Name: "a", Document: d}, d)
}

// keep archives what is in the log.
func (s *site) keep() {
	s.t.Helper()
	ends, err := s.client.Ends(s.t.Context(), s.client.Partitions()...)
	if err != nil {
		s.t.Fatal(err)
	}
	for partition, end := range ends {
		for s.archived[partition] < end {
			records, err := s.client.Fetch(s.t.Context(), partition, s.archived[partition], 1<<20)
			if err == nil && len(records) > 0 {
				s.archived[partition] = records[len(records)-1].Offset + 1
				err = s.archive.Write(s.t.Context(), 1, s.client.LogID, partition.String()+records[0].ID.String(), records, false)
			}
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

func (s *site) expire(now time.Time, want int) {
	s.t.Helper()
	k := &expiry.Keeper{
		Keep: time.Hour, Archive: s.archive, Client: s.client, Appender: s.appender, Now: func() time.Time { return now },
		Logger: slog.New(slog.DiscardHandler),
	}
	if got, err := k.Expire(s.t.Context()); err != nil || got != want {
		s.t.Errorf("%d files expire, %v; want %d", got, err, want)
	}
}

func (s *site) needs(content string, want bool) {
	s.t.Helper()
	sum := sha256.Sum256([]byte(content))
	if got, err := s.archive.Refers(s.t.Context(), hex.EncodeToString(sum[:])); err != nil || got != want {
		s.t.Errorf("the blob %q is needed: %v, %v; want %v", content, got, err, want)
	}
}

func TestFilesExpireOnceAndTheirBlobsAreNeededNoMore(t *testing.T) {
	s := newSite(t)
	run, attachments := &event.Document{}, &event.Document{}
	s.artifact("log")
	s.artifact("core")
	s.stored(eventlog.Jobs, "firmware", &event.JobAttachmentsStored{Document: attachments}, attachments)
	s.stored(eventlog.Runs, "run", &event.FarmUploadRequested{Document: run}, run) // is kept for ever
	s.stored(eventlog.Runs, "core", &event.FarmUploadRequested{Document: run}, run)
	s.keep()
	s.expire(time.Now(), 0)
	soon := time.Now().Add(time.Hour + time.Minute)
	s.expire(soon, 3)
	s.expire(soon, 3) // another processor, before the first one's events are archived
	s.keep()
	s.expire(soon, 0)
	s.needs("log", false)
	s.needs("firmware", false)
	s.needs("run", true)
	s.needs("core", true) // for the run
	s.artifact("log")     // the same content again
	s.keep()
	s.needs("log", true)
	s.expire(time.Now().Add(time.Hour+time.Minute), 1)
	s.keep()
	s.needs("log", false)
}
