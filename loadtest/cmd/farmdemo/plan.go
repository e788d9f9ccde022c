package main

import "github.com/millrace/millrace/loadtest/pgbench"

// change is one configuration of the server. All runs are of the same PostgreSQL, so that changes of its settings take
// the place of commits: each is sent as the commit pgbench.SettingsCommit makes of it.
type change struct {
	title    string
	settings map[string]string
}

// changes tell a small history: each differs from the one before in what pgbench can feel.
func changes() []change {
	return []change{
		{"default settings", map[string]string{}},
		{"a buffer pool too small for the data", map[string]string{
			"shared_buffers": "2MB",
		}},
		{"enough buffers, fewer checkpoints, compressed WAL", map[string]string{
			"shared_buffers":     "512MB",
			"checkpoint_timeout": "30min",
			"max_wal_size":       "4GB",
			"wal_compression":    "on",
		}},
		{"the same, and every statement is compiled, which costs more than it gains", map[string]string{
			"shared_buffers":     "512MB",
			"checkpoint_timeout": "30min",
			"max_wal_size":       "4GB",
			"wal_compression":    "on",
			"jit_above_cost":     "0",
		}},
		{"commits do not wait for the disk", map[string]string{
			"shared_buffers":     "512MB",
			"checkpoint_timeout": "30min",
			"max_wal_size":       "4GB",
			"wal_compression":    "on",
			"synchronous_commit": "off",
		}},
	}
}

// tests are six configurations: two small data sets with few and many clients, and one that 2 MB of buffers cannot hold.
func tests(seconds int) []pgbench.Test {
	return []pgbench.Test{
		{Clients: []int{1, 8}, Scale: 1, DurationSeconds: seconds, ReadOnly: true},
		{Clients: []int{1, 8}, Scale: 1, DurationSeconds: seconds, ReadOnly: false},
		{Clients: []int{4}, Scale: 5, DurationSeconds: seconds, ReadOnly: true},
		{Clients: []int{4}, Scale: 5, DurationSeconds: seconds, ReadOnly: false},
	}
}
