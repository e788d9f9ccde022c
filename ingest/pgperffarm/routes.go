package pgperffarm

import (
	"net/http"
	"time"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/schemas/route"
)

// maxForm bounds the bodies of everything but uploads, in bytes.
const maxForm = 64 << 10

// bodyTime is how long an upload's body may take to arrive, beside the time that it is held.
const bodyTime = 5 * time.Minute

// Routes is the table of the Performance Farm's write endpoints (contract 5.2 to 5.4).
func (f *Farm) Routes() []route.Route {
	return []route.Route{
		f.uploadRoute(), f.addRoute(), f.approveRoute(), f.editRoute(),
		f.loginRoute(), f.callbackRoute(), f.logoutRoute(),
	}
}

func (f *Farm) uploadRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/run/upload", Slash: true, Side: route.Ingest, API: API, Access: route.MachineSecret,
		Contract: "5.4.1", Summary: "Store one run of the farm's client",
		Params: []route.Param{door.KeyParam()},
		Body:   []Upload{}, BodyLimit: f.config.MaxBody, GzipLimit: f.config.MaxBody,
		Timeout: bodyTime + 2*f.config.Hold,
		Answers: []route.Answer{
			{Status: 201, Description: "The run is stored; Location names it."},
			{Status: 400, Body: route.Failure{}, Description: "The body is no array of exactly one object."},
			{Status: 406, Body: Refused{}, Description: "Secret, approval, machine type, start time or document are not accepted; error says why."},
			{Status: 413, Body: route.Failure{}, Description: "The body is over the limit."},
			{Status: 422, Body: route.Failure{}, Description: "The Idempotency-Key came with another body before."},
			{Status: 429, Body: route.Failure{}, Description: "Too many wrong secrets from this address."},
			{Status: 503, Body: route.Failure{}, Description: "An engine was missing for as long as an upload is held."},
		},
		Handler: f.upload,
	}
}

func (f *Farm) addRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/machine/add", Slash: true, Side: route.Ingest, API: API, Access: route.Session,
		Contract: "5.2.3", Summary: "Ask for a machine",
		Params: []route.Param{door.KeyParam()}, Body: newMachine{}, BodyLimit: maxForm,
		Answers: []route.Answer{
			{Status: 201, Body: "", ContentType: plainText, Description: "The machine waits for its approval."},
			{Status: 302, Description: "Nobody is signed in: the login is this way."},
			{Status: 400, Body: route.Failure{}, Description: "A member is missing or wrong; empty when the alias is taken or a text too long."},
			{Status: 403, Body: "", ContentType: "text/html", Description: "The CSRF token is missing or wrong."},
			{Status: 422, Body: route.Failure{}, Description: "The Idempotency-Key came with another body before."},
		},
		Handler: f.addMachine,
	}
}

func (f *Farm) approveRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/machine/approve", Slash: true, Side: route.Ingest, API: API, Access: route.Staff,
		Contract: "5.2.4", Summary: "Approve a machine by its alias",
		Params: []route.Param{door.KeyParam()}, Body: approval{}, BodyLimit: maxForm,
		Answers: []route.Answer{
			{Status: 201, Body: "", ContentType: plainText, Description: "The machine may upload."},
			{Status: 302, Description: "Nobody is signed in: the login is this way."},
			{Status: 400, Body: route.Failure{}, Description: "The body is no object with an alias."},
			{Status: 403, Description: "The caller is not staff, or the CSRF token is missing or wrong."},
			{Status: 404, Body: route.Failure{}, Description: "No machine has this alias."},
			{Status: 422, Body: route.Failure{}, Description: "The Idempotency-Key came with another body before."},
		},
		Handler: f.approveMachine,
	}
}

func (f *Farm) editRoute() route.Route {
	return route.Route{
		Method: http.MethodPost, Path: "/machine/edit/:" + access.MachineParam, Slash: true, Side: route.Ingest, API: API, Access: route.Owner,
		Contract: "5.2.5", Summary: "Describe a machine anew",
		Params: []route.Param{
			{Name: access.MachineParam, Type: route.Integer, Description: "The machine's id."},
			door.KeyParam(),
		},
		Body: edit{}, BodyLimit: maxForm,
		Answers: []route.Answer{
			{Status: 201, Description: "The description is stored."},
			{Status: 400, Body: route.Failure{}, Description: "The description is missing, wrong or too long."},
			{Status: 403, Body: route.Failure{}, Description: "The caller is not the machine's owner, or the CSRF token is missing or wrong."},
			{Status: 404, Body: route.Failure{}, Description: "There is no such machine."},
			{Status: 422, Body: route.Failure{}, Description: "The Idempotency-Key came with another body before."},
		},
		Handler: f.editMachine,
	}
}

func (f *Farm) loginRoute() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: "/user/community_login", Slash: true, Side: route.Ingest, API: API, Access: route.Anyone,
		Contract: "3.4", Summary: "Go to the community login",
		Params: []route.Param{{Name: "next", Description: "The page of this site to see after the login."}},
		Answers: []route.Answer{
			{Status: 302, Description: "pgweb is this way."},
			{Status: 503, Body: route.Failure{}, Description: "The community login is not configured."},
		},
		Handler: f.communityLogin,
	}
}

func (f *Farm) callbackRoute() route.Route {
	text := func(name, description string) route.Param { return route.Param{Name: name, Description: description} }
	return route.Route{
		Method: http.MethodGet, Path: "/user/auth_receive", Slash: true, Side: route.Ingest, API: API, Access: route.Anyone,
		Contract: "3.4", Summary: "Come back from the community login",
		Params: []route.Param{
			text("i", "IV (version 2)."), text("n", "Nonce (versions 3 and 4)."), text("d", "The encrypted user."),
			text("t", "Authentication tag (versions 3 and 4)."), text("s", "logout, when pgweb has ended its own session."),
		},
		Answers: []route.Answer{
			{Status: 302, Description: "Signed in, or signed out."},
			{Status: 400, Body: "", ContentType: plainText, Description: "The callback cannot be read, is too old, or was used before."},
			{Status: 409, Body: "", ContentType: plainText, Description: "The e-mail address belongs to another user here."},
			{Status: 503, Body: route.Failure{}, Description: "The community login is not configured, or the log is out of reach."},
		},
		Handler: f.authReceive,
	}
}

func (f *Farm) logoutRoute() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: "/user/logout", Slash: true, Side: route.Ingest, API: API, Access: route.Anyone,
		Contract: "5.3", Summary: "End the session, here and at pgweb",
		Answers: []route.Answer{{Status: 302, Description: "pgweb's logout is this way."}},
		Handler: f.logout,
	}
}
