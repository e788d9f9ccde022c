package testflinger

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// maxResult bounds a result in bytes, without the output that Latest adds.
const maxResult = 64 << 20

// result answers GET /v1/result/{job_id} (4).
func (t *Testflinger) result(c *gin.Context) {
	id, err := jobID(c)
	if err == nil {
		err = t.read(c, func(r *reading) error { return r.writeResult(c, id) }, eventlog.Jobs, eventlog.Results, eventlog.JobOutput)
	}
	switch {
	case errors.Is(err, errNoJob):
		nothing(c)
	case err != nil:
		route.Refuse(c, err)
	}
}

func (r *reading) writeResult(c *gin.Context, id string) error {
	job, err := r.find(id)
	if err != nil {
		return err
	}
	if job == nil {
		return errNoJob
	}
	members, err := r.members(id)
	if err != nil {
		return err
	}
	if members["job_state"], err = json.Marshal(job.State); err != nil {
		return err
	}
	out := newStream(c)
	if r.Generation == testflinger.Latest {
		if err = flatten(members); err == nil {
			err = r.addLogs(out, id, members)
		}
	} else {
		err = out.value(members)
	}
	return out.end(err)
}

// members merges what was posted to a job's result. Of each member the newest counts.
func (r *reading) members(id string) (map[string]jsontext.Value, error) {
	newest, size := map[string]uint64{}, map[uint64]uint64{}
	err := r.query(`SELECT version, members, size FROM {db}.testflinger_results WHERE job_id = ? ORDER BY version LIMIT 1 BY event_id`,
		func(rows driver.Rows) error {
			var version, bytes uint64
			var names []string
			if err := rows.Scan(&version, &names, &bytes); err != nil {
				return err
			}
			for _, name := range names {
				newest[name] = version
			}
			size[version] = bytes
			return nil
		}, id)
	if err != nil || len(newest) == 0 {
		return map[string]jsontext.Value{}, err
	}
	needed := slices.Compact(slices.Sorted(maps.Values(newest)))
	total := uint64(0)
	for _, version := range needed {
		total += size[version]
	}
	if total > maxResult {
		return nil, route.Errorf(http.StatusServiceUnavailable, "the result of job %s has %d bytes: an answer has at most %d", id, total, maxResult)
	}
	return r.merge(id, needed, newest)
}

// merge reads documents, and takes from each the members of which it is the newest.
func (r *reading) merge(id string, needed []uint64, newest map[string]uint64) (map[string]jsontext.Value, error) {
	merged := make(map[string]jsontext.Value, len(newest)+1)
	err := r.query(`SELECT version, document, blob, blob_size, encoding, size FROM {db}.testflinger_results WHERE job_id = ? AND version IN (?)
		LIMIT 1 BY version`, func(rows driver.Rows) error {
		var version uint64
		var stored projection.StoredDocument
		if err := rows.Scan(&version, &stored.Inline, &stored.Blob, &stored.BlobSize, &stored.Encoding, &stored.Size); err != nil {
			return err
		}
		body, err := r.Packer.Unpack(r.ctx, stored.Document())
		if err != nil {
			return fmt.Errorf("read the result of job %s: %w", id, err)
		}
		posted := map[string]jsontext.Value{}
		if err := json.Unmarshal(body, &posted, jsontext.AllowInvalidUTF8(true)); err != nil {
			return fmt.Errorf("read the result of job %s: %w", id, err)
		}
		for name, value := range posted {
			if newest[name] == version {
				merged[name] = value
			}
		}
		return nil
	}, id, needed)
	return merged, err
}

// flatten brings the newer generation's status into the older one's form (4).
func flatten(members map[string]jsontext.Value) error {
	status := map[string]jsontext.Value{}
	if given := members["status"]; given != nil {
		if err := json.Unmarshal(given, &status); err != nil {
			return fmt.Errorf("read a result's status: %w", err)
		}
	}
	delete(members, "status")
	for phase, code := range status {
		members[phase+"_status"] = code
	}
	return nil
}

// logKinds are the kinds of logs, and how members of a result end that show them (4).
var logKinds = []struct{ kind, suffix string }{{"output", "_output"}, {"serial", "_serial"}}

// addLogs writes a result with the logs of the phases that have any.
func (r *reading) addLogs(out *streamed, id string, members map[string]jsontext.Value) error {
	var logs []func() error
	for _, log := range logKinds {
		written, err := r.written(id, log.kind)
		if err != nil {
			return err
		}
		for _, phase := range testflinger.Phases() {
			if !written[phase] {
				continue
			}
			name := phase + log.suffix
			delete(members, name)
			logs = append(logs, func() error {
				if err := out.raw(`,"` + name + `":"`); err != nil {
					return err
				}
				if _, err := r.writeFragments(out, id, fragmentFilter{kind: log.kind, phase: phase}); err != nil {
					return err
				}
				return out.raw(`"`)
			})
		}
	}
	body, err := json.Marshal(members, json.Deterministic(true)) // it has a state, if nothing else
	if err == nil {
		err = out.raw(strings.TrimSuffix(string(body), "}"))
	}
	for _, write := range logs {
		if err == nil {
			err = write()
		}
	}
	if err != nil {
		return err
	}
	return out.raw("}")
}
