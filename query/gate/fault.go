package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/route"
)

// ResultBytes bounds the rows of one query: a request that needs more should ask for less.
const ResultBytes = 128 << 20

// Settings bound a query that reads for a request, in time and in what it gives.
func Settings() ch.Settings {
	return ch.Settings{"max_execution_time": 20, "max_result_bytes": ResultBytes, "result_overflow_mode": "throw"}
}

// Fault says what an error of ClickHouse means to the reader: a generation that was dropped (ErrSuperseded), an engine
// that is missing or overloaded (a *route.Error), or a mistake of ours.
func Fault(ctx context.Context, err error) error {
	exception, answered := errors.AsType[*ch.Exception](err)
	op, misread := errors.AsType[*ch.OpError](err)
	misread = misread && op.Op != "process" // which is an answer that is no answer
	switch {
	case err == nil || ctx.Err() != nil || misread:
		return err
	case !answered:
		return unavailable(err)
	}
	switch exception.Code {
	case clickhouse.CodeUnknownTable, clickhouse.CodeUnknownDatabase:
		return fmt.Errorf("%w: %w", ErrSuperseded, err)
	case clickhouse.CodeTimeout, clickhouse.CodeTooMany, clickhouse.CodeMemory:
		return unavailable(err)
	case clickhouse.CodeTooLarge:
		return fmt.Errorf("%w: %w", route.Busy(5*time.Minute, "the answer is larger than %d MB: ask for less", ResultBytes>>20), err)
	}
	return fmt.Errorf("query ClickHouse: %w", err)
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", route.Busy(2*time.Second, "ClickHouse does not answer; try again"), err)
}
