package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/loadtest/direct"
	"github.com/millrace/millrace/loadtest/load"
	"github.com/millrace/millrace/loadtest/report"
	"github.com/millrace/millrace/loadtest/wire"
)

// trend measures trends over a table of very many metric rows, first asked for and repeated, beside the same statements
// sent straight to ClickHouse.
type trend struct {
	Common `yaml:",inline"`
	// Rows is how many metric rows there are, in Series of equal length with a sample every Every.
	Rows   int           `yaml:"rows"`
	Series int           `yaml:"series"`
	Every  time.Duration `yaml:"every"`
	// Resolutions are asked for one after the other: hour, day or week. Span is how much time one trend shows.
	Resolutions []string      `yaml:"resolutions"`
	Span        time.Duration `yaml:"span"`
	// Requests is how many trends each turn asks for: first another one each time, then the last Repeats of them again and
	// again, which are to fit into the cache.
	Requests    int   `yaml:"requests"`
	Repeats     int   `yaml:"repeats"`
	Connections []int `yaml:"connections"`
}

// resolutions in seconds.
var resolutions = map[string]uint32{"hour": 3600, "day": 24 * 3600, "week": 7 * 24 * 3600}

func (t *trend) validate() error {
	errs := []error{
		apart(&t.Common), between("series", t.Series, 1, 100_000), between("requests", t.Requests, 1, 1_000_000),
		between("repeats", t.Repeats, 1, t.Requests),
		between("number of connections", len(t.Connections), 1, 10), between("number of resolutions", len(t.Resolutions), 1, 3),
	}
	for _, name := range t.Resolutions {
		if resolutions[name] == 0 {
			errs = append(errs, fmt.Errorf("resolutions: %q is none of hour, day and week", name))
		}
	}
	if t.Every < time.Millisecond || t.Span <= 0 {
		errs = append(errs, fmt.Errorf("every: %s and span: %s must be times", t.Every, t.Span))
	}
	if t.Series > 0 && (t.Rows < t.Series || time.Duration(t.Rows/t.Series) > 20*365*24*time.Hour/max(t.Every, 1)) {
		errs = append(errs, fmt.Errorf("rows: %d rows in %d series are not from one sample to twenty years each", t.Rows, t.Series))
	}
	for _, n := range t.Connections {
		errs = append(errs, between("connections", n, 1, 16))
	}
	return errors.Join(errs...)
}

func (t *trend) run(l *lab) error {
	engines, err := direct.Connect(l.ctx, l.target)
	if err != nil {
		return err
	}
	defer engines.Close()
	grid := &direct.Grid{
		Seed: l.seed, Series: t.Series, Rows: t.Rows / t.Series, Every: t.Every, Start: time.Date(2021, 1, 4, 0, 0, 0, 0, time.UTC),
	}
	for _, machine := range l.target.Machines {
		grid.Machines = append(grid.Machines, machine.ID)
	}
	if err := t.fill(l, engines, grid); err != nil {
		return err
	}
	m := &trendMeasurement{lab: l, engines: engines, grid: grid, span: t.Span, requests: t.Requests, repeats: t.Repeats, random: rand.New(rand.NewPCG(l.seed, 4))}
	if m.database, err = engines.Projections(l.ctx); err != nil {
		return err
	}
	table := l.result.Table(fmt.Sprintf("Trends over %d metric rows in %d series", t.Rows, t.Series), "resolution", "connections", "how",
		"requests", "a second", "p50 ms", "p99 ms", "max ms")
	for _, resolution := range t.Resolutions {
		if err := m.compare(resolution); err != nil {
			return err
		}
		for _, connections := range t.Connections {
			if err := m.measure(resolution, connections, table); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *trend) fill(l *lab, engines *direct.Engines, grid *direct.Grid) error {
	done := 0
	l.progress.Phase("making rows and trends", func() string { return fmt.Sprintf("%d of %d series", done, grid.Series) })
	began := time.Now()
	for ; done < grid.Series; done += grid.Chunk() {
		if err := engines.Fill(l.ctx, grid, done, min(grid.Chunk(), grid.Series-done)); err != nil {
			return err
		}
	}
	l.result.Figure("trend.fill", float64(t.Rows)/time.Since(began).Seconds(), "rows/s")
	l.progress.Phase("waiting for merges", nil)
	metrics, trends, err := engines.AwaitMerges(l.ctx, 5*time.Minute)
	l.result.Figure("trend.parts.metrics", float64(metrics), "")
	l.result.Figure("trend.parts.trend_buckets", float64(trends), "")
	return err
}

// trendMeasurement asks for trends of a grid.
type trendMeasurement struct {
	lab      *lab
	engines  *direct.Engines
	database string
	grid     *direct.Grid
	span     time.Duration
	requests int
	repeats  int
	random   *rand.Rand
	// asked counts the requests: no two are the same, unless they are meant to be.
	asked int
}

// fresh gives requests that were never made: each of a series at random, with a range of its own.
func (m *trendMeasurement) fresh(resolution string, n int) []direct.TrendRequest {
	list := make([]direct.TrendRequest, n)
	free := max(1, int64(m.grid.End().Sub(m.grid.Start)-m.span)/int64(time.Second))
	for i := range list {
		m.asked++
		series := m.random.IntN(m.grid.Series)
		from := m.grid.Start.Add(time.Duration(m.random.Int64N(free))*time.Second + time.Duration(m.asked)*time.Millisecond)
		list[i] = direct.TrendRequest{
			Machine: m.grid.Machine(series), Metric: m.grid.Metric(series), From: from, To: from.Add(m.span), Resolution: resolutions[resolution],
		}
	}
	return list
}

func path(r direct.TrendRequest, resolution string) string {
	return "/millrace/v1/trend?" + url.Values{
		"machine": {strconv.FormatUint(r.Machine, 10)}, "config": {"0"}, "branch": {strconv.Itoa(direct.Branch)}, "metric": {r.Metric},
		"from": {r.From.Format(time.RFC3339Nano)}, "to": {r.To.Format(time.RFC3339Nano)}, "resolution": {resolution},
	}.Encode()
}

// compare checks that the statements that are sent straight to ClickHouse give what the API gives.
func (m *trendMeasurement) compare(resolution string) error {
	const some = 20
	differ, points := 0, 0
	for _, request := range m.fresh(resolution, some) {
		sql, err := m.engines.Trend(m.lab.ctx, m.database, request)
		if err != nil {
			return err
		}
		var api struct {
			Items []direct.TrendPoint `json:"items"`
		}
		conn, err := m.dial(m.lab.ctx)
		if err != nil {
			return err
		}
		answer, err := m.get(conn, path(request, resolution))
		if err == nil {
			err = json.Unmarshal(answer, &api)
		}
		_ = conn.Close()
		if err != nil {
			return err
		}
		same := slices.EqualFunc(sql, api.Items, func(a, b direct.TrendPoint) bool {
			return a.Time.Equal(b.Time) && a.Count == b.Count && a.Mean == b.Mean && a.P99 == b.P99
		})
		if !same {
			differ++
		}
		points += len(sql)
	}
	m.lab.result.Promise("trends by "+resolution+" through the API are what the same SQL gives", differ == 0 && points > 0, nil,
		"%d trends with %d points compared, %d differ", some, points, differ)
	return nil
}

func (m *trendMeasurement) dial(ctx context.Context) (*wire.Conn, error) {
	return wire.Dial(ctx, m.lab.target.Host, time.Minute)
}

func (m *trendMeasurement) get(conn *wire.Conn, path string) ([]byte, error) {
	answer, err := conn.Do(wire.Head(http.MethodGet, m.lab.target.Host, path, 0, "Authorization", "Bearer "+m.lab.target.Token), nil)
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d: %s", path, answer.Status, answer.Body)
	}
	return answer.Body, err
}

// measure asks for trends that were never asked for, for the last of them again and again, and by SQL.
func (m *trendMeasurement) measure(resolution string, connections int, table *report.Table) error {
	fresh, other := m.fresh(resolution, m.requests), m.fresh(resolution, m.requests)
	paths, repeated := make([]string, m.requests), make([]string, m.requests)
	for i := range fresh {
		paths[i] = path(fresh[i], resolution)
	}
	for i := range repeated {
		repeated[i] = paths[m.requests-m.repeats+i%m.repeats]
	}
	turn := func(name, figure string, open load.Opener) error {
		m.lab.progress.Phase(fmt.Sprintf("trends by %s, %s, %d connections", resolution, name, connections), nil)
		round, err := load.Closed{Senders: connections, Requests: m.requests}.Run(m.lab.ctx, open)
		if err != nil {
			return err
		}
		times := round.Latencies.Summary()
		table.Row(resolution, strconv.Itoa(connections), name, strconv.Itoa(round.Requests), fmt.Sprintf("%.0f", round.Rate()),
			fmt.Sprintf("%.2f", times.P50), fmt.Sprintf("%.2f", times.P99), fmt.Sprintf("%.2f", times.Max))
		figure = fmt.Sprintf("trend.%s.%d.%s", resolution, connections, figure)
		m.lab.result.Figure(figure+".p50", times.P50, "ms")
		m.lab.result.Figure(figure+".p99", times.P99, "ms")
		return nil
	}
	if err := turn("uncached", "uncached", m.api(paths)); err != nil {
		return err
	}
	before, err := m.computed()
	if err != nil {
		return err
	}
	if err := turn("cached", "cached", m.api(repeated)); err != nil {
		return err
	}
	after, err := m.computed()
	if err != nil {
		return err
	}
	m.lab.result.Promise(fmt.Sprintf("repeated trends by %s ask ClickHouse nothing, %d connections", resolution, connections), after == before, nil,
		"%d requests for %d trends, %.0f computed", m.requests, m.repeats, after-before)
	return turn("same SQL", "sql", func(ctx context.Context, _ int) (func(int) error, func(), error) {
		return func(i int) error {
			_, err := m.engines.Trend(ctx, m.database, other[i])
			return err
		}, func() {}, nil
	})
}

// computed is how many answers the target has not had from a cache so far.
func (m *trendMeasurement) computed() (float64, error) {
	answers, err := m.lab.target.Counters(m.lab.ctx, "millrace_cache_requests_total", "from")
	return answers["computed"], err
}

func (m *trendMeasurement) api(paths []string) load.Opener {
	return func(ctx context.Context, _ int) (func(int) error, func(), error) {
		conn, err := m.dial(ctx)
		if err != nil {
			return nil, nil, err
		}
		return func(i int) error {
			_, err := m.get(conn, paths[i])
			return err
		}, func() { _ = conn.Close() }, nil
	}
}
