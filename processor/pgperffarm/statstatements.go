package pgperffarm

import (
	"math"

	"github.com/go-json-experiment/json/jsontext"
)

// statStatements reads rows of pg_stat_statements. Columns that this version of PostgreSQL does not have, or that are
// null, stay nil; columns that are not known are ignored.
func (p *parser) statStatements() []StatStatement {
	var rows []StatStatement
	for range p.elements() {
		var row StatStatement
		p.object([]string{"query"}, func(name []byte) bool {
			if string(name) == "query" {
				row.Query = p.text(0)
				return true
			}
			counter, measure := row.column(name)
			switch {
			case counter == nil && measure == nil:
				return false
			case p.kind() == jsontext.KindNull:
				return false
			case counter != nil:
				n := p.looseInteger(math.MinInt64, math.MaxInt64)
				*counter = &n
			default:
				f := p.looseNumber()
				*measure = &f
			}
			return true
		})
		if !p.roomFor(&p.counts.statStatements, 1, "rows of pg_stat_statements") {
			return nil
		}
		rows = append(rows, row)
	}
	return rows
}

// column finds the field of a column: an integer, a number, or neither.
func (s *StatStatement) column(name []byte) (counter **int64, measure **float64) {
	switch string(name) {
	case "queryid":
		return &s.QueryID, nil
	case "userid":
		return &s.UserID, nil
	case "dbid":
		return &s.DBID, nil
	case "plans":
		return &s.Plans, nil
	case "calls":
		return &s.Calls, nil
	case "rows":
		return &s.Rows, nil
	case "wal_records":
		return &s.WALRecords, nil
	case "wal_fpi":
		return &s.WALFPI, nil
	case "wal_bytes":
		return &s.WALBytes, nil
	}
	if counter = s.blockColumn(name); counter != nil {
		return counter, nil
	}
	return nil, s.timeColumn(name)
}

func (s *StatStatement) blockColumn(name []byte) **int64 {
	switch string(name) {
	case "shared_blks_hit":
		return &s.SharedBlksHit
	case "shared_blks_read":
		return &s.SharedBlksRead
	case "shared_blks_dirtied":
		return &s.SharedBlksDirtied
	case "shared_blks_written":
		return &s.SharedBlksWritten
	case "local_blks_hit":
		return &s.LocalBlksHit
	case "local_blks_read":
		return &s.LocalBlksRead
	case "local_blks_dirtied":
		return &s.LocalBlksDirtied
	case "local_blks_written":
		return &s.LocalBlksWritten
	case "temp_blks_read":
		return &s.TempBlksRead
	case "temp_blks_written":
		return &s.TempBlksWritten
	}
	return nil
}

func (s *StatStatement) timeColumn(name []byte) **float64 {
	switch string(name) {
	case "total_plan_time":
		return &s.TotalPlanTime
	case "min_plan_time":
		return &s.MinPlanTime
	case "max_plan_time":
		return &s.MaxPlanTime
	case "mean_plan_time":
		return &s.MeanPlanTime
	case "stddev_plan_time":
		return &s.StddevPlanTime
	case "total_exec_time":
		return &s.TotalExecTime
	case "min_exec_time":
		return &s.MinExecTime
	case "max_exec_time":
		return &s.MaxExecTime
	case "mean_exec_time":
		return &s.MeanExecTime
	case "stddev_exec_time":
		return &s.StddevExecTime
	case "blk_read_time":
		return &s.BlkReadTime
	case "blk_write_time":
		return &s.BlkWriteTime
	}
	return nil
}
