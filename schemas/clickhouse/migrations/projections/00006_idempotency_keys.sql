-- +goose Up
-- What requests with an idempotency key were answered, for those whose key a fold has forgotten before its time. A key
-- that is taken again when its time is over replaces itself; ordinal counts the keys that the topic's fold took.
-- until is log time. Log time is never far from the wall clock, by which rows go: a day later.
CREATE TABLE IF NOT EXISTS idempotency_keys
(
    topic   LowCardinality(String),
    key     String,
    body    String,
    ordinal UInt64,
    until   Int64,
    epoch   UInt32,
    offset  Int64,
    outcome String
)
ENGINE = ReplacingMergeTree(ordinal)
ORDER BY (topic, key)
TTL toDateTime(least(intDiv(until, 1000), 4102444800)) + INTERVAL 1 DAY
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024;

-- +goose Down
DROP TABLE IF EXISTS idempotency_keys;
