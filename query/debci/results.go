package debci

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/route"
)

// results is the answer to GET /api/v1/test (5).
type results struct {
	Until   int64    `json:"until" doc:"Unix seconds of the newest creation among the results; 0 when there is none"`
	Results []result `json:"results"`
}

// result is a test as its owner sees it (5).
type result struct {
	RunID           uint64     `json:"run_id"`
	Package         string     `json:"package"`
	Suite           string     `json:"suite"`
	Arch            string     `json:"arch"`
	Trigger         *string    `json:"trigger"`
	Pins            [][]string `json:"pin_packages"`
	Status          *string    `json:"status" doc:"pass, fail, neutral or tmpfail; null while it waits or runs"`
	Version         *string    `json:"version" doc:"null while it waits or runs, and when it is in the reject list"`
	Message         *string    `json:"message"`
	DurationSeconds *int64     `json:"duration_seconds"`
	Date            *instant   `json:"date" doc:"when it ended"`
	CreatedAt       instant    `json:"created_at"`
	UpdatedAt       instant    `json:"updated_at"`
	Requestor       string     `json:"requestor"`
	Private         bool       `json:"is_private"`
	AptSources      []string   `json:"extra_apt_sources"`
}

// instant is a time in debci's form (1): UTC with exactly three digits of a fraction.
type instant struct{ time.Time }

// JSONForm is for the API's description.
func (instant) JSONForm() (route.Kind, string) { return route.String, "date-time" }

// MarshalJSONTo writes the string.
func (t instant) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteValue(t.UTC().AppendFormat(make([]byte, 0, 32), `"2006-01-02T15:04:05.000Z"`))
}

// list answers GET /api/v1/test.
func (d *Debci) list(c *gin.Context) {
	user, _ := route.Principal[access.DebciUser](c)
	since, err := seconds(c.Query("since"))
	if err != nil {
		route.Refuse(c, err)
		return
	}
	var found results
	err = d.read(c.Request.Context(), c.Request.Header, func(database string) error {
		found = results{Results: []result{}}
		return d.each(c.Request.Context(), database, user.Hash, since, func(t *test) error {
			r, err := d.show(c.Request.Context(), t)
			if err != nil {
				return err
			}
			r.Requestor = user.Name
			found.Until = max(found.Until, t.created.Unix())
			found.Results = append(found.Results, r)
			return nil
		})
	})
	if err != nil {
		route.Refuse(c, err)
		return
	}
	body, err := json.Marshal(&found)
	if err != nil {
		route.Refuse(c, fmt.Errorf("write results: %w", err))
		return
	}
	c.Header("Cache-Control", "no-store")
	c.Data(http.StatusOK, "application/json", body)
}

// seconds reads whole Unix seconds; nothing is the beginning of all time.
func seconds(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	since, err := strconv.ParseUint(text, 10, 63)
	if err != nil || text[0] == '+' {
		return 0, route.Errorf(http.StatusBadRequest, "Invalid parameter since: it must be a UNIX timestamp in whole seconds")
	}
	return since, nil
}

// test is a row about a test.
type test struct {
	run                        uint64
	created, updated, ended    time.Time
	private, published, isOver bool
	state, report              string
	projection.StoredDocument
}

// farFuture is later than any time of ClickHouse's, in Unix seconds.
const farFuture = 1 << 40

// changedTests first finds which tests changed, in narrow columns, and reads only the owner's among them whole.
const changedTests = `
	WITH changed AS (
		SELECT seq FROM {db}.jobs WHERE owner = unhex({owner:String}) AND toUnixTimestamp64Milli(submitted_at) >= {since:UInt64}
		UNION ALL
		SELECT seq FROM {db}.job_states WHERE ended AND toUnixTimestamp64Milli(at) >= {since:UInt64}
		UNION ALL
		SELECT seq FROM {db}.job_publications WHERE toUnixTimestamp64Milli(at) >= {since:UInt64}
	)
	SELECT j.seq, j.submitted_at, j.private, j.document, j.blob, j.blob_size, j.encoding, j.size,
		e.ended, e.at, e.state, e.result, p.seq != 0 AS published,
		greatest(j.submitted_at, if(e.ended, e.at, j.submitted_at), if(published, p.at, j.submitted_at)) AS updated
	FROM (SELECT * FROM {db}.jobs WHERE seq IN changed AND owner = unhex({owner:String}) LIMIT 1 BY seq) AS j
	LEFT JOIN (SELECT seq, ended, at, state, result FROM {db}.job_states FINAL WHERE seq IN changed AND ended) AS e ON e.seq = j.seq
	LEFT JOIN (SELECT seq, min(at) AS at FROM {db}.job_publications WHERE seq IN changed GROUP BY seq) AS p ON p.seq = j.seq
	WHERE j.family = 'debci' AND toUnixTimestamp64Milli(updated) >= {since:UInt64}
	ORDER BY updated, j.seq LIMIT {limit:UInt64} SETTINGS join_use_nulls = 0`

// each gives the tests of an owner that changed since a time, the oldest change first.
func (d *Debci) each(ctx context.Context, database string, owner registry.Hash, since uint64, look func(*test) error) error {
	rows, err := d.DB.Query(ctx, strings.ReplaceAll(changedTests, "{db}", database), ch.Named("owner", hex.EncodeToString(owner[:])),
		ch.Named("since", min(since, farFuture)*1000), ch.Named("limit", uint64(d.MaxRows)+1))
	if err != nil {
		return gate.Fault(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	count := 0
	for rows.Next() {
		if count++; count > d.MaxRows {
			return route.Errorf(http.StatusServiceUnavailable,
				"more than %d results are as new as this: ask for newer ones only, by the parameter since", d.MaxRows)
		}
		var t test
		err := rows.Scan(&t.run, &t.created, &t.private, &t.Inline, &t.Blob, &t.BlobSize, &t.Encoding, &t.Size,
			&t.isOver, &t.ended, &t.state, &t.report, &t.published, &t.updated)
		if err == nil {
			err = look(&t)
		}
		if err != nil {
			return err
		}
	}
	return gate.Fault(ctx, rows.Err())
}

// show gives a test as its owner sees it.
func (d *Debci) show(ctx context.Context, t *test) (result, error) {
	document, err := d.Packer.Unpack(ctx, t.Document())
	if err != nil {
		return result{}, fmt.Errorf("read test %d: %w", t.run, err)
	}
	request, err := debci.ReadRequest(document)
	if err != nil {
		return result{}, fmt.Errorf("read test %d: %w", t.run, err)
	}
	r := result{
		RunID: t.run, Package: request.Package, Suite: request.Suite, Arch: request.Arch, Trigger: request.Trigger,
		Pins: request.Pins, CreatedAt: instant{t.created}, UpdatedAt: instant{t.updated},
		Private: t.private && !t.published, AptSources: debci.Names(request.AptSources),
	}
	if !t.isOver {
		return r, nil
	}
	outcome := debci.Outcome(t.state == jobs.StateRejected, []byte(t.report))
	r.Status, r.Version, r.Message, r.DurationSeconds = &outcome.Status, orNull(outcome.Version), orNull(outcome.Message), outcome.DurationSeconds
	r.Date = &instant{t.ended}
	return r, nil
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// jobState is the answer to GET /api/v1/job_state (3).
type jobState struct {
	State string `json:"state" doc:"pending or completed"`
}

// state answers GET /api/v1/job_state/{run_id}: a worker asks before it starts.
func (d *Debci) state(c *gin.Context) {
	text := c.Param("run_id")
	run, err := strconv.ParseUint(text, 10, 63)
	known, completed := false, false
	if err == nil {
		err = d.read(c.Request.Context(), c.Request.Header, func(database string) (err error) {
			known, completed, err = d.isOver(c.Request.Context(), database, run)
			return err
		})
		if err != nil {
			route.Refuse(c, err)
			return
		}
	}
	switch {
	case !known:
		route.Fail(c, http.StatusBadRequest, "Job ID not known: "+text)
	case completed:
		writeJSON(c, jobState{"completed"})
	default:
		writeJSON(c, jobState{"pending"})
	}
}

func (d *Debci) isOver(ctx context.Context, database string, run uint64) (known, over bool, err error) {
	rows, err := d.DB.Query(ctx, strings.ReplaceAll(`
		SELECT (SELECT count() > 0 FROM {db}.jobs WHERE seq = ? AND family = 'debci'),
			(SELECT count() > 0 FROM {db}.job_states FINAL WHERE seq = ? AND ended)`, "{db}", database), run, run)
	if err != nil {
		return false, false, gate.Fault(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(&known, &over); err != nil {
			return false, false, err
		}
	}
	return known, over, gate.Fault(ctx, rows.Err())
}
