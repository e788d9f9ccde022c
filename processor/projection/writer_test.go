package projection

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// fullBatch has rows for every table.
func fullBatch(t *testing.T) *Batch {
	t.Helper()
	l, b := newLab(t), NewBatch()
	refusal := &event.FarmUploadRefused{MachineId: 7, Status: 406, Reason: "git: is missing", Sha256: []byte{0, 0xff}, Size: 12}
	letter := &event.DeadLetter{
		Place: &event.Place{Epoch: 1, Topic: "runs", Partition: 3, Offset: 1 << 40}, EventId: "none", EventType: "t", Reason: "why",
		CodeVersion: "v1", Key: []byte("k\xff"), Value: []byte{0, 1, 0xfe}, Headers: []*event.RecordHeader{{Key: "ce_id", Value: []byte{0xff}}},
	}
	requeue := &event.DeadLetterRequeued{DeadLetterId: uuid.NewString(), RequeuedAs: uuid.NewString()}
	samples := samplesMessage("native", 0.1, -2.5e-300)
	for what, err := range map[string]error{
		"pgbench": l.add(b, l.accept(pgbenchDocument())),
		"tpch":    l.add(b, l.accept(tpchDocument())),
		"samples": b.AddSamples(samples, l.record(samples)),
		"user": b.AddUser(&registry.User{ID: 1, NameHash: registry.Hash{0xff}, SealedProfile: []byte{0, 0xfe}, Staff: true,
			AddTime: runStart.UnixMilli()}, 1<<44+5),
		"machine": b.AddMachine(&registry.Machine{ID: 7, Alias: "otter", Description: "größe", Owner: 1, Approved: true,
			AddTime: runStart.UnixMilli()}, 1<<44+6),
		"refusal":     b.AddRefusal(refusal, l.record(refusal)),
		"dead letter": b.AddDeadLetter(letter, l.record(letter)),
		"requeue":     b.AddRequeue(requeue, l.record(requeue)),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	b.AddKey(Key{
		Topic: "runs", Key: "k\xff\x00", Body: "b\xfe", Ordinal: 7, Until: runStart.AddDate(100, 0, 0).UnixMilli(),
		Place: eventlog.Place{Epoch: 1, Offset: 5}, Outcome: `{"Result":1}`,
	})
	addJobs(t, b, l)
	addFiles(t, b, l)
	addWords(t, b, l)
	for i := range b.tables {
		if len(b.tables[i].values) == 0 {
			t.Fatalf("the batch has no rows for %s", tables[i].name)
		}
	}
	return b
}

// addJobs adds rows for every table of jobs.
func addJobs(t *testing.T, b *Batch, l *lab) {
	t.Helper()
	outcome := jobs.Outcome{
		Result: jobs.Done, Count: 1, State: "waiting", Waiting: 3, Out: 1,
		Job: jobs.Job{Seq: 5, Queue: "testflinger/q", Attempt: 1, Submitted: runStart.UnixMilli(), Since: runStart.UnixMilli() + 1500},
	}
	document := &event.Document{Place: &event.Document_Inline{Inline: []byte("{\xff")}, Encoding: event.Encoding_ENCODING_IDENTITY, Size: 2}
	stored := &event.Document{
		Place: &event.Document_Blob{Blob: &event.BlobRef{Sha256: []byte{0, 0xff}, Size: 9}}, Encoding: event.Encoding_ENCODING_IDENTITY, Size: 9,
	}
	labels := &event.JobLabels{Name: "größe", Parent: "p", Tags: []string{"a", "b"}, Private: true}
	submitted := &event.JobSubmitted{
		Family: event.JobFamily_JOB_FAMILY_TESTFLINGER, Queue: "testflinger/q", JobId: "id", Priority: -3, Document: document,
		AwaitsAttachments: true, ExcludedAgents: []string{"otter"}, Labels: labels, Owner: []byte{0xff}, SealedSubmitter: []byte{0xfe}, RetryOf: 4,
	}
	batch := &event.JobBatchSubmitted{Family: event.JobFamily_JOB_FAMILY_DEBCI, Queue: "debci/unstable/amd64", Priority: 5, Count: 2, Owner: []byte{1}}
	items := []*event.JobItem{{Document: []byte("{}"), Labels: &event.JobLabels{Name: "bash"}}, {Document: []byte("[]")}}
	attachments, published := &event.JobAttachmentsStored{Document: stored}, &event.JobsPublished{Seqs: []uint64{6, 7}}
	claim, report := &event.JobClaimRequested{}, &event.JobStateReported{}
	named := &event.JobWorkerNamed{Seq: 11, Attempt: 1, Worker: "otter"}
	// Rows of one key would replace each other.
	numbered := func(seq uint64, count uint32) jobs.Outcome {
		o := outcome
		o.Job.Seq, o.Job.Queue, o.Count = seq, fmt.Sprintf("q%d", seq), count
		return o
	}
	many := numbered(6, 2)
	for what, err := range map[string]error{
		"job":         b.AddJob(submitted, outcome, 1, l.record(submitted)),
		"batch":       b.AddJobBatch(batch, items, many, jobs.NewState(), 1, l.record(batch)),
		"attachments": b.AddJobAttachments(attachments, numbered(8, 1), 1, l.record(attachments)),
		"claim":       b.AddJobChange(JobHandedOut, numbered(9, 1), "otter", nil, 1, l.record(claim)),
		"worker":      b.AddJobWorker(named, numbered(11, 1), 1, l.record(named)),
		"report":      b.AddJobChange(JobReported, numbered(10, 1), "otter", []byte(`{"status":"pass"}`), 1, l.record(report)),
		"publication": b.AddJobPublications(published, 1, l.record(published)),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := b.AddJobBatch(batch, items[:1], many, jobs.NewState(), 1, l.record(batch)); err == nil {
		t.Error("a batch is taken that lacks an item")
	}
}

// addFiles adds rows for the tables of artifacts, and what subscribers are told of what has no job.
func addFiles(t *testing.T, b *Batch, l *lab) {
	t.Helper()
	artifact := &event.JobArtifactStored{
		Job: "job-5", Name: "log.txt", ContentType: "text/plain", Uploader: "bot", Attempt: 2,
		Document: &event.Document{Place: &event.Document_Blob{Blob: &event.BlobRef{Sha256: make([]byte, 32), Size: 9}}, Size: 9},
	}
	expiry, letter := &event.JobFileExpired{EventId: uuid.NewString()}, &event.DeadLetter{Reason: "größe ÿ"}
	for what, err := range map[string]error{
		"artifact":    b.AddArtifact(artifact, 1, l.record(artifact)),
		"expiry":      b.AddFileExpiry(expiry, l.record(expiry)),
		"run":         b.AddRunNotice(7, 1, 1, l.record(artifact)),
		"dead letter": b.AddLetterNotice(letter, 1, l.record(expiry)),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	rows := b.Rows()
	artifact.Document = &event.Document{}
	if err := b.AddArtifact(artifact, 1, l.record(artifact)); err == nil || b.Rows() != rows {
		t.Errorf("an artifact without a blob: %v, %d rows more", err, b.Rows()-rows)
	}
	expiry.EventId = "x"
	if err := b.AddFileExpiry(expiry, l.record(expiry)); err == nil || b.Rows() != rows {
		t.Errorf("an expiry of nothing: %v, %d rows more", err, b.Rows()-rows)
	}
}

func TestTablesHoldWhatWasAdded(t *testing.T) {
	db := openEngine(t)
	b := fullBatch(t)
	if err := NewWriter(db, 1).Write(context.Background(), b, "token", false); err != nil {
		t.Fatal(err)
	}
	want := strings.SplitAfter(dump(b), "\n")
	var got []string
	for _, table := range tables {
		got = append(got, readTable(t, db, table)...)
	}
	got = append(got, readMetrics(t, db)...)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(strings.Join(want, ""), strings.Join(got, "")); diff != "" {
		t.Errorf("what is read back differs from what was added (-added +read):\n%s", diff)
	}
}

// readTable shows the rows of a table as dump does.
func readTable(t *testing.T, db *clickhouse.DB, table table) (lines []string) {
	t.Helper()
	rows, err := db.Query(context.Background(), fmt.Sprintf("SELECT %s FROM `%s`.%s", table.columns, db.Generation(1), table.name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		values := make([]any, len(rows.ColumnTypes()))
		for i, column := range rows.ColumnTypes() {
			values[i] = reflect.New(column.ScanType()).Interface()
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, table.name+"\n")
		for i, column := range rows.Columns() {
			lines = append(lines, fmt.Sprintf("  %s = %s\n", column, show(reflect.ValueOf(values[i]).Elem().Interface())))
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return lines
}

func readMetrics(t *testing.T, db *clickhouse.DB) (lines []string) {
	t.Helper()
	rows, err := db.Query(context.Background(), fmt.Sprintf("SELECT %s FROM `%s`.metrics", metricsTable.columns, db.Generation(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var s segment
		var at time.Time
		var value float64
		if err := rows.Scan(&s.Machine, &s.Config, &s.Branch, &s.Metric, &at, &s.event, &s.ordinal, &s.run, &s.result, &value); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("metrics %d %d %d %s run %d result %d event %s ordinal %d: %s = %v\n", s.Machine, s.Config,
			s.Branch, s.Metric, s.run, s.result, s.event, s.ordinal, at.UTC().Format(time.RFC3339Nano), value))
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return lines
}

func TestSameBatchUnderTheSameTokenIsWrittenOnce(t *testing.T) {
	db := openEngine(t)
	ctx, b, w := context.Background(), fullBatch(t), NewWriter(db, 1)
	if err := w.Write(ctx, b, "token", false); err != nil {
		t.Fatal(err)
	}
	counts, sums := count(t, db, ""), checksum(t, db, 1)
	for _, again := range []bool{false, true} {
		if err := w.Write(ctx, b, "token", again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(counts, count(t, db, "")); diff != "" {
			t.Errorf("stored rows before and after (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(sums, checksum(t, db, 1)); diff != "" {
			t.Errorf("checksums before and after (-before +after):\n%s", diff)
		}
	}
}

// Killed at the wrong moment, ClickHouse knows a token and has not the rows. A mutation leaves a table just so.
func TestBatchWhoseRowsClickHouseLostAlthoughItKnowsTheirTokensIsWrittenByTheNextTry(t *testing.T) {
	db := openEngine(t)
	ctx, b, w := context.Background(), fullBatch(t), NewWriter(db, 1)
	if err := w.Write(ctx, b, "token", false); err != nil {
		t.Fatal(err)
	}
	counts, sums := count(t, db, ""), checksum(t, db, 1)
	for lose := range 4 { // each time one more token is known
		for _, table := range append(tables[:], metricsTable) {
			if err := db.Exec(ctx, "ALTER TABLE "+w.qualified(table.name)+" DELETE WHERE 1 SETTINGS mutations_sync = 1"); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := w.Write(ctx, b, "token", true); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(counts, count(t, db, "")); diff != "" {
			t.Errorf("loss %d; stored rows before and after (-before +after):\n%s", lose, diff)
		}
		if diff := cmp.Diff(sums, checksum(t, db, 1)); diff != "" {
			t.Errorf("loss %d; checksums before and after (-before +after):\n%s", lose, diff)
		}
	}
}

func TestLostSamplesAreWrittenAgainAlthoughTheFirstOfThemCameWithAnotherBatch(t *testing.T) {
	db := openEngine(t)
	ctx, w, l := context.Background(), NewWriter(db, 1), newLab(t)
	twice := l.record(samplesMessage("native", 1, 2)) // an append that was repeated put it into the log twice
	batch := func(metrics ...string) *Batch {
		b := NewBatch()
		for _, metric := range metrics {
			m := samplesMessage(metric, 1, 2)
			record := twice
			if metric != "native" {
				record = l.record(m)
			}
			if err := b.AddSamples(m, record); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	first, second := batch("native"), batch("native", "other", "third")
	if err := w.Write(ctx, second, "second", false); err != nil {
		t.Fatal(err)
	}
	want := count(t, db, " FINAL")["metrics"]
	if err := db.Exec(ctx, "ALTER TABLE "+w.qualified("metrics")+" DELETE WHERE 1 SETTINGS mutations_sync = 1"); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(ctx, first, "first", false); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(ctx, second, "second", true); err != nil {
		t.Fatal(err)
	}
	if got := count(t, db, " FINAL")["metrics"]; got != want {
		t.Errorf("%d samples are there, want %d", got, want)
	}
}

func TestBatchThatWasWrittenInPartIsCompletedByTheNextTry(t *testing.T) {
	db := openEngine(t)
	ctx, b, w := context.Background(), fullBatch(t), NewWriter(db, 1)
	if err := w.insertMetrics(ctx, &b.metrics, 0, "token", false); err != nil {
		t.Fatal(err)
	}
	if err := w.insertRows(ctx, tables[results], b.tables[results].values, "token", false); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(ctx, b, "token", true); err != nil {
		t.Fatal(err)
	}
	addGeneration(t, db, 2)
	if err := NewWriter(db, 2).Write(ctx, b, "token", false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(checksum(t, db, 2), checksum(t, db, 1)); diff != "" {
		t.Errorf("checksums (-in one go +in two):\n%s", diff)
	}
	if diff := cmp.Diff(count(t, db, " FINAL"), count(t, db, "")); diff != "" {
		t.Errorf("rows are stored twice (-distinct +stored):\n%s", diff)
	}
}

// count counts the rows of every table of generation 1 but the trends, where several versions may stand.
func count(t *testing.T, db *clickhouse.DB, final string) map[string]uint64 {
	t.Helper()
	counts := make(map[string]uint64)
	for _, table := range append(tables[:], metricsTable) {
		var n uint64
		query := fmt.Sprintf("SELECT count() FROM `%s`.%s%s", db.Generation(1), table.name, final)
		if err := db.QueryRow(context.Background(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts[table.name] = n
	}
	return counts
}

func checksum(t *testing.T, db *clickhouse.DB, generation uint32) map[string]string {
	t.Helper()
	sums, err := Checksum(context.Background(), db, generation)
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func TestChecksumNoticesAnyChange(t *testing.T) {
	db := openEngine(t)
	ctx, b, w := context.Background(), fullBatch(t), NewWriter(db, 1)
	if err := w.Write(ctx, b, "token", false); err != nil {
		t.Fatal(err)
	}
	sums := checksum(t, db, 1)
	if len(sums) != tableCount+1 {
		t.Errorf("there are checksums of %d tables, want %d: %v", len(sums), tableCount+1, sums)
	}
	for _, change := range []struct{ table, statement string }{
		{"runs", "INSERT INTO %s.runs SELECT * REPLACE (NULL AS git_pull_seconds) FROM %s.runs"},
		{"settings", "INSERT INTO %s.settings SELECT * REPLACE (source AS value, value AS source) FROM %s.settings"},
		{"tpch_results", "INSERT INTO %s.tpch_results SELECT * REPLACE (throughput AS power, power AS throughput) FROM %s.tpch_results"},
		{"metrics", "INSERT INTO %s.metrics SELECT * REPLACE (value + 1e-9 AS value) FROM %s.metrics WHERE metric = 'native'"},
		{"dead_letters", "INSERT INTO %s.dead_letters SELECT * REPLACE ([] AS headers) FROM %s.dead_letters"},
	} {
		if err := db.Exec(ctx, strings.ReplaceAll(change.statement, "%s", "`"+db.Generation(1)+"`")); err != nil {
			t.Fatal(err)
		}
		after := checksum(t, db, 1)
		for table := range sums {
			if changed := sums[table] != after[table]; changed != (table == change.table) {
				t.Errorf("after a change of %s: checksum of %s changed: %v", change.table, table, changed)
			}
		}
		sums = after
	}
}
