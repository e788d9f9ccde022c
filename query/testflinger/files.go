package testflinger

import (
	"net/http"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/download"
	"github.com/millrace/millrace/query/native/artifacts"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

func (t *Testflinger) fileRoutes() []route.Route {
	badID := route.Answer{Status: 400, Body: "", ContentType: "text/html", Description: "The id is no UUID."}
	partly := []route.Answer{noData("There is no such file, or it has expired."), {Status: 206, Body: "", ContentType: "application/octet-stream", Description: "The part that was asked for."}}
	also := []route.Answer{partly[0], partly[1], badID, failed(416, "The range lies behind the file's end.")}
	routes := []route.Route{
		t.route(endpoint{
			path: "/v1/job/:" + jobParam + "/attachments", summary: "Get the files that were attached to a job", access: t.by(route.TestflingerAgents),
			params: inPath(jobParam), also: also, handler: t.attachments,
		}),
		t.route(endpoint{
			path: "/v1/result/:" + jobParam + "/artifact", summary: "Get the files that a job left", access: t.by(people),
			params: inPath(jobParam), also: also, handler: t.artifact,
		}),
	}
	for i := range routes {
		routes[i].Timeout, routes[i].Streams = download.Timeout, true
		routes[i].Answers[0].ContentType = "application/octet-stream"
	}
	return routes
}

// attachments answers GET /v1/job/{job_id}/attachments (2, 8).
func (t *Testflinger) attachments(c *gin.Context) {
	t.send(c, func(r *reading, id string) (*download.File, error) {
		var found *download.File
		err := r.query(`SELECT blob, blob_size FROM {db}.job_attachments
			WHERE seq IN (SELECT seq FROM {db}.jobs WHERE job_id = ? AND family = 'testflinger') AND blob != ''
				AND event_id NOT IN (SELECT event_id FROM {db}.file_expiries WHERE event_id IN
					(SELECT event_id FROM {db}.job_attachments WHERE seq IN (SELECT seq FROM {db}.jobs WHERE job_id = ?)))
			ORDER BY at DESC, seq DESC LIMIT 1`, func(rows driver.Rows) error {
			var sum string
			var size uint64
			if err := rows.Scan(&sum, &size); err != nil {
				return err
			}
			ref, err := blob.NewRef([]byte(sum), int64(size))
			found = &download.File{Ref: ref, ContentType: "application/gzip", Disposition: "inline; filename=attachments.tar.gz"}
			return err
		}, id, id)
		return found, err
	}, eventlog.Jobs, eventlog.Results)
}

// artifact answers GET /v1/result/{job_id}/artifact: the newest that was uploaded (2, 8).
func (t *Testflinger) artifact(c *gin.Context) {
	t.send(c, func(r *reading, id string) (*download.File, error) {
		job := jobs.ID(event.JobFamily_JOB_FAMILY_TESTFLINGER, 0, id)
		_, refs, err := artifacts.Newest(r.ctx, r.DB, r.generation, job, testflinger.ArtifactName)
		if err != nil || len(refs) == 0 {
			return nil, err
		}
		return &download.File{
			Ref: refs[0], ContentType: testflinger.ArtifactType, Disposition: "inline; filename=" + testflinger.ArtifactName,
		}, nil
	}, eventlog.Results)
}

// send answers with the file that is found, if any.
func (t *Testflinger) send(c *gin.Context, find func(r *reading, id string) (*download.File, error), topics ...string) {
	id := c.Param(jobParam)
	if !testflinger.IsJobID(id) {
		access.TestflingerText(c, http.StatusBadRequest, "Invalid job id")
		return
	}
	var file *download.File
	err := t.read(c, func(r *reading) (err error) {
		file, err = find(r, id)
		return err
	}, topics...)
	switch {
	case err != nil:
		route.Refuse(c, err)
	case file == nil:
		nothing(c)
	default:
		t.Sender.Send(c, *file)
	}
}
