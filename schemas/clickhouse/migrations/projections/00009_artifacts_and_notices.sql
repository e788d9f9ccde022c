-- +goose Up
-- Files that whoever worked on a job left, by the job's id on Millrace's own API: of those with one name the
-- newest of the latest attempt counts. version is epoch * 2^44 + offset. The files are in the blob store, under their SHA-256.
CREATE TABLE IF NOT EXISTS job_artifacts
(
    job          String,
    name         String,
    version      UInt64,
    event_id     UUID,
    at           DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    content_type LowCardinality(String),
    uploader     String,
    attempt      UInt32,
    blob         String,
    blob_size    UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (job, name, version)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- The event that brought a job's attachments, by which they expire.
ALTER TABLE job_attachments ADD COLUMN IF NOT EXISTS event_id UUID;

-- Files that are kept no longer, artifacts and attachments, by the events that brought them.
CREATE TABLE IF NOT EXISTS file_expiries
(
    event_id UUID,
    at       DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY event_id
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- What subscribers are told, in the order of the log: one row for each thing that happened. ordinal counts those of one
-- event, from 0.
CREATE TABLE IF NOT EXISTS notices
(
    topic     LowCardinality(String),
    partition UInt16,
    version   UInt64 CODEC(Delta, ZSTD(1)),
    ordinal   UInt32,
    event_id  UUID,
    at        DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    kind      LowCardinality(String),
    -- The queue of a job, and its number; empty and 0 for what is no job's.
    queue     LowCardinality(String),
    seq       UInt64,
    -- What it happened to; empty for a job whose id its client chose: table jobs has it.
    subject   String CODEC(ZSTD(1)),
    -- A JSON object.
    data      String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, version, ordinal)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- +goose Down
DROP TABLE IF EXISTS notices;
DROP TABLE IF EXISTS file_expiries;
ALTER TABLE job_attachments DROP COLUMN IF EXISTS event_id;
DROP TABLE IF EXISTS job_artifacts;
