package pgperffarm

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/event"
)

func TestEveryRefusalOfTheLogHasItsAnswer(t *testing.T) {
	request := &event.FarmUploadRequested{MachineType: "riscv64", StartTime: time.Date(2021, 7, 2, 11, 0, 0, 123456000, time.UTC).UnixMicro()}
	cases := map[runs.Result]struct {
		outcome runs.Outcome
		status  int
		says    []string
	}{
		runs.Duplicate:      {runs.Outcome{Run: 41}, 406, []string{"run_start_time", "run 41", "2021-07-02T11:00:00.123456Z"}},
		runs.OtherType:      {runs.Outcome{Type: "aarch64"}, 406, []string{"kernel.uname_m", `"riscv64"`, `"aarch64"`}},
		runs.DictionaryFull: {runs.Outcome{}, 406, []string{"limit"}},
		runs.KeyReused:      {runs.Outcome{}, 422, []string{door.KeyHeader}},
		runs.Ignored:        {runs.Outcome{}, 406, []string{"operator"}},
	}
	for result, tc := range cases {
		tc.outcome.Result = result
		status, refused := refusalOf(request, tc.outcome)
		if status != tc.status || refused.RunID != tc.outcome.Run {
			t.Errorf("result %d: answer is %d %+v, want %d naming run %d", result, status, refused, tc.status, tc.outcome.Run)
		}
		for _, text := range tc.says {
			if !strings.Contains(refused.Error, text) {
				t.Errorf("result %d: error is %q, want it to say %q", result, refused.Error, text)
			}
		}
	}
}

func TestReasonsAreCutAtCharacters(t *testing.T) {
	for _, length := range []int{0, 499, 500, 501, 5000} {
		reason := strings.Repeat("ü", length)
		got := cut(reason)
		if n := utf8.RuneCountInString(got); n != min(length, 500) || !utf8.ValidString(got) {
			t.Errorf("of %d characters %d are kept, valid: %v", length, n, utf8.ValidString(got))
		}
		if (got == reason) != (length <= 500) {
			t.Errorf("of %d characters the text is changed: %v", length, got != reason)
		}
	}
}

func TestConfigurationMistakesAreReportedAllAtOnce(t *testing.T) {
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Errorf("the default configuration is refused: %v", err)
	}
	bad := Config{
		Login: pgweb.Config{LoginURL: "https://www.postgresql.org/account/auth/9/", Key: []byte("short"), Version: 3},
		Staff: []string{"boss", ""}, AfterLogin: "//evil.example",
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("a bad configuration is taken")
	}
	for _, text := range []string{"auth_key", "after_login", "staff", "1024", "held", "keys"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error is %q, want it to name %q", err, text)
		}
	}
	for page, valid := range map[string]bool{
		"/": true, "/profile?a=b": true, "https://farm.example/profile": true,
		"": false, "profile": false, "javascript:alert(1)": false, "https://": false, "//evil.example": false, "%zz": false,
	} {
		c := DefaultConfig()
		c.AfterLogin = page
		if err := c.Validate(); (err == nil) != valid {
			t.Errorf("after_login %q gives %v, want valid: %v", page, err, valid)
		}
	}
}
