package projection

import (
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/pgperffarm"
)

// renderer makes the parts of a result that the API shows as they are (section 5.1.7): JSON, with the ids of the rows.
// Numbers are exact: integers with all digits, floats in the shortest form that reads back as the same value.
type renderer struct {
	*checks

	run *run
}

func (r renderer) log(result uint64, lines []pgperffarm.LogLine) string {
	b := append(r.run.text[:0], '[')
	for i := range lines {
		line := &lines[i]
		r.run.logLines++
		b = r.appendRow(b, i, "pgbench_log_id", r.run.logLines)
		b = appendUint(b, "pgbench_result_id_id", result)
		b = appendKey(b, "interval_start")
		b = append(time.Unix(line.Second, 0).UTC().AppendFormat(append(b, '"'), "2006-01-02T15:04:05Z"), '"')
		b = appendInt(b, "num_transactions", line.Transactions)
		b = appendInt(b, "sum_latency", line.Sum)
		b = appendInt(b, "sum_latency_2", line.Sum2)
		b = appendInt(b, "min_latency", line.Min)
		b = append(appendInt(b, "max_latency", line.Max), '}')
	}
	return r.rendered(append(b, ']'))
}

func (r renderer) statements(statements []pgperffarm.Statement) string {
	b := append(r.run.text[:0], '[')
	for i := range statements {
		s := &statements[i]
		r.run.statements++
		id := r.run.term(pgperffarm.StatementTerm(s.Text))
		b = r.appendRow(b, i, "pgbench_run_statement_id", r.run.statements)
		b = appendInt(b, "line_id", int64(s.Line))
		b = r.appendFloat(b, "latency", s.Latency)
		b = appendUint(b, "result_id", id)
		b = append(b, `,"statements":[{"pgbench_statement_id":`...)
		b = strconv.AppendUint(b, id, 10)
		b = append(r.appendText(b, "statement", s.Text), "}]}"...)
	}
	return r.rendered(append(b, ']'))
}

func (r renderer) statStatements(result uint64, rows []pgperffarm.StatStatement) string {
	b := append(r.run.text[:0], '[')
	for i := range rows {
		row := &rows[i]
		r.run.statStatements++
		b = r.appendRow(b, i, "pg_stat_statements_id", r.run.statStatements)
		b = appendUint(b, "pgbench_result_id_id", result)
		b = appendUint(b, "query_id", r.run.term(pgperffarm.QueryTerm(row.Query)))
		b = appendKey(b, "queryid")
		if row.QueryID == nil {
			b = append(b, "null"...)
		} else {
			b = append(strconv.AppendInt(append(b, '"'), *row.QueryID, 10), '"')
		}
		b = r.appendText(b, "query", row.Query)
		b = appendCounters(b, row)
		b = append(r.appendTimes(b, row), '}')
	}
	return r.rendered(append(b, ']'))
}

func appendCounters(b []byte, s *pgperffarm.StatStatement) []byte {
	for _, column := range [...]struct {
		key   string
		value *int64
	}{
		{"userid", s.UserID},
		{"dbid", s.DBID},
		{"plans", s.Plans},
		{"calls", s.Calls},
		{"rows", s.Rows},
		{"shared_blks_hit", s.SharedBlksHit},
		{"shared_blks_read", s.SharedBlksRead},
		{"shared_blks_dirtied", s.SharedBlksDirtied},
		{"shared_blks_written", s.SharedBlksWritten},
		{"local_blks_hit", s.LocalBlksHit},
		{"local_blks_read", s.LocalBlksRead},
		{"local_blks_dirtied", s.LocalBlksDirtied},
		{"local_blks_written", s.LocalBlksWritten},
		{"temp_blks_read", s.TempBlksRead},
		{"temp_blks_written", s.TempBlksWritten},
		{"wal_records", s.WALRecords},
		{"wal_fpi", s.WALFPI},
		{"wal_bytes", s.WALBytes},
	} {
		if column.value == nil {
			b = append(appendKey(b, column.key), "null"...)
		} else {
			b = appendInt(b, column.key, *column.value)
		}
	}
	return b
}

func (r renderer) appendTimes(b []byte, s *pgperffarm.StatStatement) []byte {
	for _, column := range [...]struct {
		key   string
		value *float64
	}{
		{"total_plan_time", s.TotalPlanTime},
		{"min_plan_time", s.MinPlanTime},
		{"max_plan_time", s.MaxPlanTime},
		{"mean_plan_time", s.MeanPlanTime},
		{"stddev_plan_time", s.StddevPlanTime},
		{"total_exec_time", s.TotalExecTime},
		{"min_exec_time", s.MinExecTime},
		{"max_exec_time", s.MaxExecTime},
		{"mean_exec_time", s.MeanExecTime},
		{"stddev_exec_time", s.StddevExecTime},
		{"blk_read_time", s.BlkReadTime},
		{"blk_write_time", s.BlkWriteTime},
	} {
		if column.value == nil {
			b = append(appendKey(b, column.key), "null"...)
		} else {
			b = r.appendFloat(b, column.key, *column.value)
		}
	}
	return b
}

// renderCollectd gives all ten tables, the empty ones too.
func (r renderer) collectd(result uint64, plugins []pgperffarm.CollectdPlugin) string {
	b := append(r.run.text[:0], '{')
	for i, t := range r.run.tables {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, t.Name...)
		b = append(b, `":[`...)
		if len(plugins) > 0 && plugins[0].Name == t.Name {
			b = r.appendPlugin(b, result, &plugins[0])
			plugins = plugins[1:]
		}
		b = append(b, ']')
	}
	if len(plugins) > 0 {
		r.fail("collectd's table %q is unknown or out of order", plugins[0].Name)
	}
	return r.rendered(append(b, '}'))
}

func (r renderer) appendPlugin(b []byte, result uint64, plugin *pgperffarm.CollectdPlugin) []byte {
	idKey := "collectd_" + plugin.Name + "_id"
	for i := range plugin.Rows {
		row := &plugin.Rows[i]
		r.run.collectdRows[plugin.Name]++
		b = r.appendRow(b, i, idKey, r.run.collectdRows[plugin.Name])
		b = appendUint(b, "pgbench_result_id_id", result)
		b = r.appendFloat(b, "epoch", row.Epoch)
		for column, key := range plugin.Columns {
			if plugin.Float {
				b = r.appendFloat(b, key, row.Floats[column])
			} else {
				b = appendInt(b, key, row.Ints[column])
			}
		}
		b = append(b, '}')
	}
	return b
}

// rendered ends a text and keeps its memory for the next.
func (r renderer) rendered(b []byte) string {
	r.run.text = b
	return string(b)
}

// appendRow begins row i of an array with its id.
func (r renderer) appendRow(b []byte, i int, key string, ordinal int) []byte {
	if ordinal >= 1<<rowBits {
		r.fail("the document has more than %d rows with a %s", 1<<rowBits-1, key)
	}
	if i > 0 {
		b = append(b, ',')
	}
	b = append(b, `{"`...)
	b = append(b, key...)
	return strconv.AppendUint(append(b, `":`...), RowID(r.run.id, ordinal), 10)
}

func appendKey(b []byte, key string) []byte {
	b = append(b, `,"`...)
	b = append(b, key...)
	return append(b, `":`...)
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(appendKey(b, key), n, 10)
}

func appendUint(b []byte, key string, n uint64) []byte {
	return strconv.AppendUint(appendKey(b, key), n, 10)
}

// appendFloat writes a number as JavaScript does: plain up to 21 digits, with an exponent beyond.
func (r renderer) appendFloat(b []byte, key string, f float64) []byte {
	r.finite(key, f)
	format := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(appendKey(b, key), f, format, -1, 64)
}

func (r renderer) appendText(b []byte, key, text string) []byte {
	quoted, err := jsontext.AppendQuote(appendKey(b, key), text)
	if err != nil {
		r.fail("%s is not UTF-8: %w", key, err)
	}
	return quoted
}
