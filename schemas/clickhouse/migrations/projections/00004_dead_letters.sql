-- +goose Up
-- Records that could not be projected. dead_letter_requeues tells which were requeued.
CREATE TABLE IF NOT EXISTS dead_letters
(
    dead_letter_id UUID,
    at             DateTime64(3, 'UTC'),
    epoch          UInt32,
    topic          LowCardinality(String),
    partition      UInt16,
    offset         Int64,
    event_id       String,
    event_type     LowCardinality(String),
    reason         String,
    code_version   String,
    key            String,
    headers        Array(Tuple(String, String)),
    value          String
)
ENGINE = ReplacingMergeTree
ORDER BY dead_letter_id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS dead_letter_requeues
(
    dead_letter_id UUID,
    requeued_as    UUID,
    at             DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (dead_letter_id, requeued_as)
SETTINGS non_replicated_deduplication_window = 1000;

-- +goose Down
DROP TABLE IF EXISTS dead_letter_requeues;
DROP TABLE IF EXISTS dead_letters;
