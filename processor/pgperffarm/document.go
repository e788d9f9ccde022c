// Package pgperffarm reads the upload document of the PostgreSQL Performance Farm: one run of the farm's client on one
// machine for one branch, as sent to POST /run/upload.
//
// Parse checks everything that can be checked without looking at stored state and gives a Document that the projections
// can use as it is: finite numbers, valid UTF-8 without NUL, texts within the limits of the data model, logs matched to
// their results. The package is pure: the same bytes give the same answer at every replica and in every rebuild.
//
// Section numbers in comments are those of the API's wire contract.
package pgperffarm

import "time"

// The benchmarks that a document can report.
const (
	BenchmarkPgbench = "pgbench"
	BenchmarkTPCH    = "tpch"
)

// Document is one accepted upload. Times are in UTC with microseconds; a time that the client sent as null is zero.
type Document struct {
	Benchmark string // BenchmarkPgbench or BenchmarkTPCH
	Custom    bool   // the document carries results of custom pgbench scripts (section 6.4)

	Repository string // as sent: a URL or any other form git accepts
	Branch     string
	Commit     string

	System

	Received time.Time // zero when unknown
	Start    time.Time // never zero: with the machine it is the natural key of the run
	End      time.Time // zero when unknown
	Runtimes Runtimes
	Logs     Logs

	Results []Result // in document order; empty for TPC-H
	TPCH    *TPCH    // nil for pgbench
}

// System is on what was measured. Documents may share its settings: they are not to be changed.
type System struct {
	Kernel      Kernel
	OS          OS
	MachineType string // uname -m
	Hardware    Hardware
	SysctlLog   string // the client's sysctl_log, as sent
	Compiler    string // cut out of SELECT version()
	Settings    []Setting
}

// Kernel identifies the operating system's kernel (uname -s, -r, -v).
type Kernel struct {
	Name    string // Linux or Darwin
	Release string
	Version string
}

// OS identifies the distribution, as lsb_release names it.
type OS struct {
	Distributor string
	Description string
	Release     string
	Codename    string
}

// Hardware describes the machine. Mounts and Sysctl are JSON in a canonical form (no white space, members sorted by
// name), so that equal values are equal texts.
type Hardware struct {
	CPUBrand    string // empty when the machine could not tell
	Hz          int64  // momentary frequency in hertz, 0 when the machine could not tell; not part of the identity
	Cores       int    // logical CPUs
	TotalMemory int64  // bytes
	TotalSwap   int64  // bytes
	Mounts      string // JSON array of objects
	Sysctl      string // JSON object of the known parameters, or the JSON string "known sysctl info not found"
}

// Setting is a row of pg_settings whose source is neither "default" nor "client".
type Setting struct {
	Name, Source, Value string
}

// Runtimes are the durations of the client's steps; nil when the step did not run.
type Runtimes struct {
	GitClone, GitPull, Configure, Build, Install, Cleanup *time.Duration
}

// Logs are the output of the client's steps, empty when not sent.
type Logs struct {
	GitClone, Configure, Build, Install string

	Benchmark string // pgbench_log
	Cleanup   string
	Postgres  string // pg_ctl
}

// Result is one invocation of pgbench.
type Result struct {
	Clients, Scale int
	Duration       int // seconds
	ReadOnly       bool
	Custom         bool // a custom script: not comparable with the built-in ones

	TPS        float64 // transactions per second
	Latency    float64 // average, milliseconds
	Mode       string  // query mode, empty when the client did not find it
	Start, End float64 // Unix seconds
	Iteration  int     // from 0
	Init       float64 // seconds to initialise the data set

	Statements     []Statement
	StatStatements []StatStatement
	Log            []LogLine        // results of one invocation sent twice share one slice: do not change it
	Collectd       []CollectdPlugin // plugins with at least one complete row, in the order of CollectdTables
}

// Statement is the average latency of one statement of the script.
type Statement struct {
	Line    int     // from 0
	Latency float64 // milliseconds
	Text    string
}

// LogLine is one second of one pgbench thread.
type LogLine struct {
	Second       int64 // Unix time
	Transactions int64
	Sum          int64 // of latencies, microseconds
	Sum2         int64 // of squared latencies, microseconds squared
	Min, Max     int64 // latency, microseconds
}

// StatStatement is a row of pg_stat_statements; a column that the client did not send is nil. Times are milliseconds.
type StatStatement struct {
	QueryID *int64
	Query   string

	UserID, DBID, Plans, Calls, Rows                                      *int64
	SharedBlksHit, SharedBlksRead, SharedBlksDirtied, SharedBlksWritten   *int64
	LocalBlksHit, LocalBlksRead, LocalBlksDirtied, LocalBlksWritten       *int64
	TempBlksRead, TempBlksWritten                                         *int64
	WALRecords, WALFPI, WALBytes                                          *int64
	TotalPlanTime, MinPlanTime, MaxPlanTime, MeanPlanTime, StddevPlanTime *float64
	TotalExecTime, MinExecTime, MaxExecTime, MeanExecTime, StddevExecTime *float64
	BlkReadTime, BlkWriteTime                                             *float64
}

// CollectdTable names one of the ten tables of system statistics (section 5.1.7).
type CollectdTable struct {
	Name    string   // as in the API: cpu, process, contextswitch, ipc_shm, ...
	Columns []string // in the order of the values in a row
	Float   bool     // the values are CollectdRow.Floats, otherwise CollectdRow.Ints
}

// CollectdPlugin holds the complete rows of one table for one result.
type CollectdPlugin struct {
	CollectdTable

	Rows []CollectdRow // by first appearance of the epoch in the document
}

// CollectdRow is one sample: one value for each column of its table, in Floats or in Ints as the table says.
type CollectdRow struct {
	Epoch  float64 // Unix seconds
	Floats []float64
	Ints   []int64
}

// TPCH is the result of a TPC-H run. Scores are the client's.
type TPCH struct {
	ScaleFactor             float64
	Streams                 int
	Power, Throughput, QphH float64     // power, throughput and composite score
	Queries                 []TPCHQuery // by ascending index
}

// TPCHQuery holds the seconds of one query; nil when the client did not report them.
type TPCHQuery struct {
	Index      int // 1 to 22
	Power      *float64
	Throughput *float64 // mean over the streams
}
