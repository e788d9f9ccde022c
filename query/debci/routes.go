package debci

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// html is how debci calls its pages and texts.
const html = "text/html"

// docPath is where the page is that documents the API.
const docPath = "/api/doc"

// rejectTree is the reject list by package, suite, architecture and version, with the reasons (3).
type rejectTree map[string]map[string]map[string]map[string]string

// Routes is the table of debci's read endpoints (contract 3).
func (d *Debci) Routes() []route.Route {
	forbidden := route.Answer{Status: 403, Body: "", ContentType: html, Description: "The key is missing or wrong."}
	unavailable := route.Answer{Status: 503, Body: "", ContentType: html,
		Description: "What was written before is not visible yet, an engine is missing, or there is too much to be given whole."}
	position := route.Param{Name: eventlog.PositionHeader, In: route.InHeader,
		Description: "wait for what this names, as a write answered it, and for nothing else"}
	run := route.Param{Name: "run_id", Description: "The test's number."}
	return []route.Route{
		read("/api", route.Anyone, "1", "Go to the description of the API", d.toDoc(""), nil,
			route.Answer{Status: 302, Description: "It is this way."}),
		read(docPath, route.Anyone, "1", "Describe the API", d.doc, nil, route.Answer{Status: 200, Body: "", ContentType: html}),
		read("/api/v1/auth", route.DebciKey, "2", "Test a key", auth, nil,
			route.Answer{Status: 200, Description: "The key works; Auth-User says whose it is."}, forbidden),
		read("/api/v1/test", route.DebciKey, "5", "List the results of one's tests", d.list, []route.Param{
			{Name: "since", Description: "Unix seconds: only what was made, ended or published then or later"}, position,
		}, route.Answer{Status: 200, Body: results{}},
			route.Answer{Status: 400, Body: "", ContentType: html, Description: "since is no whole number of seconds."}, forbidden, unavailable),
		read("/api/v1/reject_list", route.DebciKey, "3", "Show what is not tested", d.rejectList, nil,
			route.Answer{Status: 200, Body: rejectTree{}}, forbidden),
		read("/api/v1/retry/:run_id", route.Anyone, "3", "Go to where a retry is explained", d.toDoc("#retry"), []route.Param{run},
			route.Answer{Status: 302, Description: "It is this way."}),
		read("/api/v1/job_state/:run_id", route.Anyone, "3", "Tell whether a test is over", d.state, []route.Param{run, position},
			route.Answer{Status: 200, Body: jobState{}},
			route.Answer{Status: 400, Body: route.Failure{}, Description: "There is no such test."}, unavailable),
	}
}

func read(path string, access route.Access, contract, summary string, handler gin.HandlerFunc, params []route.Param, answers ...route.Answer) route.Route {
	return route.Route{
		Method: http.MethodGet, Path: path, Slash: path == "/api", Side: route.Query, API: API, Access: access,
		Contract: contract, Summary: summary, Params: params, Answers: answers, Handler: handler,
	}
}

// auth answers GET /api/v1/auth: who comes so far has a key.
func auth(c *gin.Context) {
	c.Header("Content-Type", "text/html;charset=utf-8")
	c.Status(http.StatusOK)
	c.Writer.WriteHeaderNow()
}

// rejectList answers GET /api/v1/reject_list.
func (d *Debci) rejectList(c *gin.Context) {
	list, err := d.Rejected.List()
	if err != nil {
		route.Refuse(c, err)
		return
	}
	writeJSON(c, rejectTree(list.Tree()))
}

func writeJSON(c *gin.Context, value any) {
	body, err := json.Marshal(value, json.Deterministic(true))
	if err != nil {
		route.Refuse(c, err)
		return
	}
	c.Data(http.StatusOK, "application/json", body)
}

// toDoc sends a person to a part of the page.
func (d *Debci) toDoc(fragment string) gin.HandlerFunc {
	return func(c *gin.Context) {
		target := docPath + fragment
		if run := c.Param("run_id"); run != "" {
			target = docPath + "?run_id=" + url.QueryEscape(run) + fragment
		}
		c.Redirect(http.StatusFound, target)
	}
}
