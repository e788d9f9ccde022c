package operator

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/schemas/route"
)

// Routes is the table of the operator's commands.
func (o *Operator) Routes() []route.Route {
	const admin = "/millrace/v1/admin"
	return []route.Route{
		adminRoute(admin+"/pgperffarm/users", "Make or change a user of the Performance Farm", UserSet{}, 200, User{}, o.setUser),
		adminRoute(admin+"/pgperffarm/machines", "Register a machine", MachineAdd{}, 201, Machine{}, o.addMachine),
		adminRoute(admin+"/pgperffarm/machines/rotate", "Give a machine another secret", MachineRotate{}, 200, Machine{}, o.rotateMachine),
		adminRoute(admin+"/pgperffarm/machines/revoke", "End a machine's secret", MachineName{}, 200, Machine{}, o.revokeMachine),
		adminRoute(admin+"/pgperffarm/machines/approve", "Approve a machine", MachineName{}, 200, Machine{}, o.approveMachine),
		adminRoute(admin+"/debci/keys", "Give a debci user a key", DebciKeyAdd{}, 201, DebciKey{}, o.addDebciKey),
		adminRoute(admin+"/debci/keys/revoke", "End keys of a debci user", DebciKeyRevoke{}, 200, DebciKey{}, o.revokeDebciKey),
		adminRoute(admin+"/testflinger/clients", "Make or change a client of Testflinger's", TestflingerClientSet{}, 200, TestflingerClient{}, o.setTestflingerClient),
		adminRoute(admin+"/testflinger/restricted-queues", "Restrict a queue of Testflinger's", TestflingerQueue{}, 200, TestflingerQueue{}, o.restrictTestflingerQueue),
		adminRoute(admin+"/tokens", "Give out a token", TokenAdd{}, 201, Token{}, o.addToken),
		adminRoute(admin+"/tokens/revoke", "End a token", TokenName{}, 200, Token{}, o.revokeToken),
		adminRoute(admin+"/users/erase", "Erase a user's personal data", UserErase{}, 200, User{}, o.eraseUser),
		o.requeueRoute(),
	}
}

func adminRoute(path, summary string, body any, status int, answer any, handler gin.HandlerFunc) route.Route {
	return route.Route{
		Method: http.MethodPost, Path: path, Side: route.Ingest, API: API, Access: route.TokenOperator,
		Summary: summary, Params: []route.Param{door.KeyParam()}, Body: body, BodyLimit: maxBody, Handler: handler,
		Answers: []route.Answer{
			{Status: status, Body: answer, Description: "Done."},
			{Status: 400, Body: route.Failure{}, Description: "A member is missing, wrong or not known."},
			{Status: 401, Body: route.Failure{}, Description: "No token, or one that is not known."},
			{Status: 403, Body: route.Failure{}, Description: "The token's role is not operator."},
			{Status: 404, Body: route.Failure{}, Description: "Nothing has this name."},
			{Status: 409, Body: route.Failure{}, Description: "Something else has this name, secret or address."},
			{Status: 422, Body: route.Failure{}, Description: "The Idempotency-Key came with another body before."},
			{Status: 503, Body: route.Failure{}, Description: "The log is out of reach."},
		},
	}
}

func (o *Operator) requeueRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/millrace/v1/dead-letters/:id/requeue", Side: route.Ingest, API: API, Access: route.TokenOperator,
		Summary: "Append a dead letter's record once more", Handler: o.requeue,
		Params: []route.Param{{Name: "id", Description: "The dead letter's id, a UUID."}},
		Answers: []route.Answer{
			{Status: 202, Body: Requeued{}, Description: "The record stands in the log again."},
			{Status: 401, Body: route.Failure{}, Description: "No token, or one that is not known."},
			{Status: 403, Body: route.Failure{}, Description: "The token's role is not operator."},
			{Status: 404, Body: route.Failure{}, Description: "There is no such dead letter."},
			{Status: 422, Body: route.Failure{}, Description: "The record has no envelope, so there is nothing to repeat."},
			{Status: 503, Body: route.Failure{}, Description: "The log is out of reach."},
		},
	}
}
