-- +goose Up
CREATE TABLE IF NOT EXISTS runs
(
    run_id            UInt64,
    event_id          UUID,
    machine_id        UInt64,
    machine_type      LowCardinality(String),
    add_time          DateTime64(3, 'UTC'),
    benchmark         LowCardinality(String),
    custom            Bool,
    repository_id     UInt64,
    repository        LowCardinality(String),
    official          Bool,
    branch_id         UInt64,
    branch            LowCardinality(String),
    commit            String,
    dist_name         LowCardinality(String),
    os_description    LowCardinality(String),
    os_release        LowCardinality(String),
    os_codename       LowCardinality(String),
    kernel_name       LowCardinality(String),
    kernel_release    LowCardinality(String),
    kernel_version    LowCardinality(String),
    compiler          LowCardinality(String),
    hardware_id       UInt64,
    settings_id       UInt64,
    received_time     Nullable(DateTime64(6, 'UTC')),
    start_time        DateTime64(6, 'UTC'),
    end_time          Nullable(DateTime64(6, 'UTC')),
    git_clone_seconds Nullable(Float64),
    git_pull_seconds  Nullable(Float64),
    configure_seconds Nullable(Float64),
    build_seconds     Nullable(Float64),
    install_seconds   Nullable(Float64),
    cleanup_seconds   Nullable(Float64),
    results           UInt32,
    INDEX by_machine machine_id TYPE set(100) GRANULARITY 1,
    INDEX by_start start_time TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY run_id
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- One row for each pgbench invocation, found by id: result_id = run_id * 1024 + ordinal in the document.
CREATE TABLE IF NOT EXISTS results
(
    result_id       UInt64,
    run_id          UInt64,
    machine_id      UInt64,
    config_id       UInt64,
    custom          Bool,
    clients         Int32,
    scale           Int32,
    duration        Int32,
    read_only       Bool,
    tps             Float64,
    latency         Float64,
    mode            LowCardinality(String),
    start           Float64,
    end             Float64,
    iteration       Int32,
    init            Float64,
    -- Finished JSON arrays of the Performance Farm's API, with their row ids.
    log             String CODEC(ZSTD(1)),
    statements      String CODEC(ZSTD(1)),
    stat_statements String CODEC(ZSTD(1)),
    collectd        String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY result_id
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 256;

-- The same results in the order in which lists and trends read them, with what they group by.
CREATE TABLE IF NOT EXISTS result_series
(
    machine_id     UInt64,
    config_id      UInt64,
    result_id      UInt64,
    run_id         UInt64,
    custom         Bool,
    official       Bool,
    add_time       DateTime64(3, 'UTC'),
    clients        Int32,
    scale          Int32,
    duration       Int32,
    read_only      Bool,
    tps            Float64,
    latency        Float64,
    repository     LowCardinality(String),
    branch_id      UInt64,
    branch         LowCardinality(String),
    commit         String,
    dist_name      LowCardinality(String),
    os_release     LowCardinality(String),
    os_codename    LowCardinality(String),
    kernel_name    LowCardinality(String),
    kernel_release LowCardinality(String),
    kernel_version LowCardinality(String),
    compiler       LowCardinality(String),
    hardware_id    UInt64,
    settings_id    UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (machine_id, config_id, result_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS tpch_results
(
    machine_id       UInt64,
    scale_factor     Float64,
    run_id           UInt64,
    config_id        UInt64,
    streams          Int32,
    add_time         DateTime64(3, 'UTC'),
    branch_id        UInt64,
    branch           LowCardinality(String),
    commit           String,
    power_score      Float64,
    throughput_score Float64,
    composite_score  Float64,
    query_idx        Array(UInt8),
    power            Array(Nullable(Float64)),
    throughput       Array(Nullable(Float64))
)
ENGINE = ReplacingMergeTree
ORDER BY (machine_id, scale_factor, run_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- Dictionaries: values that many runs share, numbered by the first event that showed them.
CREATE TABLE IF NOT EXISTS configs
(
    config_id UInt64,
    clients   Int32,
    scale     Int32,
    duration  Int32,
    read_only Bool
)
ENGINE = ReplacingMergeTree
ORDER BY config_id
SETTINGS non_replicated_deduplication_window = 1000;

-- hz is the momentary frequency that the first run reported: it is no part of the identity. version falls as run_id
-- grows, so that the row of the first run stays.
CREATE TABLE IF NOT EXISTS hardware
(
    hardware_id  UInt64,
    cpu_brand    String,
    hz           Int64,
    cpu_cores    Int32,
    total_memory Int64,
    total_swap   Int64,
    mounts       String CODEC(ZSTD(1)),
    sysctl       String CODEC(ZSTD(1)),
    version      UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY hardware_id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS settings
(
    settings_id UInt64,
    ordinal     UInt32,
    name        LowCardinality(String),
    source      LowCardinality(String),
    value       String
)
ENGINE = ReplacingMergeTree
ORDER BY (settings_id, ordinal)
SETTINGS non_replicated_deduplication_window = 1000;

-- The run log: uploads that were turned away.
CREATE TABLE IF NOT EXISTS refused_uploads
(
    at         DateTime64(3, 'UTC'),
    event_id   UUID,
    machine_id UInt64,
    status     UInt16,
    reason     String,
    sha256     String,
    size       UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (at, event_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- +goose Down
DROP TABLE IF EXISTS refused_uploads;
DROP TABLE IF EXISTS settings;
DROP TABLE IF EXISTS hardware;
DROP TABLE IF EXISTS configs;
DROP TABLE IF EXISTS tpch_results;
DROP TABLE IF EXISTS result_series;
DROP TABLE IF EXISTS results;
DROP TABLE IF EXISTS runs;
