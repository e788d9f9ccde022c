-- +goose Up
-- The archive: every event of every log that this installation ever had. The log is trimmed behind it, so its parts
-- are synced to disk.
CREATE TABLE IF NOT EXISTS event_log
(
    epoch      UInt32,
    log_id     LowCardinality(String),
    topic      LowCardinality(String),
    partition  UInt16,
    offset     Int64 CODEC(Delta, ZSTD(1)),
    log_time   Int64 CODEC(Delta, ZSTD(1)),
    event_id   UUID,
    type       LowCardinality(String),
    key        String CODEC(ZSTD(1)),
    headers    Array(Tuple(String, String)) CODEC(ZSTD(1)),
    value      String CODEC(ZSTD(1)),
    -- The blob that the event refers to, so that the ones that none refers to can be collected.
    dataref    String MATERIALIZED arrayFirst(header -> header.1 = 'ce_dataref', headers).2,
    INDEX by_dataref dataref TYPE bloom_filter GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, epoch, offset)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, index_granularity = 1024;

-- The newest state of each fold, so that a replica starts without reading the whole log.
CREATE TABLE IF NOT EXISTS fold_state
(
    fold      LowCardinality(String),
    version   UInt32,
    epoch     UInt32,
    log_id    String,
    topic     String,
    partition UInt16,
    offset    Int64,
    log_time  Int64,
    state     String CODEC(ZSTD(1)),
    position  UInt64 MATERIALIZED bitShiftLeft(toUInt64(epoch), 44) + toUInt64(offset + 1)
)
ENGINE = ReplacingMergeTree(position)
ORDER BY (fold, version);

-- The generations of the projections. Readers use the greatest in state current.
CREATE TABLE IF NOT EXISTS generations
(
    generation UInt32,
    state      LowCardinality(String),
    at         DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree
ORDER BY (at, generation);

-- +goose Down
DROP TABLE IF EXISTS generations;
DROP TABLE IF EXISTS fold_state;
DROP TABLE IF EXISTS event_log;
