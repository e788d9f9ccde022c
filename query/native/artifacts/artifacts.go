// Package artifacts is the read side of files that jobs left, on Millrace's own API.
package artifacts

import (
	"context"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/millrace/millrace/query/download"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/query/native"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Config is what the endpoints work with. All of it is required once a request is answered.
type Config struct {
	DB     *clickhouse.DB
	Gate   *gate.Gate
	Sender *download.Sender
}

// Artifacts answers the endpoints.
type Artifacts struct{ Config }

// New gives the endpoints.
func New(c Config) *Artifacts { return &Artifacts{c} }

// maxNames bounds the files of one job that are listed.
const maxNames = 10_000

// Artifact is a file that a job left.
type Artifact struct {
	Name        string    `json:"name"`
	Size        uint64    `json:"size" doc:"in bytes"`
	SHA256      string    `json:"sha256" doc:"of the content, in hexadecimal digits; its entity tag too"`
	ContentType string    `json:"content_type"`
	StoredAt    time.Time `json:"stored_at"`
	Uploader    string    `json:"uploader" doc:"name of the token; empty where the API knows none"`
	Attempt     uint32    `json:"attempt" doc:"the hand-out during which it came; 0 where the API knows none"`
}

// List is the files of a job.
type List struct {
	Items []Artifact `json:"items" doc:"by name"`
}

// Routes is the table of the endpoints.
func (a *Artifacts) Routes() []route.Route {
	params := []route.Param{
		{Name: "id", Description: "The job's id."},
		{Name: eventlog.PositionHeader, In: route.InHeader, Description: "The answer contains this position of the log; without it, all that the log held when the request came."},
	}
	failure := func(status int, description string) route.Answer {
		return route.Answer{Status: status, Body: route.Failure{}, Description: description}
	}
	unauthorized, behind := failure(401, "No token, or one that is not known."), failure(503, "An engine is out of reach, or the projections have not caught up.")
	return []route.Route{
		{
			Method: http.MethodGet, Path: "/millrace/v1/jobs/:id/artifacts", Side: route.Query, API: native.API, Access: route.TokenViewer,
			Summary: "List the files that a job left", Params: params, Handler: a.list,
			Answers: []route.Answer{{Status: 200, Body: List{}, Description: "The newest of each name; none of a job that is not known."}, unauthorized, behind},
		},
		{
			Method: http.MethodGet, Path: "/millrace/v1/jobs/:id/artifacts/:name", Side: route.Query, API: native.API, Access: route.TokenViewer,
			Summary: "Get a file that a job left, or a part of it", Timeout: download.Timeout, Streams: true, Handler: a.Get,
			Params: append(params, route.Param{Name: "name", Description: "The file's name."},
				route.Param{Name: "Range", In: route.InHeader, Description: "One range of bytes, to go on where a download broke off."},
				route.Param{Name: "If-Range", In: route.InHeader, Description: "The entity tag of the file that the range is of: another file is answered whole."}),
			Answers: []route.Answer{
				{Status: 200, Body: "", ContentType: "application/octet-stream", Description: "The file."},
				{Status: 206, Body: "", ContentType: "application/octet-stream", Description: "The part of it that was asked for."},
				{Status: 304, Description: "If-None-Match names it."},
				unauthorized, failure(404, "There is no such file, or it has expired."), failure(416, "The range lies behind the end."), behind,
			},
		},
	}
}

// Newest reads the newest file of each name that a job left and that has not expired; with a name, that one. A file of a
// later attempt is newer, also where one of an earlier attempt was on its way for longer. id is the job's on the native API.
func Newest(ctx context.Context, db *clickhouse.DB, generation uint32, id, name string) ([]Artifact, []blob.Ref, error) {
	database := "`" + db.Generation(generation) + "`"
	rows, err := db.Query(ctx, "SELECT name, event_id, at, content_type, uploader, attempt, blob, blob_size FROM "+database+".job_artifacts WHERE job = ? AND (? = '' OR name = ?) "+
		"AND event_id NOT IN (SELECT event_id FROM "+database+".file_expiries WHERE event_id IN (SELECT event_id FROM "+database+".job_artifacts WHERE job = ?)) "+
		"ORDER BY name, attempt DESC, version DESC LIMIT 1 BY name LIMIT ?", id, name, name, id, maxNames)
	if err != nil {
		return nil, nil, gate.Fault(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	list, refs := []Artifact{}, []blob.Ref{}
	for rows.Next() {
		var a Artifact
		var event, sum string
		if err := rows.Scan(&a.Name, &event, &a.StoredAt, &a.ContentType, &a.Uploader, &a.Attempt, &sum, &a.Size); err != nil {
			return nil, nil, fmt.Errorf("read artifacts: %w", err)
		}
		ref, err := blob.NewRef([]byte(sum), int64(a.Size))
		if err != nil {
			return nil, nil, fmt.Errorf("read artifacts: %w", err)
		}
		a.SHA256 = hex.EncodeToString([]byte(sum))
		list, refs = append(list, a), append(refs, ref)
	}
	return list, refs, gate.Fault(ctx, rows.Err())
}

// newest reads what the projections have of everything that was acknowledged before.
func (a *Artifacts) newest(c *gin.Context, name string) (list []Artifact, refs []blob.Ref, err error) {
	ctx := c.Request.Context()
	err = a.Gate.Read(ctx, c.Request.Header, func(generation uint32) (err error) {
		list, refs, err = Newest(ctx, a.DB, generation, c.Param("id"), name)
		return err
	}, eventlog.Results)
	return list, refs, err
}

func (a *Artifacts) list(c *gin.Context) {
	list, _, err := a.newest(c, "")
	if err != nil {
		route.Refuse(c, err)
		return
	}
	body, err := json.Marshal(List{Items: list})
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.Data(http.StatusOK, "application/json", body)
}

// Get answers with the file that the path names by a job's id and a name.
func (a *Artifacts) Get(c *gin.Context) {
	list, refs, err := a.newest(c, c.Param("name"))
	if err == nil && len(list) == 0 {
		err = route.Errorf(http.StatusNotFound, "the job left no file of this name, or it has expired")
	}
	if err != nil {
		route.Refuse(c, err)
		return
	}
	a.Sender.Send(c, download.File{
		Ref: refs[0], ContentType: list[0].ContentType,
		Disposition: mime.FormatMediaType("attachment", map[string]string{"filename": list[0].Name}),
	})
}
