package jobs

import (
	"encoding/hex"
	"mime"
	"net/http"
	"regexp"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/native"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Artifact is the answer to an artifact.
type Artifact struct {
	Name   string `json:"name"`
	Size   uint64 `json:"size" doc:"in bytes"`
	SHA256 string `json:"sha256" doc:"of the content, in hexadecimal digits"`
}

var artifactName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@+=-]{0,199}$`)

func (j *Jobs) artifactRoute() route.Route {
	return j.Files.Around(route.Route{
		Method: http.MethodPut, Path: "/millrace/v1/jobs/:id/artifacts/:name", Side: route.Ingest, API: native.API, Access: route.TokenWriter,
		Summary: "Store a file that a job left; of a name the newest of the latest attempt counts",
		Params: append(leaseParams(), route.Param{
			Name: "name", Description: "The file's name: letters, digits and _ . @ + = -, at most 200, beginning with a letter, a digit or _.",
		}),
		Body: "", ContentTypes: []string{"application/octet-stream"},
		Answers: answers(
			route.Answer{Status: 201, Body: Artifact{}, Description: "The file is stored."},
			failure(400, "The header is missing, the name is not good, or the body ends early."),
			noSuchJob(), failure(408, "The body did not arrive in time."), staleLease(),
			failure(413, "The file is over the limit."),
		),
		Handler: j.artifact,
	})
}

// artifact answers PUT /millrace/v1/jobs/{id}/artifacts/{name}.
func (j *Jobs) artifact(c *gin.Context) {
	stored, err := j.storeArtifact(c)
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.JSON(http.StatusCreated, stored)
}

func (j *Jobs) storeArtifact(c *gin.Context) (*Artifact, error) {
	name := c.Param("name")
	if !artifactName.MatchString(name) {
		return nil, bad("the name %.40q must be letters, digits and _ . @ + = -, at most 200, and begin with a letter, a digit or _", name)
	}
	seq, attempt, err := j.handOut(c)
	if err == nil {
		err = j.isOut(c, seq, attempt)
	}
	if err != nil {
		return nil, err
	}
	file, err := j.Files.Body(c)
	if err == nil { // the lease may have ended meanwhile, and the next worker's file must not be hidden by this one
		err = j.isOut(c, seq, attempt)
	}
	if err != nil {
		return nil, err
	}
	kind, _, err := mime.ParseMediaType(file.ContentType)
	if err != nil || len(kind) > 100 {
		kind = "application/octet-stream"
	}
	bearer, _ := route.Principal[access.Bearer](c)
	wrapped, err := door.NewEvent(c.Request.Context(), source, &event.JobArtifactStored{
		Job: c.Param("id"), Name: name, ContentType: kind, Document: file.Document, Uploader: bearer.Name, Attempt: attempt,
	})
	if err != nil {
		return nil, err
	}
	position, err := j.Log.Record(c.Request.Context(), eventlog.Results, []byte(c.Param("id")), wrapped)
	if err != nil {
		return nil, err
	}
	door.SetPosition(c, position)
	return &Artifact{Name: name, Size: file.Document.GetSize(), SHA256: hex.EncodeToString(file.Document.GetBlob().GetSha256())}, nil
}

// isOut refuses a hand-out that is over, or is of another job than the path names.
func (j *Jobs) isOut(c *gin.Context, seq uint64, attempt uint32) error {
	named, _ := jobs.ParseID(c.Param("id"))
	out := false
	look := func(s *jobs.State) {
		job, lives := s.Find(&event.JobRef{Name: &event.JobRef_Seq{Seq: seq}})
		out = lives && named.Names(job) && job.Out && job.Attempt == attempt
	}
	if j.Jobs.View(look); out {
		return nil
	}
	if err := j.Jobs.CatchUp(c.Request.Context()); err != nil {
		return door.Refusal(err)
	}
	if j.Jobs.View(look); !out {
		return stale()
	}
	return nil
}
