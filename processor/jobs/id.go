package jobs

import (
	"strconv"
	"strings"

	"github.com/millrace/millrace/schemas/event"
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

// Reference is a job as a native id names it.
type Reference struct {
	Family event.JobFamily
	Ref    *event.JobRef
}

// ParseID reads a native id; ok is false when it is none.
func ParseID(id string) (r Reference, ok bool) {
	if jobID, ok := strings.CutPrefix(id, testflingerID); ok && jobID != "" {
		return Reference{event.JobFamily_JOB_FAMILY_TESTFLINGER, &event.JobRef{Name: &event.JobRef_JobId{JobId: jobID}}}, true
	}
	family := event.JobFamily_JOB_FAMILY_NATIVE
	number, ok := strings.CutPrefix(id, nativeID)
	if !ok {
		family = event.JobFamily_JOB_FAMILY_DEBCI
		number, ok = strings.CutPrefix(id, debciID)
	}
	seq, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || seq == 0 || number[0] == '0' || number[0] == '+' {
		return Reference{}, false
	}
	return Reference{family, &event.JobRef{Name: &event.JobRef_Seq{Seq: seq}}}, true
}

// Names says whether the id is that of a job.
func (r Reference) Names(job Job) bool {
	if job.Family != r.Family {
		return false
	}
	if r.Ref.GetJobId() != "" {
		return job.Name == ToName(r.Ref.GetJobId())
	}
	return job.Seq == r.Ref.GetSeq()
}
