package projection

import (
	"fmt"
	"math"
	"time"
)

// Instants must lie in the years that every table and client can show; they are the parser's bounds too.
var (
	earliest = time.Unix(0, 0).UnixMilli()
	latest   = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() - 1
)

// greatest bounds samples: the squares of their deviations must be finite even when millions are summed.
const greatest = 1e150

// checks converts values to what the tables hold and keeps the first failure.
type checks struct{ err error }

func (c *checks) fail(format string, values ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, values...)
	}
}

func (c *checks) int32(what string, n int) int32 {
	if n < math.MinInt32 || n > math.MaxInt32 {
		c.fail("%s is %d, it must fit 32 bits", what, n)
	}
	return int32(n)
}

// instant is a time in Unix milliseconds.
func (c *checks) instant(what string, ms int64) time.Time {
	if ms < earliest || ms > latest {
		c.fail("%s is %d ms after 1970, it must be from 1970 to 2261", what, ms)
	}
	return time.UnixMilli(ms).UTC()
}

// milliseconds rounds Unix seconds.
func (c *checks) milliseconds(what string, seconds float64) int64 {
	ms := math.Round(seconds * 1000)
	if !(ms >= float64(earliest) && ms <= float64(latest)) {
		c.fail("%s is %v seconds after 1970, it must be from 1970 to 2261", what, seconds)
		return 0
	}
	return int64(ms)
}

// timestamp checks a time and keeps its microseconds.
func (c *checks) timestamp(what string, t time.Time) time.Time {
	c.instant(what, t.UnixMilli())
	return t
}

// optional passes a time that is not known as null.
func (c *checks) optional(what string, t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = c.timestamp(what, t)
	return &t
}

func (c *checks) finite(what string, f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		c.fail("%s is %v, it must be finite", what, f)
	}
	return f
}

// seconds turns a duration that may not be known into seconds.
func seconds(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := d.Seconds()
	return &s
}
