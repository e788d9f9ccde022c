package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/clickhouse"
	"github.com/millrace/millrace/schemas/route"
)

// fault says what an error of ClickHouse means to the reader: that the generation was dropped (gate.ErrSuperseded), that
// too much was asked for or the engine is out of reach (*route.Error), or a mistake of ours.
func fault(ctx context.Context, what string, err error) error {
	exception, answered := errors.AsType[*ch.Exception](err)
	_, misread := errors.AsType[*ch.OpError](err)
	large, tooLarge := errors.AsType[*projection.TooLargeError](err)
	switch {
	case tooLarge && ctx.Err() == nil:
		return fmt.Errorf("read %s: %w: %w", what, route.Busy(5*time.Minute, "this trend cannot be shown: %s", large.Week()), err)
	case ctx.Err() != nil, misread:
		return fmt.Errorf("read %s: %w", what, err)
	case !answered:
		return fmt.Errorf("read %s: %w: %w", what, route.Busy(2*time.Second, "ClickHouse does not answer; try again"), err)
	}
	switch exception.Code {
	case clickhouse.CodeUnknownTable, clickhouse.CodeUnknownDatabase:
		return fmt.Errorf("read %s: %w: %w", what, gate.ErrSuperseded, err)
	case clickhouse.CodeTimeout, clickhouse.CodeTooSlow, clickhouse.CodeMemory, clickhouse.CodeTooLarge:
		return fmt.Errorf("read %s: %w: %w", what, route.Busy(5*time.Second, "the answer takes more time or memory than one request "+
			"may have: ask for less, by a filter, a shorter time range or a smaller limit"), err)
	case clickhouse.CodeTooMany:
		return fmt.Errorf("read %s: %w: %w", what, route.Busy(time.Second, "ClickHouse has too much to do; try again"), err)
	}
	return fmt.Errorf("read %s: %w", what, err)
}
