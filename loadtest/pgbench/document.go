package pgbench

import "encoding/json"

// upload is the farm's upload document for pgbench, member for member (contract sections 6.1 and 6.2).
type upload struct {
	Meta             meta          `json:"meta"`
	Git              git           `json:"git"`
	Kernel           kernel        `json:"kernel"`
	OSInformation    osInformation `json:"os_information"`
	System           system        `json:"system"`
	SysctlLog        string        `json:"sysctl_log"`        // a JSON object, as text
	Compiler         string        `json:"compiler"`          // SELECT version()
	PostgresSettings string        `json:"postgres_settings"` // CSV of pg_settings
	PgCtl            string        `json:"pg_ctl"`            // the server's log
	PgbenchLog       string        `json:"pgbench_log"`       // everything that pgbench printed
	Aggregates       []aggregate   `json:"pgbench_log_aggregate"`
	Pgbench          []testResult  `json:"pgbench"`
	RunReceivedTime  string        `json:"run_received_time"`
	RunStartTime     string        `json:"run_start_time"`
	RunEndTime       string        `json:"run_end_time"`
	GitCloneRuntime  *string       `json:"git_clone_runtime"` // null: a packaged PostgreSQL is neither cloned nor built
	GitPullRuntime   *string       `json:"git_pull_runtime"`
	ConfigureRuntime *string       `json:"configure_runtime"`
	BuildRuntime     *string       `json:"build_runtime"`
	InstallRuntime   *string       `json:"install_runtime"`
	CleanupRuntime   string        `json:"cleanup_runtime"` // the time to stop the server and remove its data
}

type meta struct {
	Benchmark string `json:"benchmark"`
	Date      string `json:"date"`
	Name      string `json:"name"`
}

type git struct {
	Remote string `json:"remote"`
	Branch string `json:"branch"`
	Commit string `json:"commit"`
}

type kernel struct {
	Name    string `json:"uname_s"`
	Release string `json:"uname_r"`
	Version string `json:"uname_v"`
	Machine string `json:"uname_m"`
}

type osInformation struct {
	Distributor string `json:"distributor"`
	Description string `json:"description"`
	Release     string `json:"release"`
	Codename    string `json:"codename"`
}

type system struct {
	CPU struct {
		Information cpuInformation `json:"information"`
	} `json:"cpu"`
	Memory memory `json:"memory"`
}

type cpuInformation struct {
	Brand    string   `json:"brand_raw"`
	HzActual [2]int64 `json:"hz_actual"` // Hz, and the power of ten to scale it by: always 0
	Count    int      `json:"count"`
}

type memory struct {
	Virtual total   `json:"virtual"`
	Swap    total   `json:"swap"`
	Mounts  []mount `json:"mounts"`
}

type total struct {
	Total uint64 `json:"total"` // bytes
}

type mount struct {
	Device     string `json:"device"`
	Mountpoint string `json:"mountpoint"`
	FSType     string `json:"fstype"`
	Options    string `json:"opts"`
}

// aggregate is one per-second log: an object of one member, named after the invocation.
type aggregate map[string]string

type testResult struct {
	Clients    []int       `json:"clients"`
	Scale      int         `json:"scale"`
	Duration   int         `json:"duration"`
	ReadOnly   bool        `json:"read_only"`
	Iterations []iteration `json:"iterations"`
}

// iteration is one invocation of pgbench.
type iteration struct {
	Mode               string            `json:"mode"`
	Clients            string            `json:"clients"`
	Threads            string            `json:"threads"`
	Latency            string            `json:"latency"`
	TPS                string            `json:"tps"`
	StatementLatencies string            `json:"statement_latencies"`
	Init               float64           `json:"init"`  // seconds to make the data set
	Start              float64           `json:"start"` // Unix seconds
	End                float64           `json:"end"`
	Iteration          int               `json:"iteration"`
	PgStatStatements   []json.RawMessage `json:"pg_stat_statements"`
	Collectd           collectd          `json:"collectd"`
}

// collectd holds the samples of the machine: host, plugin, file, points.
type collectd map[string]map[string]map[string][]point

type point struct {
	Epoch string `json:"epoch"` // Unix seconds
	Value string `json:"value"`
}
