package projection

import (
	"fmt"
	"math"
	"time"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Ids of results and of rows within a document follow from the run's: the run's id, then the ordinal in the document,
// from 1, in this many bits.
const (
	resultBits = 10
	rowBits    = 20
)

// ResultID is the id of a result by its ordinal in the document, from 1.
func ResultID(run uint64, ordinal int) uint64 { return run<<resultBits + uint64(ordinal) }

// RowID is the id of a log line, run statement, pg_stat_statements row or collectd row by its ordinal among the rows of
// its kind in the document, from 1.
func RowID(run uint64, ordinal int) uint64 { return run<<rowBits + uint64(ordinal) }

// AddRun adds an accepted upload: the run, its results, their metrics, and the dictionary values that it shows. The
// state is the runs fold's after the upload, or later.
func (b *Batch) AddRun(runID uint64, upload *event.FarmUploadRequested, doc *pgperffarm.Document, outcome runs.Outcome,
	state *runs.State, rec *eventlog.Record,
) error {
	if outcome.Result != runs.Accepted {
		return fmt.Errorf("upload %s was not accepted, it has no rows", rec.ID)
	}
	return b.whole(func() error {
		r := &run{
			batch: b, id: runID, doc: doc, machine: upload.GetMachineId(), state: state, rec: rec,
			tables: pgperffarm.CollectdTables(), collectdRows: make(map[string]int),
		}
		r.agrees(upload)
		r.identify()
		r.addRun()
		for i := range doc.Results {
			r.addResult(i)
		}
		if doc.TPCH != nil {
			r.addTPCH()
		}
		r.addHardware()
		r.addSettings()
		return r.err
	})
}

// run is an upload on its way into a batch.
type run struct {
	checks

	batch   *Batch
	id      uint64
	machine uint64
	doc     *pgperffarm.Document
	state   *runs.State
	rec     *eventlog.Record
	tables  []pgperffarm.CollectdTable

	added                                  time.Time
	repository, branch, hardware, settings uint64

	// Rows of each kind so far.
	logLines, statements, statStatements int
	collectdRows                         map[string]int
	samples                              uint32
	// Scratch memory.
	text   []byte
	times  []int64
	values []float64
}

// agrees makes sure that the document is the one which the event speaks of: the log decided by what the event says.
func (r *run) agrees(upload *event.FarmUploadRequested) {
	if start := r.doc.Start.UnixMicro(); start != upload.GetStartTime() {
		r.fail("the document starts at %d µs after 1970, its event says %d", start, upload.GetStartTime())
	}
	if r.doc.MachineType != upload.GetMachineType() {
		r.fail("the document is of machine type %q, its event says %q", r.doc.MachineType, upload.GetMachineType())
	}
	if n := len(r.doc.Results); n >= 1<<resultBits {
		r.fail("the document has %d results, the limit is %d", n, 1<<resultBits-1)
	}
}

func (r *run) identify() {
	d := r.doc
	r.added = r.instant("the record's time", r.rec.LogTime)
	r.repository = r.term(pgperffarm.RepositoryTerm(d.Repository))
	r.branch = r.term(pgperffarm.BranchTerm(d.Repository, d.Branch))
	r.hardware = r.term(pgperffarm.HardwareTerm(d.Hardware))
	r.settings = r.term(pgperffarm.SettingsTerm(d.Settings))
}

// term gives the number of a dictionary value.
func (r *run) term(term pgperffarm.Term) uint64 {
	id := r.state.TermID(term)
	if id == 0 {
		r.fail("the document shows a %s that its event does not name, so that it has no number", term.Kind)
	}
	return id
}

func (r *run) addRun() {
	d := r.doc
	r.batch.tables[runsTable].add(r.environmentSize()+len(d.OS.Description)+len(d.MachineType),
		r.id, r.rec.ID, r.machine, d.MachineType, r.added, d.Benchmark, d.Custom, r.repository, d.Repository,
		pgperffarm.OfficialRepository(d.Repository), r.branch, d.Branch, d.Commit, d.OS.Distributor, d.OS.Description,
		d.OS.Release, d.OS.Codename, d.Kernel.Name, d.Kernel.Release, d.Kernel.Version, d.Compiler, r.hardware, r.settings,
		r.optional("run_received_time", d.Received), r.timestamp("run_start_time", d.Start), r.optional("run_end_time", d.End),
		seconds(d.Runtimes.GitClone), seconds(d.Runtimes.GitPull), seconds(d.Runtimes.Configure), seconds(d.Runtimes.Build),
		seconds(d.Runtimes.Install), seconds(d.Runtimes.Cleanup), uint32(len(d.Results)))
}

// environmentSize is about what the texts take that describe where the run took place.
func (r *run) environmentSize() int {
	d := r.doc
	return len(d.Repository) + len(d.Branch) + len(d.Commit) + len(d.OS.Distributor) + len(d.OS.Release) +
		len(d.OS.Codename) + len(d.Kernel.Name) + len(d.Kernel.Release) + len(d.Kernel.Version) + len(d.Compiler)
}

func (r *run) addResult(i int) {
	res := &r.doc.Results[i]
	term := pgperffarm.ConfigTerm(res.Clients, res.Scale, res.Duration, res.ReadOnly)
	row := resultRow{Result: res, id: ResultID(r.id, i+1), config: r.term(term)}
	row.clients, row.scale = row.int32("clients", res.Clients), row.int32("scale", res.Scale)
	row.duration, row.iteration = row.int32("duration", res.Duration), row.int32("iteration", res.Iteration)
	row.finite("end", res.End)
	if r.shows(term) {
		r.batch.tables[configs].add(0, row.config, row.clients, row.scale, row.duration, res.ReadOnly)
	}
	r.addComplete(&row)
	r.addToSeries(&row)
	r.addResultMetrics(&row)
	if row.err != nil {
		r.fail("result %d: %w", i+1, row.err)
	}
}

// resultRow is a result with what it has beside its measurements.
type resultRow struct {
	checks
	*pgperffarm.Result

	id, config                          uint64
	clients, scale, duration, iteration int32
}

// addComplete adds the row that holds everything of a result.
func (r *run) addComplete(row *resultRow) {
	render := renderer{run: r, checks: &row.checks}
	log, statements := render.log(row.id, row.Log), render.statements(row.Statements)
	statStatements, collectd := render.statStatements(row.id, row.StatStatements), render.collectd(row.id, row.Collectd)
	r.batch.tables[results].add(len(log)+len(statements)+len(statStatements)+len(collectd)+len(row.Mode),
		row.id, r.id, r.machine, row.config, row.Custom, row.clients, row.scale, row.duration, row.ReadOnly, row.TPS,
		row.Latency, row.Mode, row.Start, row.End, row.iteration, row.Init, log, statements, statStatements, collectd)
}

// addToSeries adds the row that lists and trends read.
func (r *run) addToSeries(row *resultRow) {
	d := r.doc
	r.batch.tables[resultSeries].add(r.environmentSize(),
		r.machine, row.config, row.id, r.id, row.Custom, pgperffarm.OfficialRepository(d.Repository), r.added, row.clients,
		row.scale, row.duration, row.ReadOnly, row.TPS, row.Latency, d.Repository, r.branch, d.Branch, d.Commit,
		d.OS.Distributor, d.OS.Release, d.OS.Codename, d.Kernel.Name, d.Kernel.Release, d.Kernel.Version, d.Compiler,
		r.hardware, r.settings)
}

func (r *run) addTPCH() {
	t := r.doc.TPCH
	config := r.term(pgperffarm.TPCHConfigTerm(t.ScaleFactor, t.Streams))
	index := make([]uint8, 0, len(t.Queries))
	power := make([]*float64, 0, len(t.Queries))
	throughput := make([]*float64, 0, len(t.Queries))
	for _, q := range t.Queries {
		if q.Index < 1 || q.Index > math.MaxUint8 {
			r.fail("query %d is no query of TPC-H", q.Index)
		}
		index = append(index, uint8(q.Index))
		power, throughput = append(power, q.Power), append(throughput, q.Throughput)
	}
	r.batch.tables[tpchResults].add(len(r.doc.Branch)+len(r.doc.Commit)+25*len(index),
		r.machine, r.finite("scale_factor", t.ScaleFactor), r.id, config, r.int32("num_streams", t.Streams), r.added,
		r.branch, r.doc.Branch, r.doc.Commit, t.Power, t.Throughput, t.QphH, index, power, throughput)
	r.addTPCHMetrics(t, config)
}

// shows says whether the rows of a dictionary value are still to be added to this batch.
//
// They are added by every batch that shows the value, not only by the first event that did: would that one turn into a
// dead letter, the value would have a number but no row for ever.
func (r *run) shows(term pgperffarm.Term) bool {
	b := r.batch
	if _, again := b.isShown[term]; again {
		return false
	}
	b.isShown[term] = struct{}{}
	b.shown = append(b.shown, term)
	return true
}

// addHardware adds the hardware with the frequency of this run. Of several rows the one of the earliest run stays, since
// the greatest version does.
func (r *run) addHardware() {
	h := &r.doc.Hardware
	if !r.shows(pgperffarm.HardwareTerm(*h)) {
		return
	}
	r.batch.tables[hardware].add(len(h.CPUBrand)+len(h.Mounts)+len(h.Sysctl),
		r.hardware, h.CPUBrand, h.Hz, r.int32("cpu count", h.Cores), h.TotalMemory, h.TotalSwap, h.Mounts, h.Sysctl,
		math.MaxUint64-r.id)
}

func (r *run) addSettings() {
	if !r.shows(pgperffarm.SettingsTerm(r.doc.Settings)) {
		return
	}
	for i, s := range r.doc.Settings {
		r.batch.tables[settings].add(len(s.Name)+len(s.Source)+len(s.Value), r.settings, uint32(i+1), s.Name, s.Source, s.Value)
	}
}
