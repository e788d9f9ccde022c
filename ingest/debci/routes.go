package debci

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/schemas/route"
)

// html is how debci calls its texts.
const html = "text/html"

// Fields is what a form may have.
type Fields struct {
	Tests           string `json:"tests,omitzero" doc:"a JSON array of tests, as a field or as a file; a package has at most 200 bytes, a trigger 4096"`
	Priority        int    `json:"priority,omitzero" doc:"1 to 10, higher goes first; 5 when absent"`
	Private         string `json:"is_private,omitzero" doc:"true or false, of a request for one package"`
	ExtraAptSources string `json:"extra_apt_sources,omitzero" doc:"a JSON array of names, of a request for one package"`
}

// PublishFields is the form of a request to publish.
type PublishFields struct {
	RunIDs string `json:"run_ids" doc:"numbers of runs with commas between them"`
}

// Routes is the table of debci's write endpoints (contract 3).
func (d *Debci) Routes() []route.Route {
	suite := route.Param{Name: "suite", Description: "One of the configured suites."}
	arch := route.Param{Name: "arch", Description: "One of the configured architectures."}
	return []route.Route{
		d.route("/api/v1/test/:suite/:arch", "4", "Ask for tests of a suite and architecture", http.StatusCreated, Fields{}, d.tests, suite, arch),
		d.route("/api/v1/test/:suite/:arch/:package", "4", "Ask for a test of one package", http.StatusCreated, Fields{}, d.one,
			suite, arch, route.Param{Name: "package", Description: "The source package."}),
		d.route("/api/v1/test/batch", "3", "Ask for tests of several suites and architectures", http.StatusCreated, Fields{}, d.batch),
		d.route("/api/v1/test/publish", "3", "Let everybody see private tests of one's own", http.StatusOK, PublishFields{}, d.publish),
		d.route("/api/v1/retry/:run_id", "3", "Ask for a test once more", http.StatusOK, Fields{}, d.retry,
			route.Param{Name: "run_id", Description: "The test's number."}),
	}
}

func (d *Debci) route(path, contract, summary string, status int, body any, handler gin.HandlerFunc, params ...route.Param) route.Route {
	return route.Route{
		Method: http.MethodPost, Path: path, Side: route.Ingest, API: API, Access: route.DebciKey, Contract: contract,
		Summary: summary, Params: append(params, door.KeyParam()), Body: body, BodyLimit: d.config.MaxBody, GzipLimit: d.config.MaxBody,
		ContentTypes: []string{"application/x-www-form-urlencoded", "multipart/form-data"}, Handler: handler,
		Answers: []route.Answer{
			{Status: status, Description: "Done; " + runsHeader + " names the first and the last run that were made."},
			{Status: 400, Body: "", ContentType: html, Description: "Something is wrong, and nothing was stored; the text says what."},
			{Status: 403, Body: "", ContentType: html, Description: "The key is missing or wrong, or the test is not for the caller or not to run."},
			{Status: 413, Body: "", ContentType: html, Description: "The body is over the limit."},
			{Status: 422, Body: "", ContentType: html, Description: "The Idempotency-Key came with another body before."},
			{Status: 503, Body: "", ContentType: html, Description: "An engine is out of reach."},
		},
	}
}
