// Package config reads Millrace's settings: defaults, then the YAML file named by MILLRACE_CONFIG, then environment
// variables. Every mistake is reported at once; a key that nobody knows is a mistake.
package config

import (
	"time"
)

// Config is every setting. The doc tags are the settings' one documentation: docs/configuration.md is made from them.
type Config struct {
	Listen         string   `koanf:"listen" doc:"Address to serve on, host:port."`
	Data           string   `koanf:"data" doc:"Data folder: the installation's key, the embedded engines, blobs, the operator's socket."`
	KeyFile        string   `koanf:"key_file" doc:"File of the installation's key; empty: DATA/key. In a cluster every process needs the same one."`
	Kafka          string   `koanf:"kafka" doc:"Kafka brokers, host:port with commas; empty: the embedded log."`
	ClickHouse     string   `koanf:"clickhouse" doc:"clickhouse://USER:PASSWORD@HOST:PORT/DATABASE, one server (the tables are not replicated); empty: the embedded engine."`
	Redis          string   `koanf:"redis" doc:"redis://:PASSWORD@HOST:PORT/0 (rediss:// with TLS); empty: the standalone starts its own, other services go without."`
	Blob           string   `koanf:"blob" doc:"Blob store: file:///FOLDER or s3://BUCKET?…; empty: DATA/blobs, in standalone only."`
	Demo           bool     `koanf:"demo" doc:"Load the recorded history into an empty data folder."`
	PublicReads    bool     `koanf:"public_reads" doc:"Let anyone read /millrace/v1 and /ui without a token. Off: only callers on this machine, as long as Millrace listens on a loopback address (MILLRACE_LISTEN=127.0.0.1:8080, not 0.0.0.0), and they call it by a loopback name or address, directly or through one of trusted_proxies that says so. Writes, artifacts of jobs, dead letters, refused uploads and subscriptions want a token in any case; /metrics is for callers on this machine, in the same sense, and operators."`
	TrustedProxies []string `koanf:"trusted_proxies" doc:"Addresses or networks whose forwarding headers are believed."`

	Log       Log       `koanf:"log"`
	Trace     Trace     `koanf:"trace"`
	Engines   Engines   `koanf:"engines"`
	Ingest    Ingest    `koanf:"ingest"`
	Processor Processor `koanf:"processor"`
	Query     Query     `koanf:"query"`
	Jobs      Jobs      `koanf:"jobs"`
	Files     Files     `koanf:"files"`
	Webhooks  Webhooks  `koanf:"webhooks"`
	Proxy     Proxy     `koanf:"proxy"`

	PgPerfFarm  PgPerfFarm  `koanf:"pgperffarm"`
	Testflinger Testflinger `koanf:"testflinger"`
	Debci       Debci       `koanf:"debci"`
}

// Log says how to log.
type Log struct {
	Format string `koanf:"format" doc:"text or json."`
	Level  string `koanf:"level" doc:"debug, info, warn or error."`
}

// Trace says where spans go.
type Trace struct {
	Endpoint string  `koanf:"endpoint" doc:"OTLP/HTTP receiver of spans, as http://HOST:4318/v1/traces; empty: none."`
	Ratio    float64 `koanf:"ratio" doc:"Share of traces to record that no client decided on, 0 to 1."`
}

// Engines secures and sizes the connections to the engines.
type Engines struct {
	KafkaUser             string                   `koanf:"kafka_user" doc:"SASL user; empty: no SASL."`
	KafkaPassword         string                   `koanf:"kafka_password" doc:"SASL password."`
	KafkaMechanism        string                   `koanf:"kafka_mechanism" doc:"SCRAM-SHA-256 or SCRAM-SHA-512."`
	KafkaTLS              bool                     `koanf:"kafka_tls" doc:"TLS to Kafka."`
	KafkaReplication      int                      `koanf:"kafka_replication" doc:"Replication factor of topics that are created."`
	VolumePartitions      int                      `koanf:"volume_partitions" doc:"Partitions of new topics that carry volume."`
	Retention             map[string]time.Duration `koanf:"retention" doc:"Time to keep records, by topic (as a variable: runs=720h,results=24h); none or 0: for ever. The archive keeps them all."`
	ClickHouseTLS         bool                     `koanf:"clickhouse_tls" doc:"TLS to ClickHouse."`
	ClickHouseConnections int                      `koanf:"clickhouse_connections" doc:"Connections to ClickHouse of one process."`
	CAFile                string                   `koanf:"ca_file" doc:"PEM file of certificate authorities for TLS to the engines, beside the system's."`
	CacheDir              string                   `koanf:"cache_dir" doc:"Folder where a fetched ClickHouse is kept; empty: the user's cache folder."`
	ClickHouseNice        int                      `koanf:"clickhouse_nice" doc:"How far the embedded ClickHouse stands back for other programs, 0 to 19, as of nice(1)."`
	MinFreeBytes          int64                    `koanf:"min_free_bytes" doc:"Free space of the data folder below which writes answer 503."`
	MaxLogBytes           int64                    `koanf:"max_log_bytes" doc:"Size of the embedded log beyond which writes wait for the projections, up to ingest.upload_patience, and then answer 503. A second's writes may come on top."`
	TrimInterval          time.Duration            `koanf:"trim_interval" doc:"How often the embedded log is trimmed behind the archive."`
}

// Ingest bounds the write side.
type Ingest struct {
	MaxRequests       int           `koanf:"max_requests" doc:"Writes in flight, but for claims of jobs and files; beyond: 503."`
	MaxBytes          int64         `koanf:"max_bytes" doc:"Bytes of request bodies in flight; beyond: 503."`
	MaxWaiting        int           `koanf:"max_waiting_bytes" doc:"Bytes of events that may wait for one partition of the log; beyond: 503."`
	UploadBytes       int64         `koanf:"upload_bytes" doc:"Largest upload, as sent and decoded."`
	UploadDepth       int           `koanf:"upload_depth" doc:"Deepest nesting of an uploaded document."`
	UploadResults     int           `koanf:"upload_results" doc:"Results in one uploaded document, at most 1023."`
	UploadRows        int           `koanf:"upload_rows" doc:"Rows of one kind in one uploaded document, at most 1048575."`
	UploadPatience    time.Duration `koanf:"upload_patience" doc:"How long an upload is held while an engine is missing: its sender never repeats."`
	BodyPatience      time.Duration `koanf:"body_patience" doc:"How long the body of any request may stall, or fall behind 4 KiB a second; beyond: 408."`
	RequestTimeout    time.Duration `koanf:"request_timeout" doc:"Longest time of any other request."`
	IdempotencyWindow time.Duration `koanf:"idempotency_window" doc:"Log time for which an Idempotency-Key is remembered."`
}

// Processor shapes the batches.
type Processor struct {
	BatchRecords   int           `koanf:"batch_records" doc:"Records in one batch."`
	BatchRows      int           `koanf:"batch_rows" doc:"Rows in one batch."`
	BatchBytes     int           `koanf:"batch_bytes" doc:"Bytes in one batch."`
	Interval       time.Duration `koanf:"interval" doc:"Least time between two writes of a partition under load."`
	SnapshotEvery  time.Duration `koanf:"snapshot_every" doc:"Time between two stored states of a fold."`
	SessionTimeout time.Duration `koanf:"session_timeout" doc:"How long a processor that says nothing keeps its partitions."`
	GiveWay        time.Duration `koanf:"give_way" doc:"How long the projections rest while writes to the same process queue, no read waits for them, and the embedded log is less than half full; 0: never."`
}

// Query bounds the read side.
type Query struct {
	MaxRequests int           `koanf:"max_requests" doc:"Reads in flight, but for files and those that wait for a job's result or output; beyond: 503."`
	Wait        time.Duration `koanf:"wait" doc:"How long a read waits for the projections to reach it; beyond: 503."`
	CacheBytes  int64         `koanf:"cache_bytes" doc:"Memory for finished answers."`
	CacheRedis  bool          `koanf:"cache_redis" doc:"Share finished answers through Redis."`
	MaxListRows int           `koanf:"max_list_rows" doc:"Rows of a list that an API returns whole; beyond: 503."`
}

// Jobs is how jobs are handed out on Millrace's own API.
type Jobs struct {
	Lease        time.Duration `koanf:"lease" doc:"How long a worker keeps a job without a heartbeat."`
	Requeues     int           `koanf:"requeues" doc:"How often a job goes back to its queue when its worker was lost; then it ends."`
	MaxWait      time.Duration `koanf:"max_wait" doc:"Longest wait of a claim for a job, and of a read for a job's result or output."`
	MaxWaiting   int           `koanf:"max_waiting" doc:"Claims in flight, most of which wait, and as many reads of results and output; beyond: 503."`
	PayloadBytes int64         `koanf:"payload_bytes" doc:"Largest submission, as sent and decoded."`
	KeptBytes    int           `koanf:"kept_bytes" doc:"Memory for submissions that wait to be handed out; others are read again when they are."`
}

// Files bounds artifacts of jobs and attachments to them.
type Files struct {
	MaxBytes int64         `koanf:"max_bytes" doc:"Largest artifact or attachment; beyond: 413."`
	Timeout  time.Duration `koanf:"timeout" doc:"Longest time in which one may arrive; beyond: 408."`
	AtOnce   int           `koanf:"at_once" doc:"Files that come in at a time, and as many that go out; beyond: 503."`
	Keep     time.Duration `koanf:"keep" doc:"How long they are kept; 0: for ever."`
}

// Webhooks bounds what others may have Millrace call: deliveries to subscribers, events of Testflinger's jobs.
type Webhooks struct {
	AllowPrivate     []string      `koanf:"allow_private" doc:"Networks, addresses and names of hosts that may be called although they are not public: 10.1.0.0/16, 127.0.0.1, ci.example.org. The origins of testflinger.webhook_origins may be called too."`
	Timeout          time.Duration `koanf:"timeout" doc:"How long a subscriber may take to answer a delivery."`
	MaxPause         time.Duration `koanf:"max_pause" doc:"Longest pause between two attempts of a delivery; the first is a second."`
	Window           time.Duration `koanf:"window" doc:"How long a delivery may fail before its subscription is paused, until an operator resumes it."`
	AtOnce           int           `koanf:"at_once" doc:"Deliveries in flight for one subscription and partition of the log."`
	MaxSubscriptions int           `koanf:"max_subscriptions" doc:"Subscriptions; beyond: 409."`
}

// Proxy says where the proxy finds the services.
type Proxy struct {
	Ingest string `koanf:"ingest" doc:"URL of the ingest service."`
	Query  string `koanf:"query" doc:"URL of the query service."`
}

// PgPerfFarm sets up the PostgreSQL Performance Farm's API.
type PgPerfFarm struct {
	LoginURL    string   `koanf:"login_url" doc:"pgweb's login URL, https://www.postgresql.org/account/auth/SITE/."`
	AuthKey     string   `koanf:"auth_key" doc:"Key shared with pgweb, standard base64."`
	AuthVersion int      `koanf:"auth_version" doc:"Version of pgweb's protocol: 2, 3 or 4."`
	AfterLogin  string   `koanf:"after_login" doc:"Page to show after a login without target."`
	Staff       []string `koanf:"staff" doc:"User names that become staff when they sign in. A name taken off the list stays staff: millrace admin pgperffarm user set NAME --staff=false."`
}

// Testflinger sets up the Testflinger API.
type Testflinger struct {
	API            string        `koanf:"api" doc:"Generation of the API: seed (what its first description says) or latest (what the newest clients speak)."`
	JWTSigningKey  string        `koanf:"jwt_signing_key" doc:"Key that access tokens are signed with, at least 32 characters; empty: one that follows from the installation's key."`
	WebhookOrigins []string      `koanf:"webhook_origins" doc:"Origins (https://HOST:PORT) that the generation latest forwards job events to; none: events are refused."`
	WebhookSecret  string        `koanf:"webhook_secret" doc:"Secret that is sent to those origins with the events, as Authorization: Bearer SECRET; empty: none is."`
	Lease          time.Duration `koanf:"lease" doc:"How long an agent keeps a job without any call of its own that names it; 0: for ever. Calls that only people's commands make do not count; a request for the job's result, which both make, counts with the generation latest from agents only, with seed from whoever has no token. With seed nobody can tell which agent reports: one that falls silent and wakes up ends the job that has gone to another meanwhile. With latest its reports change nothing."`
	Requeues       int           `koanf:"requeues" doc:"How often a job goes back to its queue when nothing was heard of its agent; then it ends as complete."`
	RequestBytes   int64         `koanf:"request_bytes" doc:"Largest job, result or piece of output, as sent and decoded."`
	Exclusions     int           `koanf:"exclusions" doc:"Most different sets of exclude_agents that the jobs of a queue may have at a time: every claim looks at each."`
}

// Debci sets up the debci API.
type Debci struct {
	Suites        []string             `koanf:"suites" doc:"Suites that may be tested."`
	Architectures []string             `koanf:"architectures" doc:"Architectures that may be tested on."`
	Backends      []string             `koanf:"backends" doc:"Backends that a test may ask for."`
	RejectList    string               `koanf:"reject_list" doc:"File of what is not tested, lines of PACKAGE [SUITE [ARCHITECTURE [VERSION]]] with * for any and the reason in a comment above; read again when it changes. Empty: none. In a cluster, ingest and query each need it."`
	AptSources    map[string]AptSource `koanf:"apt_sources" doc:"Extra sources that tests may ask for: by name {entry: TEXT, allowed_users: [USER, …]}, where no users are all (as a variable: NAME=ENTRY,NAME=ENTRY, for all users)."`
	MaxTests      int                  `koanf:"max_tests" doc:"Tests in one request; beyond: 400."`
	RequestBytes  int64                `koanf:"request_bytes" doc:"Largest request, as sent and decoded."`
}

// AptSource is an extra source of packages.
type AptSource struct {
	Entry        string   `koanf:"entry"`
	AllowedUsers []string `koanf:"allowed_users"`
}

// Default is what holds where nothing is set.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8080", Data: "data",
		Log:   Log{Format: "text", Level: "info"},
		Trace: Trace{Ratio: 1},
		Engines: Engines{
			KafkaMechanism: "SCRAM-SHA-512", KafkaReplication: 1, VolumePartitions: 1, ClickHouseConnections: 16,
			ClickHouseNice: 10, MinFreeBytes: 512 << 20, MaxLogBytes: 4 << 30, TrimInterval: 10 * time.Second,
		},
		Ingest: Ingest{
			MaxRequests: 1024, MaxBytes: 1 << 30, MaxWaiting: 64 << 20, UploadBytes: 100 << 20, UploadDepth: 64, UploadResults: 1023,
			UploadRows: 1<<20 - 1, UploadPatience: time.Minute, RequestTimeout: 30 * time.Second,
			BodyPatience:      20 * time.Second,
			IdempotencyWindow: 7 * 24 * time.Hour,
		},
		Processor: Processor{
			BatchRecords: 20_000, BatchRows: 200_000, BatchBytes: 64 << 20,
			Interval: 250 * time.Millisecond, SnapshotEvery: 30 * time.Second, SessionTimeout: 10 * time.Second,
			GiveWay: 10 * time.Second,
		},
		Query: Query{
			MaxRequests: 1024, Wait: 5 * time.Second, CacheBytes: 128 << 20, CacheRedis: true, MaxListRows: 100_000,
		},
		Jobs:        Jobs{Lease: time.Minute, Requeues: 3, MaxWait: time.Minute, MaxWaiting: 4096, PayloadBytes: 1 << 20, KeptBytes: 64 << 20},
		Proxy:       Proxy{Ingest: "http://127.0.0.1:8081", Query: "http://127.0.0.1:8082"},
		PgPerfFarm:  PgPerfFarm{AuthVersion: 3, AfterLogin: "/ui"},
		Files:       Files{MaxBytes: 4 << 30, Timeout: time.Hour, AtOnce: 256, Keep: 7 * 24 * time.Hour},
		Webhooks:    Webhooks{Timeout: 10 * time.Second, MaxPause: 5 * time.Minute, Window: 24 * time.Hour, AtOnce: 4, MaxSubscriptions: 100},
		Testflinger: Testflinger{API: "seed", Requeues: 3, RequestBytes: 16<<20 - 1, Exclusions: 64},
		Debci: Debci{
			Suites: []string{"unstable", "testing", "stable"}, Architectures: []string{"amd64", "arm64"},
			MaxTests: 10_000, RequestBytes: 16 << 20,
		},
	}
}
