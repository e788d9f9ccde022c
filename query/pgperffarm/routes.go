package pgperffarm

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// Routes is the table of the read endpoints.
func (f *Farm) Routes() []route.Route {
	return []route.Route{
		list("/benchmark/overview", "5.1.1", "Count what the farm holds", []overviewRow{}, f.pages(f.overview)),
		list("/benchmark/machines", "5.1.2", "List machines with their pgbench configurations", []benchmarkRow{}, f.pages(f.benchmarks)),
		list("/benchmark/history/:machine_id", "5.1.3", "List the environments and configurations of a machine's results",
			[]historyRow{}, f.pages(f.history), machineParam),
		list("/benchmark/postgres/:machine_id", "5.1.4", "List the changes of a machine's PostgreSQL settings",
			[]changeRow{}, f.pages(f.settingsHistory), machineParam),
		list("/benchmark/pgbench_trends/:machine_id/:benchmark_config_id", "5.1.5", "Show the trend of a machine and configuration",
			[]trendRow{}, f.pages(f.trend), machineParam, configParam),
		list("/benchmark/pgbench_results_commit/:git_commit/:machine_id/:benchmark_config_id", "5.1.6",
			"List the results behind a point of a trend", []commitRow{}, f.pages(f.commitResults),
			commitParam("git_commit"), machineParam, configParam),
		one("/benchmark/pgbench_results_complete/:pgbench_result_id", "5.1.7", "Show a result with everything measured",
			[]resultRow{}, f.pages(f.result), id("pgbench_result_id", "the result")),
		list("/machine/list", "5.2.1", "List all machines and their newest runs", []machineRow{}, f.listMachines),
		f.ownMachinesRoute(),
		one("/run/:run_id", "5.4.2", "Show a run with its environment, settings and results", []runRow{}, runOrUpload(f.pages(f.run)), runParam),
		list("/tpch/machines", "5.5.1", "List machines with their TPC-H scale factors", []tpchMachineRow{}, f.pages(f.tpchMachines)),
		one("/tpch/details/:run_id", "5.5.2", "Show a TPC-H run with the times of its queries", []tpchRow{}, f.pages(f.tpchDetails), runParam),
		list("/tpch/trend/:machine_id/:scale_factor", "5.5.3", "Show the TPC-H trend of a machine and scale factor",
			[]tpchTrendRow{}, f.pages(f.tpchTrend), machineParam, scaleParam),
		list("/tpch/trends/:machine_id/:scale_factor", "5.5.3", "The same as /tpch/trend, as the original spells it",
			[]tpchTrendRow{}, f.pages(f.tpchTrend), machineParam, scaleParam),
		list("/tpch/runs_commit/:machine_id/:scale_factor/:commit", "5.5.4", "List the runs behind a point of a TPC-H trend",
			[]tpchRunRow{}, f.pages(f.tpchRuns), machineParam, scaleParam, commitParam("commit")),
	}
}

var (
	machineParam = id("machine_id", "the machine")
	configParam  = id("benchmark_config_id", "the pgbench configuration")
	runParam     = id("run_id", "the run")
	scaleParam   = route.Param{Name: "scale_factor", In: route.InPath, Type: route.Number, MaxLength: 400,
		Description: "a decimal number; 1 and 1.0 are the same"}
	positionParam = route.Param{Name: eventlog.PositionHeader, In: route.InHeader,
		Description: "wait for what this names, as a write answered it, and for nothing else"}
)

func id(name, what string) route.Param {
	return route.Param{Name: name, In: route.InPath, Type: route.Integer, Description: "id of " + what}
}

func commitParam(name string) route.Param {
	return route.Param{Name: name, In: route.InPath, Description: "the commit's hash, or its end"}
}

// list describes an endpoint whose answer may be an empty array.
func list(path, contract, summary string, body any, handler gin.HandlerFunc, params ...route.Param) route.Route {
	answers := []route.Answer{{Status: 200, Body: body}}
	if len(params) > 0 {
		answers = append(answers, route.Answer{Status: 404, Body: route.Failure{}, Description: "A number in the path is none."})
	}
	return read(path, contract, summary, handler, answers, params)
}

// one describes an endpoint that answers about one thing, in an array all the same.
func one(path, contract, summary string, body any, handler gin.HandlerFunc, params ...route.Param) route.Route {
	return read(path, contract, summary, handler, []route.Answer{
		{Status: 200, Body: body},
		{Status: 404, Body: route.Failure{}, Description: "There is none, or the number in the path is none."},
	}, params)
}

func read(path, contract, summary string, handler gin.HandlerFunc, answers []route.Answer, params []route.Param) route.Route {
	return route.Route{
		Method: http.MethodGet, Path: path, Slash: true, Side: route.Query, API: API, Access: route.Anyone,
		Contract: contract, Summary: summary, Params: append(params, positionParam),
		Answers: append(answers, route.Answer{
			Status: 503, Body: route.Failure{},
			Description: "What was written before is not visible yet, an engine is missing, or the list is too long to be given whole.",
		}),
		Handler: handler,
	}
}

func (f *Farm) ownMachinesRoute() route.Route {
	r := read("/machine/user", "5.2.2", "List the caller's own machines with their secrets", f.ownMachines, []route.Answer{
		{Status: 200, Body: []ownMachineRow{}},
		{Status: 302, Description: "Nobody is signed in: the login is this way."},
	}, nil)
	r.Access = route.Session
	return r
}

// runOrUpload keeps the run's pattern from taking what is only for uploads: another method than POST is not allowed
// there (5.4.1).
func runOrUpload(run gin.HandlerFunc) gin.HandlerFunc {
	return func(c *gin.Context) {
		if c.Param("run_id") != "upload" {
			run(c)
			return
		}
		c.Header("Allow", http.MethodPost)
		route.Refuse(c, route.Errorf(http.StatusMethodNotAllowed, "method %s is not served at this path; use POST", c.Request.Method))
	}
}
