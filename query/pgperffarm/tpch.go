package pgperffarm

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

// tpchMachineRow is a machine with a scale factor that it has TPC-H results of (5.5.1).
type tpchMachineRow struct {
	ScaleFactor float64     `json:"scale_factor"`
	MachineID   uint64      `json:"machine_id"`
	Alias       hole        `json:"alias"`
	AddTime     instantHole `json:"add_time" doc:"of the machine"`
	Username    hole        `json:"username" doc:"of the owner"`
	Count       uint64      `json:"count" doc:"results"`
	LastRunTime timestamp   `json:"last_run_time"`
}

func (f *Farm) tpchMachines(*gin.Context) (page, error) {
	return page{key: "tpch", newest: everything, none: "[]", write: writeTPCHMachines}, nil
}

func writeTPCHMachines(ctx context.Context, q *reader, out *array) (time.Duration, error) {
	return 0, q.each(ctx, `SELECT scale_factor, machine_id, count(), max(add_time)
		FROM {db}.tpch_results FINAL WHERE run_id <= {newest:UInt64}
		GROUP BY scale_factor, machine_id ORDER BY scale_factor, machine_id`, func(rows driver.Rows) error {
		var row tpchMachineRow
		if err := rows.Scan(&row.ScaleFactor, &row.MachineID, &row.Count, &row.LastRunTime.Time); err != nil {
			return err
		}
		h := holes(row.MachineID)
		row.Alias, row.AddTime, row.Username = h.alias, instantHole{h.addTime}, h.username
		return out.add(&row)
	})
}

// tpchRow is a TPC-H run with the times of its queries (5.5.2).
type tpchRow struct {
	RunID           uint64         `json:"run_id"`
	MachineID       uint64         `json:"machine_id"`
	Alias           hole           `json:"alias"`
	AddTime         timestamp      `json:"add_time"`
	ScaleFactor     float64        `json:"scale_factor"`
	Streams         int32          `json:"streams"`
	PowerScore      float64        `json:"power_score"`
	ThroughputScore float64        `json:"throughput_score"`
	CompositeScore  float64        `json:"composite_score"`
	GitCommit       string         `json:"git_commit"`
	Name            string         `json:"name" doc:"branch"`
	Queries         []tpchQueryRow `json:"queries"`
}

// tpchQueryRow are the seconds of one of the 22 queries.
type tpchQueryRow struct {
	Index      int      `json:"query_idx"`
	Power      *float64 `json:"power" doc:"seconds in stream 0"`
	Throughput *float64 `json:"throughput" doc:"seconds, mean over the streams"`
}

func (f *Farm) tpchDetails(c *gin.Context) (page, error) {
	run, err := route.Int(c, "run_id")
	if err != nil {
		return page{}, err
	}
	id := uint64(run)
	return page{
		key: fmt.Sprintf("tpch/details/%d", id), newest: ofRun(id), missing: errMissing("TPC-H run", id),
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, q.writeTPCHDetails(ctx, id, out)
		},
	}, nil
}

func (q *reader) writeTPCHDetails(ctx context.Context, run uint64, out *array) error {
	row := tpchRow{RunID: run}
	found, err := q.one(ctx, `SELECT machine_id FROM {db}.runs WHERE run_id = {run:UInt64} AND benchmark = 'tpch' LIMIT 1`,
		[]any{&row.MachineID}, number("run", run))
	if err != nil || !found {
		return err
	}
	var index []uint8
	var power, throughput []*float64
	found, err = q.one(ctx, `SELECT add_time, scale_factor, streams, power_score, throughput_score, composite_score, commit, branch,
			query_idx, power, throughput
		FROM {db}.tpch_results WHERE machine_id = {machine:UInt64} AND run_id = {run:UInt64} LIMIT 1`,
		[]any{&row.AddTime.Time, &row.ScaleFactor, &row.Streams, &row.PowerScore, &row.ThroughputScore, &row.CompositeScore,
			&row.GitCommit, &row.Name, &index, &power, &throughput}, number("machine", row.MachineID), number("run", run))
	if err != nil || !found {
		return err
	}
	row.Alias = holes(row.MachineID).alias
	for i := range index {
		row.Queries = append(row.Queries, tpchQueryRow{Index: int(index[i]), Power: power[i], Throughput: throughput[i]})
	}
	return out.add(&row)
}

// tpchTrendRow is a commit on a branch, with statistics over its TPC-H results of a machine, scale factor and number of
// streams (5.5.3).
type tpchTrendRow struct {
	Alias         hole      `json:"alias"`
	Username      hole      `json:"username" doc:"of the owner"`
	BranchID      uint64    `json:"branch_id"`
	GitCommit     string    `json:"git_commit"`
	ScaleFactor   float64   `json:"scale_factor"`
	Streams       int32     `json:"streams"`
	Name          string    `json:"name" doc:"branch"`
	MachineID     uint64    `json:"machine_id"`
	MaxPower      float64   `json:"max_power_score"`
	MinPower      float64   `json:"min_power_score"`
	AvePower      float64   `json:"ave_power_score"`
	MaxThroughput float64   `json:"max_throughput_score"`
	MinThroughput float64   `json:"min_throughput_score"`
	AveThroughput float64   `json:"ave_throughput_score"`
	MaxComposite  float64   `json:"max_composite_score"`
	MinComposite  float64   `json:"min_composite_score"`
	AveComposite  float64   `json:"ave_composite_score"`
	AddTime       timestamp `json:"add_time" doc:"of the earliest run"`
	Count         int       `json:"count" doc:"results"`
}

// series names what the TPC-H results of a trend have in common.
type series struct {
	machine     uint64
	scaleFactor float64
}

func (s series) values() []driver.NamedValue {
	return []driver.NamedValue{number("machine", s.machine), number("scale_bits", math.Float64bits(s.scaleFactor))}
}

var decimal = regexp.MustCompile(`^(\d+\.?\d*|\.\d+)$`)

func parseSeries(c *gin.Context) (series, error) {
	machine, err := route.Int(c, "machine_id")
	if err != nil {
		return series{}, err
	}
	digits, err := route.Text(c, "scale_factor")
	if err != nil {
		return series{}, err
	}
	scale, err := strconv.ParseFloat(digits, 64)
	if err != nil || !decimal.MatchString(digits) {
		return series{}, route.Errorf(http.StatusNotFound, "nothing has this address: scale_factor must be a decimal number")
	}
	return series{machine: uint64(machine), scaleFactor: scale}, nil
}

func (f *Farm) tpchTrend(c *gin.Context) (page, error) {
	s, err := parseSeries(c)
	if err != nil {
		return page{}, err
	}
	return page{
		key: fmt.Sprintf("tpch/trend/%d/%g", s.machine, s.scaleFactor), newest: ofMachine(s.machine), none: "[]",
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, q.writeTPCHTrend(ctx, s, out)
		},
	}, nil
}

// writeTPCHTrend compares numbers bit by bit, for no text of a number is sure to be read back as the same one.
func (q *reader) writeTPCHTrend(ctx context.Context, s series, out *array) error {
	h := holes(s.machine)
	return q.each(ctx, `WITH arraySort(groupArray((run_id, power_score, throughput_score, composite_score))) AS scores
		SELECT commit, branch_id, any(branch), streams, min(add_time) AS added,
			arrayMap(s -> s.2, scores), arrayMap(s -> s.3, scores), arrayMap(s -> s.4, scores)
		FROM {db}.tpch_results FINAL
		WHERE machine_id = {machine:UInt64} AND scale_factor = reinterpretAsFloat64({scale_bits:UInt64})
			AND run_id <= {newest:UInt64}
		GROUP BY commit, branch_id, streams
		ORDER BY added DESC, min(run_id) DESC`, func(rows driver.Rows) error {
		row := tpchTrendRow{Alias: h.alias, Username: h.username, ScaleFactor: s.scaleFactor, MachineID: s.machine}
		var power, throughput, composite []float64
		err := rows.Scan(&row.GitCommit, &row.BranchID, &row.Name, &row.Streams, &row.AddTime.Time, &power, &throughput, &composite)
		if err != nil {
			return err
		}
		row.Count = len(power)
		p, t, c := summarize(power), summarize(throughput), summarize(composite)
		row.MaxPower, row.MinPower, row.AvePower = p.max, p.min, p.mean
		row.MaxThroughput, row.MinThroughput, row.AveThroughput = t.max, t.min, t.mean
		row.MaxComposite, row.MinComposite, row.AveComposite = c.max, c.min, c.mean
		return out.add(&row)
	}, s.values()...)
}

// tpchRunRow is a run behind a point of a TPC-H trend (5.5.4).
type tpchRunRow struct {
	RunID   uint64    `json:"run_id"`
	AddTime timestamp `json:"add_time"`
}

func (f *Farm) tpchRuns(c *gin.Context) (page, error) {
	s, err := parseSeries(c)
	if err != nil {
		return page{}, err
	}
	commit, err := route.Text(c, "commit")
	if err != nil {
		return page{}, err
	}
	return page{
		key: fmt.Sprintf("tpch/runs/%d/%g/%s", s.machine, s.scaleFactor, commit), newest: ofMachine(s.machine), none: "[]",
		write: func(ctx context.Context, q *reader, out *array) (time.Duration, error) {
			return 0, q.writeTPCHRuns(ctx, s, commit, out)
		},
	}, nil
}

func (q *reader) writeTPCHRuns(ctx context.Context, s series, commit string, out *array) error {
	return q.each(ctx, `SELECT run_id, add_time FROM {db}.tpch_results FINAL
		WHERE machine_id = {machine:UInt64} AND scale_factor = reinterpretAsFloat64({scale_bits:UInt64})
			AND endsWith(commit, {commit:String}) AND run_id <= {newest:UInt64}
		ORDER BY add_time DESC, run_id DESC`, func(rows driver.Rows) error {
		var row tpchRunRow
		if err := rows.Scan(&row.RunID, &row.AddTime.Time); err != nil {
			return err
		}
		return out.add(&row)
	}, append(s.values(), text("commit", commit))...)
}
