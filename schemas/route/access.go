package route

import (
	"math/bits"
	"strings"
)

// Caller is a kind of caller: what an Authorizer can find a request's sender to
// be. Exactly one kind is true of a request on a given route.
type Caller uint8

// The kinds of callers.
const (
	// Anonymous callers carry no valid credential.
	Anonymous Caller = iota
	// Local callers carry none either, but reached a loopback listener directly,
	// or reads are public here.
	Local
	// Machine callers carry the secret of an approved machine.
	Machine
	// User callers have a session.
	User
	// OwnerUser callers have a session, and own what the path names.
	OwnerUser
	// StaffUser callers have a session of staff.
	StaffUser
	// Viewer, Writer and Operator callers carry a token of that role.
	Viewer
	Writer
	Operator
	// DebciUser callers carry a key of a debci user.
	DebciUser
	// TestflingerAdmin, TestflingerManager, TestflingerContributor and TestflingerAgent callers carry a token of a client
	// of Testflinger's with that role.
	TestflingerAdmin
	TestflingerManager
	TestflingerContributor
	TestflingerAgent
	// TestflingerSecret callers carry a client's id and secret, by HTTP Basic.
	TestflingerSecret
	callers // their number
)

// scheme is how a kind of caller proves itself: a security scheme's name in
// OpenAPI (empty: by nothing), and the role it needs there.
type scheme struct{ name, role string }

var callerKinds = [callers]struct {
	name   string
	scheme scheme
}{
	Anonymous: {"anonymous", scheme{}},
	Local:     {"local", scheme{}},
	Machine:   {"machine", scheme{"machineSecret", ""}},
	User:      {"user", scheme{"session", ""}},
	OwnerUser: {"owner", scheme{"session", "owner"}},
	StaffUser: {"staff", scheme{"session", "staff"}},
	Viewer:    {"viewer", scheme{"token", "viewer"}},
	Writer:    {"writer", scheme{"token", "writer"}},
	Operator:  {"operator", scheme{"token", "operator"}},
	DebciUser: {"debci user", scheme{"debciKey", ""}},

	TestflingerAdmin:       {"testflinger admin", scheme{"testflinger", "admin"}},
	TestflingerManager:     {"testflinger manager", scheme{"testflinger", "manager"}},
	TestflingerContributor: {"testflinger contributor", scheme{"testflinger", "contributor"}},
	TestflingerAgent:       {"testflinger agent", scheme{"testflinger", "agent"}},
	TestflingerSecret:      {"testflinger secret", scheme{"testflingerSecret", ""}},
}

// String names the kind in lower case.
func (k Caller) String() string { return callerKinds[k].name }

// Access is the set of caller kinds that a route lets in. The empty set is not
// "nobody" but a mistake, and does not mount.
type Access uint32

// The sets in use. More are made by union: Loopback | TokenOperator.
const (
	// Anyone lets every caller in.
	Anyone Access = 1<<callers - 1
	// MachineSecret asks for an approved machine's secret.
	MachineSecret Access = 1 << Machine
	// Session asks for a signed-in user, staff or not.
	Session Access = 1<<User | 1<<OwnerUser | 1<<StaffUser
	// Owner asks for the user who owns what the path names; staff is not enough.
	Owner Access = 1 << OwnerUser
	// Staff asks for a signed-in user who is staff.
	Staff Access = 1 << StaffUser
	// TokenViewer asks for a token of any role.
	TokenViewer Access = 1<<Viewer | TokenWriter
	// TokenWriter asks for a token of role writer or operator.
	TokenWriter Access = 1<<Writer | TokenOperator
	// TokenOperator asks for a token of role operator.
	TokenOperator Access = 1 << Operator
	// DebciKey asks for a debci user's key.
	DebciKey Access = 1 << DebciUser
	// TestflingerToken lets everybody in but who carries a token that is not one of Testflinger's.
	TestflingerToken Access = Anyone &^ (MachineSecret | TokenViewer | TestflingerBasic)
	// TestflingerAdmins, TestflingerManagers and TestflingerClients ask for a client of Testflinger's whose role is at
	// least that.
	TestflingerAdmins   Access = 1 << TestflingerAdmin
	TestflingerManagers Access = 1<<TestflingerManager | TestflingerAdmins
	TestflingerClients  Access = 1<<TestflingerContributor | TestflingerManagers
	// TestflingerAgents asks for a client of Testflinger's that is an agent.
	TestflingerAgents Access = 1 << TestflingerAgent
	// TestflingerBasic asks for a client's id and secret.
	TestflingerBasic Access = 1 << TestflingerSecret
	// Loopback asks for no credential from callers on the same machine.
	Loopback Access = 1 << Local
	// LoopbackOrViewer is for reads: open on loopback, else with any token.
	LoopbackOrViewer Access = Loopback | TokenViewer
)

// Allows tells whether callers of the kind are let in.
func (a Access) Allows(k Caller) bool { return a&(1<<k) != 0 }

// Callers lists the kinds let in, in the order of their declaration.
func (a Access) Callers() []Caller {
	kinds := make([]Caller, 0, bits.OnesCount32(uint32(a)))
	for k := range callers {
		if a.Allows(k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// String lists the kinds let in, or says "anyone", or who is not where most are.
func (a Access) String() string {
	if out := Anyone &^ a; a != Anyone && bits.OnesCount32(uint32(out)) < bits.OnesCount32(uint32(a)) {
		return "anyone but " + strings.Join(out.names(), ", ")
	}
	return strings.Join(a.names(), ", ")
}

func (a Access) names() []string {
	if a == Anyone {
		return []string{"anyone"}
	}
	var names []string
	for _, k := range a.Callers() {
		names = append(names, k.String())
	}
	return names
}

// Case is one cell of the authorization matrix: a kind of caller at a route, and
// whether it is let in.
type Case struct {
	Route   *Route
	Caller  Caller
	Allowed bool
}

// Name labels the case for a subtest.
func (c Case) Name() string { return c.Route.Key() + " as " + c.Caller.String() }

// Matrix gives every route with every kind of caller, so that a test against a
// running service can show that each is let in or refused as the table says.
func Matrix(routes []Route) []Case {
	cases := make([]Case, 0, len(routes)*int(callers))
	for i := range routes {
		for k := range callers {
			cases = append(cases, Case{Route: &routes[i], Caller: k, Allowed: routes[i].Access.Allows(k)})
		}
	}
	return cases
}
