package clickhouse

import (
	"strings"
	"testing"
)

func TestAnAddressThatIsNotOneServerIsRefusedWithoutItsPassword(t *testing.T) {
	for address, reason := range map[string]string{
		"":                                     "MILLRACE_CLICKHOUSE",
		"clickhouse://u:hunter2@/db":           "MILLRACE_CLICKHOUSE",
		"clickhouse://u:hunter2@a:port/db":     "MILLRACE_CLICKHOUSE",
		"clickhouse://u:hunter2@a:1,b:2/db":    "several servers",
		"clickhouse://u:hunter2@a,b/db":        "several servers",
		"clickhouse://u:hunter2@a:1/da-ta-ba":  "database",
		"clickhouse://u:hunter2@a:1/one/other": "database",
	} {
		db, err := Open(Config{URL: address})
		if err == nil {
			_ = db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error is %v, want one that names %s", address, err, reason)
		}
	}
}
