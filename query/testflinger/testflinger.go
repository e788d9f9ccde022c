// Package testflinger is the read side of the Testflinger API: jobs and their results, agents, queues, and what clients may
// do. Reads that are writes (the next job, output that is handed out once) are ingest's. Section numbers in comments are
// those of the API's wire contract.
package testflinger

import (
	"context"
	"net/http"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/jobs"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/download"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/keyring"
	"github.com/millrace/millrace/schemas/route"
)

// API is the name of this API in the route tables.
const API = "testflinger"

// Jobs is the replica of the jobs' fold.
type Jobs interface {
	View(look func(*jobs.State))
	CatchUp(ctx context.Context) error
}

// Config is what the read side works with. All is required.
type Config struct {
	Generation testflinger.Generation
	DB         *clickhouse.DB
	Gate       *gate.Gate
	Reader     *lab.Reader
	Jobs       Jobs
	Registry   access.Registry
	Keyring    *keyring.Keyring
	Packer     *document.Packer
	Sender     *download.Sender
	// MaxRows bounds the rows of one answer.
	MaxRows int
	Now     func() time.Time
}

// Testflinger serves the read endpoints.
type Testflinger struct{ Config }

// New gives the read side.
func New(c Config) *Testflinger { return &Testflinger{c} }

// reading is a request that reads a generation of the projections.
type reading struct {
	*Testflinger

	ctx        context.Context
	generation uint32
}

// read gives look a generation that contains everything of some topics which was in the log when the request came.
func (t *Testflinger) read(c *gin.Context, look func(*reading) error, topics ...string) error {
	ctx := c.Request.Context()
	return t.Gate.Read(ctx, c.Request.Header, func(generation uint32) error {
		return look(&reading{t, ctx, generation})
	}, topics...)
}

// retryTooLarge is what who asks for too much is told to wait: it does not pass by itself, yet clients know no other way.
const retryTooLarge = 5 * time.Minute

// query reads rows. In its text {db} is the generation's database.
func (r *reading) query(text string, scan func(driver.Rows) error, parameters ...any) error {
	ctx := ch.Context(r.ctx, ch.WithSettings(gate.Settings()))
	rows, err := r.DB.Query(ctx, strings.ReplaceAll(text, "{db}", "`"+r.DB.Generation(r.generation)+"`"), parameters...)
	if err != nil {
		return gate.Fault(r.ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return gate.Fault(r.ctx, rows.Err())
}

// validation refuses query parameters (1).
func validation(c *gin.Context, faults testflinger.Faults) {
	access.TestflingerJSON(c, http.StatusUnprocessableEntity, access.TestflingerError{Detail: map[string]any{"query": faults}, Message: "Validation error"})
}

// jobID reads the id in the path; a *route.Error when it is none.
func jobID(c *gin.Context) (string, error) {
	id := c.Param(jobParam)
	if !testflinger.IsJobID(id) {
		return "", route.Errorf(http.StatusBadRequest, testflinger.InvalidJobID)
	}
	return id, nil
}

// answer writes a value, with the members of maps in the order of their names.
func answer(c *gin.Context, status int, value any) {
	body, err := json.Marshal(value, json.Deterministic(true))
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.Data(status, "application/json", body)
}

// nothing is the answer where there is no data (1).
func nothing(c *gin.Context) {
	c.Status(http.StatusNoContent)
	c.Writer.WriteHeaderNow()
}
