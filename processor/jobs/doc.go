// Package jobs is the fold over topic jobs: which jobs live, who works on them and who gets the next one.
//
// The life of a job. Submitting gives it a number, its ordinal among all jobs of the log, and puts it into its queue,
// where it waits: by priority, then by age. While its attachments are missing it keeps its place but is not handed out.
// A claim takes the first job of the named queues that may go to the asker; the hand-out has the job's next attempt
// number, and (job, attempt) is given out once. From then on the job is out. Reports and heartbeats are news of it. When
// none comes for as long as the claim's lease says, whoever notices appends that the lease has expired: the job goes back
// to its place in the queue, or ends when that has happened too often. A claim whose asker had gone before the answer is
// taken back by an event that names the claim. A final report ends the job, as does cancelling one that waits; one that
// is out is only marked, since its worker has to stop first. A job that has ended leaves the fold: the projections know
// it.
//
//	submitted ──▶ waiting ──claim──▶ out ──final report──▶ ended
//	                 ▲ │              │
//	                 │ └──cancel──▶ ended
//	                 └─release, lease expired──┘
//
// Output of jobs is no matter of the fold, but who is given a piece of it is, on the path that gives each piece out once.
//
// Doors read the state through its methods (Find, Candidate, Ahead, Due, …) and append requests; the fold alone
// decides. Of the events only those in schemas/proto/millrace/event/v1/jobs.proto count here, and JobOutputTakeRequested.
package jobs
