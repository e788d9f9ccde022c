-- +goose Up
-- One row for each submission. seq is the job's number.
CREATE TABLE IF NOT EXISTS jobs
(
    seq                UInt64,
    event_id           UUID,
    submitted_at       DateTime64(3, 'UTC'),
    family             LowCardinality(String),
    queue              LowCardinality(String),
    -- The client's own id, as it was spelled; several jobs may share it.
    job_id             String,
    priority           Int64,
    name               String,
    parent             String,
    tags               Array(String),
    private            Bool,
    -- Keyed hash of the owner's name, and who submitted it, sealed under the owner's own key.
    owner              String,
    sealed_submitter   String,
    retry_of           UInt64,
    excluded_agents    Array(String),
    awaits_attachments Bool,
    -- What was submitted, packed as in its event: inside the row, or in the blob store under its SHA-256.
    document           String CODEC(ZSTD(1)),
    blob               String,
    blob_size          UInt64,
    encoding           UInt8,
    size               UInt64,
    PROJECTION by_job_id (SELECT job_id, seq ORDER BY job_id, seq),
    PROJECTION by_queue (SELECT queue, seq, submitted_at, job_id, priority, private ORDER BY queue, seq),
    PROJECTION by_owner (SELECT owner, seq, submitted_at, private ORDER BY owner, seq)
)
ENGINE = ReplacingMergeTree
ORDER BY seq
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024, deduplicate_merge_projection_mode = 'rebuild';

-- What happened to jobs, one row for each change of a job: submitted, attachments, handed_out, released, expired,
-- reported, cancelled. The newest row of a job (by epoch and offset) has its state.
CREATE TABLE IF NOT EXISTS job_changes
(
    seq      UInt64,
    epoch    UInt32,
    offset   Int64 CODEC(Delta, ZSTD(1)),
    event_id UUID,
    at       DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    change   LowCardinality(String),
    -- As it is afterwards; what the old APIs report may be any text.
    state    String,
    attempt  UInt32,
    -- Who has the job, or reported.
    asker    String,
    ended    Bool,
    -- How it ended, a JSON object; empty when that is told otherwise.
    result   String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (seq, epoch, offset)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- The newest row of each job in job_changes, for finding jobs by their state. version grows with the place in the log.
CREATE TABLE IF NOT EXISTS job_states
(
    seq     UInt64,
    version UInt64,
    at      DateTime64(3, 'UTC'),
    state   String,
    attempt UInt32,
    asker   String,
    ended   Bool,
    result  String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY seq
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- How long queues were: one row for each event that changed one, with the jobs that waited and were out after it.
-- waited_ms is how long a job had waited that was handed out.
CREATE TABLE IF NOT EXISTS queue_changes
(
    queue     LowCardinality(String),
    at        DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    epoch     UInt32,
    offset    Int64 CODEC(Delta, ZSTD(1)),
    seq       UInt64,
    change    LowCardinality(String),
    jobs      UInt32,
    waiting   UInt64,
    out       UInt64,
    waited_ms Nullable(UInt64)
)
ENGINE = ReplacingMergeTree
ORDER BY (queue, at, epoch, offset)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

CREATE TABLE IF NOT EXISTS job_attachments
(
    seq       UInt64,
    at        DateTime64(3, 'UTC'),
    document  String,
    blob      String,
    blob_size UInt64,
    encoding  UInt8,
    size      UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY seq
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- Private jobs that everybody may see since.
CREATE TABLE IF NOT EXISTS job_publications
(
    seq     UInt64,
    epoch   UInt32,
    offset  Int64,
    at      DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (seq, epoch, offset)
SETTINGS non_replicated_deduplication_window = 1000;

-- +goose Down
DROP TABLE IF EXISTS job_publications;
DROP TABLE IF EXISTS job_attachments;
DROP TABLE IF EXISTS queue_changes;
DROP TABLE IF EXISTS job_states;
DROP TABLE IF EXISTS job_changes;
DROP TABLE IF EXISTS jobs;
