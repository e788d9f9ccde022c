package testflinger

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

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
	members, err := r.Reader.At(r.generation).Posted(r.ctx, r.Packer, id)
	if large, is := errors.AsType[*lab.TooLarge](err); is {
		return route.Busy(retryTooLarge, "%v", large)
	}
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
