package testflinger

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/upload"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// filePart is the part of a form that holds the file (8).
const filePart = "file"

func (t *Testflinger) fileRoutes() []route.Route {
	form := []string{"multipart/form-data"}
	badForm, large := failed(400, "The form has no file, or ends early."), failed(413, "The file is too large.")
	routes := []route.Route{
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/job/:" + jobParam + "/attachments", summary: "Store the files that a job waits for",
			access: t.by(route.Anyone, people), params: named(jobParam), limit: 1, types: form, handler: t.attach,
			also: []route.Answer{badForm, large, told(422, "No such job waits, or it wants no files.")},
		}),
		t.route(endpoint{
			method: http.MethodPost, path: "/v1/result/:" + jobParam + "/artifact", summary: "Store the files that a job left",
			access: t.by(route.Anyone, agents), params: named(jobParam), limit: 1, types: form, handler: t.keepArtifact,
			also: []route.Answer{badForm, large},
		}),
	}
	for i := range routes {
		routes[i].GzipLimit = 0
		routes[i] = t.Files.Around(routes[i])
	}
	return routes
}

// attach answers POST /v1/job/{job_id}/attachments: the first complete upload counts (8). The log decides which that is.
func (t *Testflinger) attach(c *gin.Context) {
	id := c.Param(jobParam)
	if !testflinger.IsJobID(id) {
		say(c, http.StatusBadRequest, "Invalid job id")
		return
	}
	outcome, err := t.attached(c, id)
	switch {
	case err != nil:
		t.refuseFile(c, err)
	case outcome == jobs.NotAwaiting:
		say(c, http.StatusUnprocessableEntity, fmt.Sprintf("Job %s not awaiting attachments", id))
	case outcome != jobs.Done && outcome != jobs.Known:
		say(c, http.StatusUnprocessableEntity, fmt.Sprintf("Job %s is not valid", id))
	default:
		done(c)
	}
}

func (t *Testflinger) attached(c *gin.Context, id string) (jobs.Result, error) {
	result, err := t.wanted(c, id)
	if err != nil {
		return result, err
	}
	switch result {
	case jobs.Known: // a client that sends on needs the whole taken from it
		_, err := io.Copy(io.Discard, c.Request.Body)
		return result, err
	case jobs.Done:
	default:
		return result, nil
	}
	file, err := t.Files.Part(c, filePart)
	if err != nil {
		return result, err
	}
	outcome, err := t.decideJob(c, &event.JobAttachmentsStored{Job: byID(id), Document: file.Document})
	return outcome.Result, err
}

// wanted tells what would become of attachments for a job: Done that it waits for them.
func (t *Testflinger) wanted(c *gin.Context, id string) (result jobs.Result, err error) {
	look := func(s *jobs.State) { result = s.Attachable(byID(id)) }
	if t.Jobs.View(look); result == jobs.Done {
		return result, nil
	}
	if err := t.Jobs.CatchUp(c.Request.Context()); err != nil {
		return result, door.Refusal(err)
	}
	t.Jobs.View(look)
	return result, nil
}

// keepArtifact answers POST /v1/result/{job_id}/artifact. The job need not exist (2).
func (t *Testflinger) keepArtifact(c *gin.Context) {
	id := c.Param(jobParam)
	if !testflinger.IsJobID(id) {
		say(c, http.StatusBadRequest, "Invalid job id")
		return
	}
	file, err := t.Files.Part(c, filePart)
	if err == nil {
		job := jobs.ID(event.JobFamily_JOB_FAMILY_TESTFLINGER, 0, id)
		_, err = t.record(c, eventlog.Results, job, &event.JobArtifactStored{
			Job: job, Name: testflinger.ArtifactName, ContentType: testflinger.ArtifactType, Document: file.Document,
		})
	}
	if err != nil {
		t.refuseFile(c, err)
		return
	}
	done(c)
}

func (t *Testflinger) refuseFile(c *gin.Context, err error) {
	if errors.Is(err, upload.ErrNoPart) {
		err = route.Errorf(http.StatusBadRequest, "Bad Request: the form has no part %q", filePart)
	}
	refuse(c, err)
}
