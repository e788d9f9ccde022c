-- +goose Up
-- Lists are read a page at a time in other orders than the primary keys': by start time, within one machine, and results
-- by id. ClickHouse fills these copies of the narrow columns itself, in the same part as the rows.
ALTER TABLE runs MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE runs ADD PROJECTION IF NOT EXISTS by_start_time
(
    SELECT run_id, machine_id, add_time, start_time, benchmark, custom, repository, official, branch_id, branch, commit
    ORDER BY start_time, run_id
);

ALTER TABLE runs ADD PROJECTION IF NOT EXISTS by_machine
(
    SELECT run_id, machine_id, add_time, start_time, benchmark, custom, repository, official, branch_id, branch, commit, settings_id
    ORDER BY machine_id, run_id
);

ALTER TABLE result_series MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE result_series ADD PROJECTION IF NOT EXISTS by_result
(
    SELECT result_id, run_id, machine_id, config_id, custom, official, add_time, clients, scale, duration, read_only, tps,
        latency, repository, branch_id, branch, commit
    ORDER BY result_id
);

-- +goose Down
ALTER TABLE result_series DROP PROJECTION IF EXISTS by_result;
ALTER TABLE runs DROP PROJECTION IF EXISTS by_machine;
ALTER TABLE runs DROP PROJECTION IF EXISTS by_start_time;
