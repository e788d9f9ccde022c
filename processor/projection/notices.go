package projection

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// The kinds of what subscribers are told, as table notices names them.
const (
	NoticeJobSubmitted   = "job.submitted"
	NoticeJobHandedOut   = "job.handed_out"
	NoticeJobReturned    = "job.returned"
	NoticeJobReported    = "job.reported"
	NoticeJobCancelled   = "job.cancelled"
	NoticeJobEnded       = "job.ended"
	NoticeRunStored      = "run.stored"
	NoticeArtifactStored = "artifact.stored"
	NoticeDeadLetter     = "dead_letter.added"
)

// NoticeTopics gives for each kind the topic that it comes from.
func NoticeTopics() map[string]string {
	return map[string]string{
		NoticeJobSubmitted: eventlog.Jobs, NoticeJobHandedOut: eventlog.Jobs, NoticeJobReturned: eventlog.Jobs,
		NoticeJobReported: eventlog.Jobs, NoticeJobCancelled: eventlog.Jobs, NoticeJobEnded: eventlog.Jobs,
		NoticeRunStored: eventlog.Runs, NoticeArtifactStored: eventlog.Results, NoticeDeadLetter: eventlog.DeadLetters,
	}
}

// NoticeKinds lists the kinds.
func NoticeKinds() []string {
	kinds := make([]string, 0, 9)
	for kind := range NoticeTopics() {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

// Version orders records of one partition over all logs: epoch * 2^44 + offset.
func Version(place eventlog.Place) uint64 { return uint64(place.Epoch)<<44 + uint64(place.Offset) }

// notice is one thing that happened.
type notice struct {
	kind, queue, subject string
	ordinal              uint32
	seq                  uint64
	data                 any
}

func (b *Batch) addNotice(n notice, epoch uint32, rec *eventlog.Record) error {
	var c checks
	at := c.instant("the record's time", rec.LogTime)
	data, err := json.Marshal(n.data)
	if err != nil {
		return fmt.Errorf("tell of %s: %w", n.kind, err)
	}
	if c.err != nil {
		return c.err
	}
	b.tables[notices].add(len(n.subject)+len(data), rec.Partition.Topic, uint16(rec.Partition.ID),
		Version(eventlog.Place{Epoch: epoch, Offset: rec.Offset}), n.ordinal, rec.ID, at, n.kind, n.queue, n.seq, n.subject, string(data))
	return nil
}

// jobNotices gives the kinds of changes.
func jobNotices() map[string]string {
	return map[string]string{
		JobSubmitted: NoticeJobSubmitted, JobHandedOut: NoticeJobHandedOut, JobReleased: NoticeJobReturned, JobExpired: NoticeJobReturned,
		JobReported: NoticeJobReported, JobCancelled: NoticeJobCancelled,
	}
}

// addNotice tells of a change of a job. A report on a job that has ended changes nothing.
func (e *jobEvent) addNotice(seq uint64, asker string) {
	o := e.outcome
	if o.Result == jobs.Late {
		return
	}
	n := notice{kind: jobNotices()[e.change], queue: o.Job.Queue, ordinal: e.ordinal, seq: seq}
	if o.Ended {
		n.kind = NoticeJobEnded
	}
	if o.Job.Family != event.JobFamily_JOB_FAMILY_TESTFLINGER {
		n.subject = jobs.ID(o.Job.Family, seq, "")
	}
	n.data = struct {
		Queue   string `json:"queue"`
		Family  string `json:"family"`
		State   string `json:"state"`
		Attempt uint32 `json:"attempt"`
		Worker  string `json:"worker,omitempty"`
	}{o.Job.Queue, FamilyName(o.Job.Family), o.State, o.Job.Attempt, asker}
	if err := e.batch.addNotice(n, e.epoch, e.rec); err != nil {
		e.fail("%v", err)
	}
}

// AddRunNotice tells of a run that was stored.
func (b *Batch) AddRunNotice(run, machine uint64, epoch uint32, rec *eventlog.Record) error {
	return b.addNotice(notice{kind: NoticeRunStored, subject: strconv.FormatUint(run, 10), data: struct {
		Run     uint64 `json:"run_id"`
		Machine uint64 `json:"machine_id"`
	}{run, machine}}, epoch, rec)
}

// AddLetterNotice tells of a dead letter.
func (b *Batch) AddLetterNotice(m *event.DeadLetter, epoch uint32, rec *eventlog.Record) error {
	return b.addNotice(notice{kind: NoticeDeadLetter, subject: rec.ID.String(), data: struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		Offset    int64  `json:"offset"`
		Type      string `json:"event_type"`
		Reason    string `json:"reason"`
	}{m.GetPlace().GetTopic(), m.GetPlace().GetPartition(), m.GetPlace().GetOffset(), m.GetEventType(), m.GetReason()}}, epoch, rec)
}

func (b *Batch) addArtifactNotice(m *event.JobArtifactStored, epoch uint32, rec *eventlog.Record) error {
	return b.addNotice(notice{kind: NoticeArtifactStored, subject: m.GetJob(), data: struct {
		Job    string `json:"job_id"`
		Name   string `json:"name"`
		Size   uint64 `json:"size"`
		SHA256 string `json:"sha256"`
	}{m.GetJob(), m.GetName(), m.GetDocument().GetSize(), hex.EncodeToString(m.GetDocument().GetBlob().GetSha256())}}, epoch, rec)
}
