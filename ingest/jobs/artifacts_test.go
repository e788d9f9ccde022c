package jobs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/ingest/door/doortest"
	"github.com/millrace/millrace/ingest/jobs"
	fold "github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// put sends a file for a job, and gives the status of the answer.
func (l *lab) put(id, token string, content io.Reader) int {
	r := httptest.NewRequestWithContext(l.t.Context(), http.MethodPut, "/millrace/v1/jobs/"+id+"/artifacts/out.txt", content)
	r.Header.Set(jobs.LeaseHeader, token)
	answer := httptest.NewRecorder()
	l.ServeHTTP(answer, r)
	return answer.Code
}

// stored gives the ids of the jobs that files were stored for.
func (l *lab) stored() (ids []string) {
	for _, record := range l.log.Records(eventlog.Results) {
		message, err := record.Decode()
		if err != nil {
			l.t.Fatal(err)
		}
		if m, ok := message.(*event.JobArtifactStored); ok {
			ids = append(ids, m.GetJob())
		}
	}
	return ids
}

// slow is a file that something happens to while it comes.
type slow struct {
	io.Reader

	meanwhile func()
}

func (s *slow) Read(p []byte) (int, error) {
	if s.meanwhile != nil {
		s.meanwhile()
		s.meanwhile = nil
	}
	return s.Reader.Read(p)
}

func TestFileIsNotStoredWhoseLeaseEndedWhileItCame(t *testing.T) {
	l := newLab(t)
	l.post(http.StatusCreated, "", `{"queue":"build"}`)
	lease := l.claim(`{"id":"job-1"}`).Lease.Token
	if status := l.put("job-1", lease, strings.NewReader("in time")); status != http.StatusCreated {
		t.Fatalf("a file in time is answered %d", status)
	}
	late := &slow{strings.NewReader("late"), func() {
		l.clock.Pass(2 * time.Minute)
		l.decide(&event.JobLeaseExpired{Seq: 1, Attempt: 1})
	}}
	if status := l.put("job-1", lease, late); status != http.StatusConflict {
		t.Errorf("a file whose lease ended meanwhile is answered %d, want 409", status)
	}
	if ids := l.stored(); len(ids) != 1 {
		t.Errorf("files are stored for %v, want the one that came in time", ids)
	}
}

func TestFileIsStoredForTheJobOfItsLeaseAloneAlsoWhereThatIsNotKnownYet(t *testing.T) {
	l := newLab(t)
	l.post(http.StatusCreated, "", `{"queue":"build"}`)
	ahead := doortest.NewFold(l.log, fold.Fold())
	for _, message := range []proto.Message{
		&event.JobSubmitted{Family: event.JobFamily_JOB_FAMILY_NATIVE, Queue: "build"},
		&event.JobClaimRequested{Job: &event.JobRef{Name: &event.JobRef_Seq{Seq: 2}}, Lease: &event.JobLease{Duration: 60_000}},
	} {
		wrapped, err := eventlog.NewEvent("/test", message)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ahead.Decide(t.Context(), wrapped); err != nil {
			t.Fatal(err)
		}
	}
	lease := l.leases.Token(fold.Job{Seq: 2, Attempt: 1})
	if status := l.put("job-1", lease, strings.NewReader("x")); status != http.StatusConflict {
		t.Errorf("a file for job 1 under the lease of job 2 is answered %d, want 409", status)
	}
	if status := l.put("job-2", lease, strings.NewReader("x")); status != http.StatusCreated {
		t.Errorf("a file for job 2 under its lease is answered %d, want 201", status)
	}
	if ids := l.stored(); len(ids) != 1 || ids[0] != "job-2" {
		t.Errorf("files are stored for %v, want job-2", ids)
	}
}

// decide appends a request and folds it.
func (l *lab) decide(message proto.Message) {
	l.t.Helper()
	wrapped, err := eventlog.NewEvent("/test", message)
	if err != nil {
		l.t.Fatal(err)
	}
	if outcome, _, err := l.fold.Decide(l.t.Context(), wrapped); err != nil || outcome.Result != fold.Done {
		l.t.Fatalf("%T: the fold answers %v, %v", message, outcome.Result, err)
	}
}
