-- +goose Up
-- What agents say of themselves: one row for each field that was ever given, the newest by version counts. version is
-- epoch * 2^44 + offset, as in all tables of this file: what has one name comes from one partition. Fields are state,
-- comment, location, provision_type, job_id, identifier (texts as they are), queues (a JSON array of strings) and updated_at
-- (written by each post; at is its time).
CREATE TABLE IF NOT EXISTS testflinger_agents
(
    name    String,
    field   LowCardinality(String),
    value   String,
    at      DateTime64(3, 'UTC'),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (name, field)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- Lines of agents' logs, in the order of (version, ordinal).
CREATE TABLE IF NOT EXISTS testflinger_agent_log
(
    agent    String,
    version  UInt64,
    ordinal  UInt32,
    event_id UUID,
    at       DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    line     String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (agent, version, ordinal)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- How provisioning went, in the order of version; also of agents that are not known.
CREATE TABLE IF NOT EXISTS testflinger_provisions
(
    agent     String,
    version   UInt64,
    event_id  UUID,
    at        DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    job_id    String,
    exit_code Int64,
    detail    String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (agent, version)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- What agents say of queues: one row for each field that was ever given, the newest by version counts. Fields are
-- description (a text) and images (a JSON object of provisioning lines by image, which replaces the one before).
CREATE TABLE IF NOT EXISTS testflinger_queues
(
    queue   String,
    field   LowCardinality(String),
    value   String CODEC(ZSTD(1)),
    at      DateTime64(3, 'UTC'),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (queue, field)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- What was posted to jobs' results, by the jobs' own ids: JSON objects without job_state (that is in job_states), packed as
-- in their events. The result of a job is their merge in the order of version: members replace those of the same name.
-- members are the names, so that documents need not be read whose members were all replaced.
CREATE TABLE IF NOT EXISTS testflinger_results
(
    job_id    String,
    version   UInt64,
    event_id  UUID,
    at        DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    members   Array(LowCardinality(String)),
    document  String CODEC(ZSTD(1)),
    blob      String,
    blob_size UInt64,
    encoding  UInt8,
    size      UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (job_id, version)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- Pieces of jobs' output, by the jobs' own ids, in the order of version. kind is output or serial. A piece that stands in
-- the log twice has two rows with one event_id: the first one counts. phase, fragment and fragment_at are what the agent
-- said; empty and null where it said nothing.
CREATE TABLE IF NOT EXISTS job_output
(
    job_id      String,
    kind        LowCardinality(String),
    version     UInt64,
    event_id    UUID,
    at          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    phase       LowCardinality(String),
    fragment    Nullable(Int64),
    fragment_at Nullable(DateTime64(3, 'UTC')),
    document    String CODEC(ZSTD(1)),
    blob        String,
    blob_size   UInt64,
    encoding    UInt8,
    size        UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (job_id, kind, version)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- How far the output of a job was handed out on the path that gives each piece out once: the version of the last piece.
CREATE TABLE IF NOT EXISTS job_output_taken
(
    job_id  String,
    kind    LowCardinality(String),
    through UInt64,
    at      DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(through)
ORDER BY (job_id, kind)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- +goose Down
DROP TABLE IF EXISTS job_output_taken;
DROP TABLE IF EXISTS job_output;
DROP TABLE IF EXISTS testflinger_results;
DROP TABLE IF EXISTS testflinger_queues;
DROP TABLE IF EXISTS testflinger_provisions;
DROP TABLE IF EXISTS testflinger_agent_log;
DROP TABLE IF EXISTS testflinger_agents;
