-- +goose Up
-- Raw samples. A row is identified by its series, its time, its event and its place in the event.
CREATE TABLE IF NOT EXISTS metrics
(
    machine_id UInt64,
    config_id  UInt64,
    branch_id  UInt64,
    metric     LowCardinality(String),
    ts         DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    event_id   UUID,
    ordinal    UInt32 CODEC(Delta, LZ4),
    run_id     UInt64 CODEC(Delta, LZ4),
    result_id  UInt64 CODEC(Delta, LZ4),
    value      Float64 CODEC(Gorilla, LZ4)
)
ENGINE = ReplacingMergeTree
ORDER BY (machine_id, config_id, branch_id, metric, ts, event_id, ordinal)
SETTINGS non_replicated_deduplication_window = 1000;

-- Trends: for each series and bucket the statistics of its raw samples, recomputed whenever the bucket was touched.
-- resolution is the bucket's length in seconds (weeks begin on Monday), version the number of samples: they are only ever
-- added, so the row that has seen most of them is the newest.
CREATE TABLE IF NOT EXISTS trend_buckets
(
    machine_id UInt64,
    config_id  UInt64,
    branch_id  UInt64,
    metric     LowCardinality(String),
    resolution UInt32,
    bucket     DateTime64(0, 'UTC'),
    version    UInt64,
    count      UInt64,
    mean       Float64,
    stddev     Nullable(Float64),
    min        Float64,
    median     Float64,
    p95        Float64,
    p99        Float64,
    max        Float64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (machine_id, config_id, branch_id, metric, resolution, bucket)
SETTINGS non_replicated_deduplication_window = 1000;

-- Notes of weeks whose trends are not up to date: recomputing them would have taken too long when they were touched.
CREATE TABLE IF NOT EXISTS postponed_trends
(
    machine_id UInt64,
    config_id  UInt64,
    branch_id  UInt64,
    metric     LowCardinality(String),
    week       DateTime64(0, 'UTC'),
    note_id    UUID
)
ENGINE = MergeTree
ORDER BY (machine_id, config_id, branch_id, metric, week);

-- +goose Down
DROP TABLE IF EXISTS postponed_trends;
DROP TABLE IF EXISTS trend_buckets;
DROP TABLE IF EXISTS metrics;
