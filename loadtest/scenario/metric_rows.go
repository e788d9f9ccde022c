package scenario

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/loadtest/direct"
	"github.com/millrace/millrace/loadtest/farm"
)

// metricRows measures how many metric rows a second go from the log into ClickHouse, trends included, beside clickhouse-go
// inserting the same columns into a table of the same schema. The two take turns.
type metricRows struct {
	Common `yaml:",inline"`
	// Rows is how many each turn moves, Samples how many an event has, Block how many one insert of clickhouse-go sends.
	Rows    int `yaml:"rows"`
	Samples int `yaml:"samples"`
	Block   int `yaml:"block"`
	Rounds  int `yaml:"rounds"`
}

func (m *metricRows) validate() error {
	return errors.Join(apart(&m.Common), between("rows", m.Rows, 1000, 50_000_000), between("samples", m.Samples, 1, 10_000),
		between("block", m.Block, 1, 1_000_000), between("rounds", m.Rounds, 1, 100))
}

func (m *metricRows) run(l *lab) error {
	engines, err := direct.Connect(l.ctx, l.target)
	if err != nil {
		return err
	}
	defer engines.Close()
	if err := engines.MakeBareTable(l.ctx); err != nil {
		return err
	}
	filler, err := direct.NewFiller(engines, l.target.Machines, farm.Plan{Seed: l.seed}, m.Samples)
	if err != nil {
		return err
	}
	var mine, theirs, appends []float64
	events := 0
	for turn := range m.Rounds + 1 {
		l.progress.Phase(fmt.Sprintf("%d rows, turn %d of %d", m.Rows, turn, m.Rounds), nil)
		rows, err := filler.Prepare(events, m.Rows, m.Block)
		if err != nil {
			return err
		}
		events += rows.Events()
		appended, projected, err := engines.ThroughLog(l.ctx, rows)
		if err != nil {
			return err
		}
		if err := engines.Settle(l.ctx); err != nil {
			return err
		}
		inserted, err := engines.Insert(l.ctx, rows)
		if err != nil {
			return err
		}
		if turn > 0 { // the first turn warms both up
			count := float64(rows.Count())
			mine, theirs = append(mine, count/projected.Seconds()), append(theirs, count/inserted.Seconds())
			appends = append(appends, count/appended.Seconds())
		}
	}
	m.tell(l, median(mine), median(theirs), median(appends))
	return m.verify(l, engines, int64(events)*int64(m.Samples))
}

func (m *metricRows) tell(l *lab, mine, theirs, appends float64) {
	table := l.result.Table(fmt.Sprintf("Metric rows a second (medians of %d turns of %d rows)", m.Rounds, m.Rows),
		"appended to the log", "log to ClickHouse", "clickhouse-go", "ratio")
	table.Row(fmt.Sprintf("%.0f", appends), fmt.Sprintf("%.0f", mine), fmt.Sprintf("%.0f", theirs), fmt.Sprintf("%.2f", mine/theirs))
	l.result.Figure("metrics.appended", appends, "rows/s")
	l.result.Figure("metrics.millrace", mine, "rows/s")
	l.result.Figure("metrics.clickhouse_go", theirs, "rows/s")
	l.result.Figure("metrics.ratio", mine/theirs, "")
}

// verify counts the rows and what the trends make of them.
func (m *metricRows) verify(l *lab, engines *direct.Engines, wanted int64) error {
	raw, hours, err := engines.CountMetric(l.ctx, "load.rows")
	if err != nil {
		return err
	}
	l.result.Promise("every sample is there once and counts once in the trends", raw == wanted && hours == wanted, nil,
		"%d appended, %d raw rows, %d in the trends of hours", wanted, raw, hours)
	return nil
}
