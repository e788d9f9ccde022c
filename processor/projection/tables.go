package projection

// The tables that are filled row by row. The metrics, which are many, are kept in columns.
const (
	users = iota
	machines
	runsTable
	results
	resultSeries
	tpchResults
	configs
	hardware
	settings
	refusedUploads
	deadLetters
	requeues
	keys
	jobsTable
	jobChanges
	jobStates
	queueChanges
	jobAttachments
	jobPublications
	jobArtifacts
	fileExpiries
	notices
	testflingerAgents
	testflingerAgentLog
	testflingerProvisions
	testflingerQueues
	testflingerResults
	jobOutput
	jobOutputTaken
	tableCount
)

// table is a table's name, and the columns of a row in the order of its values.
type table struct{ name, columns string }

var tables = [tableCount]table{
	users:    {"users", "user_id, name_hash, is_staff, sealed_profile, erased, add_time, version"},
	machines: {"machines", "machine_id, alias, description, owner_id, approved, revoked, add_time, version"},
	runsTable: {"runs", "run_id, event_id, machine_id, machine_type, add_time, benchmark, custom, repository_id, repository, " +
		"official, branch_id, branch, commit, dist_name, os_description, os_release, os_codename, kernel_name, " +
		"kernel_release, kernel_version, compiler, hardware_id, settings_id, received_time, start_time, end_time, " +
		"git_clone_seconds, git_pull_seconds, configure_seconds, build_seconds, install_seconds, cleanup_seconds, results"},
	results: {"results", "result_id, run_id, machine_id, config_id, custom, clients, scale, duration, read_only, tps, " +
		"latency, mode, start, end, iteration, init, log, statements, stat_statements, collectd"},
	resultSeries: {"result_series", "machine_id, config_id, result_id, run_id, custom, official, add_time, clients, scale, " +
		"duration, read_only, tps, latency, repository, branch_id, branch, commit, dist_name, os_release, os_codename, " +
		"kernel_name, kernel_release, kernel_version, compiler, hardware_id, settings_id"},
	tpchResults: {"tpch_results", "machine_id, scale_factor, run_id, config_id, streams, add_time, branch_id, branch, " +
		"commit, power_score, throughput_score, composite_score, query_idx, power, throughput"},
	configs:        {"configs", "config_id, clients, scale, duration, read_only"},
	hardware:       {"hardware", "hardware_id, cpu_brand, hz, cpu_cores, total_memory, total_swap, mounts, sysctl, version"},
	settings:       {"settings", "settings_id, ordinal, name, source, value"},
	refusedUploads: {"refused_uploads", "at, event_id, machine_id, status, reason, sha256, size"},
	deadLetters: {"dead_letters", "dead_letter_id, at, epoch, topic, partition, offset, event_id, event_type, reason, " +
		"code_version, key, headers, value"},
	requeues: {"dead_letter_requeues", "dead_letter_id, requeued_as, at"},
	keys:     {"idempotency_keys", "topic, key, body, ordinal, until, epoch, offset, outcome"},
	jobsTable: {"jobs", "seq, event_id, submitted_at, family, queue, job_id, priority, name, parent, tags, private, owner, " +
		"sealed_submitter, retry_of, excluded_agents, awaits_attachments, document, blob, blob_size, encoding, size"},
	jobChanges:            {"job_changes", "seq, epoch, offset, event_id, at, change, state, attempt, asker, ended, result"},
	jobStates:             {"job_states", "seq, version, at, state, attempt, asker, ended, result"},
	queueChanges:          {"queue_changes", "queue, at, epoch, offset, seq, change, jobs, waiting, out, waited_ms"},
	jobAttachments:        {"job_attachments", "seq, event_id, at, document, blob, blob_size, encoding, size"},
	jobPublications:       {"job_publications", "seq, epoch, offset, at"},
	jobArtifacts:          {"job_artifacts", "job, name, version, event_id, at, content_type, uploader, attempt, blob, blob_size"},
	fileExpiries:          {"file_expiries", "event_id, at"},
	testflingerAgents:     {"testflinger_agents", "name, field, value, at, version"},
	testflingerAgentLog:   {"testflinger_agent_log", "agent, version, ordinal, event_id, at, line"},
	testflingerProvisions: {"testflinger_provisions", "agent, version, event_id, at, job_id, exit_code, detail"},
	testflingerQueues:     {"testflinger_queues", "queue, field, value, at, version"},
	testflingerResults:    {"testflinger_results", "job_id, version, event_id, at, members, document, blob, blob_size, encoding, size"},
	jobOutput: {"job_output", "job_id, kind, version, event_id, at, phase, fragment, fragment_at, document, blob, blob_size, " +
		"encoding, size"},
	jobOutputTaken: {"job_output_taken", "job_id, kind, through, at"},
	notices:        {"notices", "topic, partition, version, ordinal, event_id, at, kind, queue, seq, subject, data"},
}
