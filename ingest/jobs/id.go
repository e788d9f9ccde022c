package jobs

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// ID is a job's id on the native API. jobID is the one that its client chose, if any.
func ID(family event.JobFamily, seq uint64, jobID string) string {
	switch family {
	case event.JobFamily_JOB_FAMILY_TESTFLINGER:
		return testflingerID + jobID
	case event.JobFamily_JOB_FAMILY_DEBCI:
		return debciID + strconv.FormatUint(seq, 10)
	}
	return nativeID + strconv.FormatUint(seq, 10)
}

const (
	testflingerID = "testflinger-"
	debciID       = "debci-"
	nativeID      = "job-"
)

// reference is a job as a native id names it.
type reference struct {
	family event.JobFamily
	ref    *event.JobRef
}

// parseID reads a native id.
func parseID(id string) (reference, error) {
	if jobID, ok := strings.CutPrefix(id, testflingerID); ok && jobID != "" {
		return reference{event.JobFamily_JOB_FAMILY_TESTFLINGER, &event.JobRef{Name: &event.JobRef_JobId{JobId: jobID}}}, nil
	}
	family := event.JobFamily_JOB_FAMILY_NATIVE
	number, ok := strings.CutPrefix(id, nativeID)
	if !ok {
		family = event.JobFamily_JOB_FAMILY_DEBCI
		number, ok = strings.CutPrefix(id, debciID)
	}
	seq, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || seq == 0 || number[0] == '0' || number[0] == '+' {
		return reference{}, route.Errorf(http.StatusNotFound, "there is no job %q: ids are job-N, debci-N and testflinger-UUID", id)
	}
	return reference{family, &event.JobRef{Name: &event.JobRef_Seq{Seq: seq}}}, nil
}

// names says whether the id is that of a job.
func (r reference) names(job jobs.Job) bool {
	if job.Family != r.family {
		return false
	}
	if r.ref.GetJobId() != "" {
		return job.Name == jobs.ToName(r.ref.GetJobId())
	}
	return job.Seq == r.ref.GetSeq()
}
