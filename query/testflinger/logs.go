package testflinger

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// fragmentFilter says which pieces of a log are wanted.
type fragmentFilter struct {
	kind string
	// phase is one of the phases; empty for all, in a request.
	phase string
	// first is the least number, since the earliest time.
	first int64
	since time.Time
}

// written tells which phases have any log of a kind.
func (r *reading) written(id, kind string) (map[string]bool, error) {
	phases := map[string]bool{}
	err := r.query("SELECT DISTINCT phase FROM {db}.job_output WHERE job_id = ? AND kind = ?", func(rows driver.Rows) error {
		var phase string
		err := rows.Scan(&phase)
		phases[phase] = true
		return err
	}, id, kind)
	return phases, err
}

// writeFragments writes the log of a phase as a part of a JSON string, by number, and gives the last number. A piece that
// an agent sent again counts once.
func (r *reading) writeFragments(out *streamed, id string, f fragmentFilter) (last int64, err error) {
	text := `SELECT assumeNotNull(fragment), document, blob, blob_size, encoding, size FROM {db}.job_output
		WHERE job_id = ? AND kind = ? AND phase = ? AND fragment >= ?`
	parameters := []any{id, f.kind, f.phase, f.first}
	if !f.since.IsZero() {
		text += " AND fragment_at >= fromUnixTimestamp64Milli(toInt64(?), 'UTC')"
		parameters = append(parameters, f.since.UnixMilli())
	}
	last = noFragment
	err = r.query(text+" ORDER BY fragment, version LIMIT 1 BY fragment, fragment_at", func(rows driver.Rows) error {
		var stored projection.StoredDocument
		if err := rows.Scan(&last, &stored.Inline, &stored.Blob, &stored.BlobSize, &stored.Encoding, &stored.Size); err != nil {
			return err
		}
		piece, err := r.Packer.Unpack(r.ctx, stored.Document())
		if err != nil {
			return fmt.Errorf("read the log of job %s: %w", id, err)
		}
		return out.quote(piece)
	}, parameters...)
	return last, err
}

// log answers GET /v1/result/{job_id}/log/{log_type} (2, Latest).
func (t *Testflinger) log(c *gin.Context) {
	id, err := jobID(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	kind, err := route.Text(c, logParam)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	filter, faults := readFragmentFilter(c)
	if len(faults) > 0 {
		access.TestflingerJSON(c, http.StatusBadRequest, gin.H{"detail": gin.H{}, "message": faults})
		return
	}
	filter.kind = kind
	if err := t.read(c, func(r *reading) error { return r.writeLog(c, id, filter) }, eventlog.JobOutput); err != nil {
		route.Refuse(c, err)
	}
}

func readFragmentFilter(c *gin.Context) (f fragmentFilter, faults testflinger.Faults) {
	faults = testflinger.Faults{}
	for name, values := range c.Request.URL.Query() {
		value := values[0]
		var err error
		switch name {
		case "phase":
			if f.phase = value; !slices.Contains(testflinger.Phases(), value) {
				faults[name] = []string{"Must be one of: " + strings.Join(testflinger.Phases(), ", ") + "."}
			}
		case "start_fragment":
			if f.first, err = strconv.ParseInt(value, 10, 64); err != nil {
				faults[name] = []string{"Not a valid integer."}
			} else if f.first < 0 {
				faults[name] = []string{"Must be greater than or equal to 0."}
			}
		case "start_timestamp":
			if f.since, err = testflinger.ParseTime(value); err != nil {
				faults[name] = []string{"Not a valid datetime."}
			}
		default:
			faults[name] = []string{"Unknown field."}
		}
	}
	return f, faults
}

// noFragment is the number that stands where there is no piece.
const noFragment = -1

// writeLog writes the log of each phase that is asked for, also where there is nothing.
func (r *reading) writeLog(c *gin.Context, id string, f fragmentFilter) error {
	written, err := r.written(id, f.kind)
	if err != nil {
		return err
	}
	phases := testflinger.Phases()
	if f.phase != "" {
		phases = []string{f.phase}
	}
	out := newStream(c)
	before := `{"` + f.kind + `":{"`
	for _, phase := range phases {
		f.phase = phase
		if err == nil {
			err = r.writePhase(out, before, id, f, written[phase])
		}
		before = `,"`
	}
	if err == nil {
		err = out.raw("}}")
	}
	return out.end(err)
}

func (r *reading) writePhase(out *streamed, before, id string, f fragmentFilter, any bool) error {
	err := out.raw(before + f.phase + `":{"log_data":"`)
	last := int64(noFragment)
	if err == nil && any {
		last, err = r.writeFragments(out, id, f)
	}
	if err != nil {
		return err
	}
	return out.raw(`","last_fragment_number":` + strconv.FormatInt(last, 10) + "}")
}
