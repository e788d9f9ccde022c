-- +goose Up
-- People. What is personal is sealed under the person's own key.
CREATE TABLE IF NOT EXISTS users
(
    user_id        UInt64,
    name_hash      String,
    is_staff       Bool,
    sealed_profile String,
    erased         Bool,
    add_time       DateTime64(3, 'UTC'),
    version        UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY user_id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS machines
(
    machine_id  UInt64,
    alias       String,
    description String,
    owner_id    UInt64,
    approved    Bool,
    revoked     Bool,
    add_time    DateTime64(3, 'UTC'),
    version     UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY machine_id
SETTINGS non_replicated_deduplication_window = 1000;

-- +goose Down
DROP TABLE IF EXISTS machines;
DROP TABLE IF EXISTS users;
