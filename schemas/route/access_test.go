package route_test

import (
	"testing"

	"github.com/millrace/millrace/schemas/route"
)

func everyCaller() []route.Caller {
	return []route.Caller{route.Anonymous, route.Local, route.Machine, route.User, route.OwnerUser, route.StaffUser, route.Viewer, route.Writer, route.Operator, route.DebciUser,
		route.TestflingerAdmin, route.TestflingerManager, route.TestflingerContributor, route.TestflingerAgent, route.TestflingerSecret}
}

func TestAccessLetsInExactlyItsCallers(t *testing.T) {
	all := everyCaller()
	cases := []struct {
		access route.Access
		in     map[route.Caller]bool
		text   string
	}{
		{route.MachineSecret, map[route.Caller]bool{route.Machine: true}, "machine"},
		{route.Session, map[route.Caller]bool{route.User: true, route.OwnerUser: true, route.StaffUser: true}, "user, owner, staff"},
		{route.Staff, map[route.Caller]bool{route.StaffUser: true}, "staff"},
		{route.Owner, map[route.Caller]bool{route.OwnerUser: true}, "owner"},
		{route.TokenViewer, map[route.Caller]bool{route.Viewer: true, route.Writer: true, route.Operator: true}, "viewer, writer, operator"},
		{route.TokenWriter, map[route.Caller]bool{route.Writer: true, route.Operator: true}, "writer, operator"},
		{route.TokenOperator, map[route.Caller]bool{route.Operator: true}, "operator"},
		{route.DebciKey, map[route.Caller]bool{route.DebciUser: true}, "debci user"},
		{route.TestflingerClients, map[route.Caller]bool{route.TestflingerAdmin: true, route.TestflingerManager: true, route.TestflingerContributor: true},
			"testflinger admin, testflinger manager, testflinger contributor"},
		{route.TestflingerManagers, map[route.Caller]bool{route.TestflingerAdmin: true, route.TestflingerManager: true}, "testflinger admin, testflinger manager"},
		{route.TestflingerAdmins, map[route.Caller]bool{route.TestflingerAdmin: true}, "testflinger admin"},
		{route.TestflingerBasic, map[route.Caller]bool{route.TestflingerSecret: true}, "testflinger secret"},
		{route.TestflingerAgents, map[route.Caller]bool{route.TestflingerAgent: true}, "testflinger agent"},
		{route.TestflingerToken, map[route.Caller]bool{route.Anonymous: true, route.Local: true, route.User: true, route.OwnerUser: true,
			route.StaffUser: true, route.DebciUser: true, route.TestflingerAdmin: true, route.TestflingerManager: true,
			route.TestflingerContributor: true, route.TestflingerAgent: true}, "anyone but machine, viewer, writer, operator, testflinger secret"},
		{route.LoopbackOrViewer, map[route.Caller]bool{route.Local: true, route.Viewer: true, route.Writer: true, route.Operator: true}, "local, viewer, writer, operator"},
		{route.Loopback | route.TokenOperator, map[route.Caller]bool{route.Local: true, route.Operator: true}, "local, operator"},
	}
	for _, tc := range cases {
		for _, k := range all {
			if got := tc.access.Allows(k); got != tc.in[k] {
				t.Errorf("access %q lets %s in: %t, want %t", tc.access, k, got, tc.in[k])
			}
		}
		if tc.access.String() != tc.text {
			t.Errorf("access is written %q, want %q", tc.access, tc.text)
		}
	}
	for _, k := range all {
		if !route.Anyone.Allows(k) {
			t.Errorf("anyone leaves %s out", k)
		}
	}
}

func TestMatrixHasEveryRouteWithEveryCaller(t *testing.T) {
	routes := lab()
	cells := map[string]bool{}
	for _, c := range route.Matrix(routes) {
		cells[c.Name()] = c.Allowed
	}
	if len(cells) != len(routes)*len(everyCaller()) {
		t.Errorf("the matrix has %d cells, want %d", len(cells), len(routes)*len(everyCaller()))
	}
	for name, want := range map[string]bool{
		"POST /machine/approve as staff":          true,
		"POST /machine/approve as user":           false,
		"POST /machine/approve as anonymous":      false,
		"POST /machine/edit/:machine_id as staff": false,
		"POST /run/upload as machine":             true,
		"POST /run/upload as operator":            false,
		"GET /millrace/v1/runs as local":          true,
		"GET /millrace/v1/runs as anonymous":      false,
		"GET /run/:run_id as anonymous":           true,
		"DELETE /files/*name as writer":           false,
		"DELETE /files/*name as operator":         true,
	} {
		got, there := cells[name]
		if !there || got != want {
			t.Errorf("%s: there %t, allowed %t; want %t", name, there, got, want)
		}
	}
}
