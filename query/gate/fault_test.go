package gate_test

import (
	"context"
	"errors"
	"testing"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/route"
)

func TestFaultsOfClickHouseAreToldApart(t *testing.T) {
	refusal := (*route.Error)(nil)
	for _, tc := range []struct {
		err              error
		superseded, busy bool
	}{
		{&ch.Exception{Code: clickhouse.CodeUnknownTable}, true, false},
		{&ch.Exception{Code: clickhouse.CodeUnknownDatabase}, true, false},
		{&ch.Exception{Code: clickhouse.CodeMemory}, false, true},
		{&ch.Exception{Code: 62}, false, false}, // a mistake in a query
		{errors.New("connection refused"), false, true},
		{&ch.OpError{Op: "Scan"}, false, false},
		{&ch.OpError{Op: "process"}, false, true},
	} {
		err := gate.Fault(t.Context(), tc.err)
		if errors.Is(err, gate.ErrSuperseded) != tc.superseded || errors.As(err, &refusal) != tc.busy {
			t.Errorf("%v is told as %v", tc.err, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := gate.Fault(gone, errors.New("x")); errors.As(err, &refusal) {
		t.Errorf("who has gone is told %v", err)
	}
}
