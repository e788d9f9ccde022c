package debci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func rules() *Rules {
	return &Rules{
		Suites: []string{"unstable", "testing"}, Architectures: []string{"amd64", "arm64"}, Backends: []string{"lxc"},
		AptSources: map[string]AllowedSource{"open": {Entry: "deb http://o x"}, "closed": {Entry: "deb http://c x", AllowedUsers: []string{"jane"}}},
	}
}

func parse(document string) ([]Request, error) {
	return ParseTests([]byte(document), rules(), "joe", "unstable", "amd64", 5)
}

func ptr[T any](v T) *T { return &v }

func TestTestsAreReadAsTheyWereAskedFor(t *testing.T) {
	got, err := parse(` [ {"package": "bash", "trigger": "dpkg/1.2 apt/3", "other": {"x": [1]}, "package": "dash",
		"pin-packages": [["src:a,src:b", "testing"], ["src:c", "d", "testing"]], "is_private": true, "extra-apt-sources": ["open"], "backend": "lxc"},
		{"package": "libstdc++-1.0", "trigger": null, "pin-packages": null, "is_private": false, "extra-apt-sources": []} ] `)
	want := []Request{{
		Suite: "unstable", Arch: "amd64", Package: "dash", Trigger: ptr("dpkg/1.2 apt/3"),
		Pins: [][]string{{"src:a,src:b", "testing"}, {"src:c", "d", "testing"}}, Private: true,
		AptSources: []AptSource{{Name: "open", Entry: "deb http://o x"}}, Backend: "lxc",
	}, {Suite: "unstable", Arch: "amd64", Package: "libstdc++-1.0"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v\n%s", err, diff)
	}
	if got, err := parse("[]"); err != nil || len(got) != 0 {
		t.Errorf("an empty array gives %v, %v", got, err)
	}
	document, _ := json.Marshal(want[0])
	if read, err := ReadRequest(document); err != nil || cmp.Diff(want[0], read) != "" {
		t.Errorf("a document is read back as %+v, %v", read, err)
	}
}

func TestEveryFaultOfATestIsNamed(t *testing.T) {
	for _, tc := range []struct{ item, fault string }{
		{`{}`, "Invalid package name: "},
		{`{"package": "a"}`, "Invalid package name: a"},
		{`{"package": "Bash"}`, "Invalid package name: Bash"},
		{`{"package": "bash\n"}`, "Invalid package name: bash\n"},
		{`{"package": 5}`, "Invalid package name: 5"},
		{`{"package": "bash", "trigger": 5}`, "trigger"},
		{`{"package": "bash", "trigger": ["x"]}`, "trigger"},
		{`{"package": "bash", "trigger": "a\u0000"}`, "trigger"},
		{`{"package": "bash", "pin-packages": "src:a"}`, "pin-packages"},
		{`{"package": "bash", "pin-packages": ["src:a", "unstable"]}`, "pin-packages"},
		{`{"package": "bash", "pin-packages": [["src:a", 5]]}`, "pin-packages"},
		{`{"package": "bash", "pin-packages": [["unstable"]]}`, "pin-packages"},
		{`{"package": "bash", "is_private": "true"}`, "Invalid value for bool parameter is_private for package: bash"},
		{`{"package": "bash", "extra-apt-sources": ["open", "closed", "none"]}`, "Invalid value for extra_apt_sources: closed, none"},
		{`{"package": "bash", "extra-apt-sources": "open"}`, "extra-apt-sources"},
		{`{"package": "bash", "backend": "qemu"}`, "Invalid backend: qemu"},
		{`5`, "test 1 must be an object"},
	} {
		requests, err := parse(`[{"package": "dash"}, ` + tc.item + `]`)
		invalid := (*InvalidError)(nil)
		if !errors.As(err, &invalid) || len(invalid.Faults) != 1 || !strings.Contains(invalid.Faults[0], tc.fault) || requests != nil {
			t.Errorf("%s: %v, %v; want the fault %q", tc.item, requests, err, tc.fault)
		}
	}
	_, err := parse(`[{"package": "A"}, {"package": "bash", "is_private": 1}, {"package": "B"}]`)
	want := "Invalid package name: A\nInvalid value for bool parameter is_private for package: bash\nInvalid package name: B"
	if err == nil || err.Error() != want {
		t.Errorf("several faults are told as %q, want %q", err, want)
	}
}

func TestPackageAndTriggerHaveLimitsThatTheirFaultsName(t *testing.T) {
	item := func(name, trigger int) string {
		return fmt.Sprintf(`[{"package": "%s", "trigger": "%s"}]`, strings.Repeat("p", name), strings.Repeat("t", trigger))
	}
	if requests, err := parse(item(200, 4096)); err != nil || len(requests) != 1 {
		t.Errorf("the longest package and trigger give %v, %v", requests, err)
	}
	short := strings.Repeat("p", 50) + "…"
	for document, want := range map[string]string{
		item(201, 1):  "Invalid package name: " + short + ": it has 201 bytes, the limit is 200",
		item(4, 4097): "Invalid value for trigger for package: pppp: it has 4097 bytes, the limit is 4096",
		item(5000, 200_000): "Invalid package name: " + short + ": it has 5000 bytes, the limit is 200\n" +
			"Invalid value for trigger for package: " + short + ": it has 200000 bytes, the limit is 4096",
	} {
		if requests, err := parse(document); err == nil || err.Error() != want || requests != nil {
			t.Errorf("%v, %v; want the fault %q", requests, err, want)
		}
	}
}

func TestWhatIsNoArrayOfTestsIsRefused(t *testing.T) {
	for _, document := range []string{"", "[", "[]x", "{,}", "nul", "[{\"package\": \"\xff\"}]", `[{"package": "bash", "trigger": "\ud800"}]`, `[] []`} {
		syntax := (*SyntaxError)(nil)
		if requests, err := parse(document); !errors.As(err, &syntax) || !strings.HasPrefix(err.Error(), "Invalid JSON: ") || requests != nil {
			t.Errorf("%q: %v, %v; want a syntax error", document, requests, err)
		}
	}
	for _, document := range []string{"{}", `"x"`, "5", "null", "true"} {
		invalid := (*InvalidError)(nil)
		if requests, err := parse(document); !errors.As(err, &invalid) || requests != nil {
			t.Errorf("%q: %v, %v; want that it is no array", document, requests, err)
		}
	}
	many := "[" + strings.Repeat(`{"package": "bash"},`, 5) + `{"package": "bash"}]`
	if _, err := parse(many); err == nil || !strings.Contains(err.Error(), "more tests than") {
		t.Errorf("six tests where five may be: %v", err)
	}
}

func TestExtraSourcesAreForTheirUsers(t *testing.T) {
	for user, fine := range map[string]bool{"jane": true, "joe": false} {
		_, err := ParseTests([]byte(`[{"package": "bash", "extra-apt-sources": ["closed"]}]`), rules(), user, "unstable", "amd64", 5)
		if (err == nil) != fine {
			t.Errorf("%s: %v", user, err)
		}
	}
}

func TestBatchHasItsTestsForEachArchitecture(t *testing.T) {
	got, err := ParseBatch([]byte(`[{"suite": "unstable", "arch": ["arm64", "amd64"], "tests": [{"package": "bash"}, {"package": "dash"}]},
		{"suite": "testing", "arch": ["amd64"], "tests": [{"package": "zsh"}]}, {"suite": "testing", "arch": ["amd64"], "tests": []}]`), rules(), "joe", 5)
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, r := range got {
		targets = append(targets, Queue(r.Suite, r.Arch)+"/"+r.Package)
	}
	want := []string{"debci/testing/amd64/zsh", "debci/unstable/amd64/bash", "debci/unstable/amd64/dash", "debci/unstable/arm64/bash", "debci/unstable/arm64/dash"}
	if !slices.Equal(targets, want) {
		t.Errorf("the tests are %v, want %v", targets, want)
	}
}

func TestBatchWithAnyFaultIsRefusedWhole(t *testing.T) {
	for entry, fault := range map[string]string{
		`{"suite": "bullseye", "arch": ["amd64"], "tests": []}`:                 "Invalid suite: bullseye",
		`{"suite": "unstable", "arch": ["amd64", "vax"], "tests": []}`:          "Invalid architecture: vax",
		`{"suite": "unstable", "arch": "amd64", "tests": []}`:                   "arch",
		`{"suite": "unstable", "arch": [], "tests": []}`:                        "arch",
		`{"suite": 5, "arch": ["amd64"], "tests": []}`:                          "suite",
		`{"arch": ["amd64"], "tests": []}`:                                      "suite",
		`{"suite": "unstable", "arch": ["amd64"]}`:                              "tests",
		`{"suite": "unstable", "arch": ["amd64"], "tests": {}}`:                 "tests",
		`{"suite": "unstable", "arch": ["amd64"], "tests": [{"package": "X"}]}`: "Invalid package name: X",
		`5`: "request 1",
	} {
		good := `{"suite": "unstable", "arch": ["amd64"], "tests": [{"package": "bash"}]}`
		requests, err := ParseBatch([]byte("["+good+", "+entry+"]"), rules(), "joe", 5)
		if err == nil || !strings.Contains(err.Error(), fault) || requests != nil {
			t.Errorf("%s: %v, %v; want the fault %q", entry, requests, err, fault)
		}
	}
	if _, err := ParseBatch([]byte("{}"), rules(), "joe", 5); err == nil {
		t.Error("an object is no batch")
	}
	if requests, err := ParseBatch([]byte("[]"), rules(), "joe", 5); err != nil || len(requests) != 0 {
		t.Errorf("an empty batch gives %v, %v", requests, err)
	}
}

func TestTheArchitectureIsCheckedBeforeTheSuite(t *testing.T) {
	r := rules()
	for target, want := range map[[2]string]string{
		{"bullseye", "vax"}: "Invalid architecture: vax", {"bullseye", "amd64"}: "Invalid suite: bullseye", {"unstable", "amd64"}: "",
	} {
		if got := r.CheckTarget(target[0], target[1]); got != want {
			t.Errorf("%v: %q, want %q", target, got, want)
		}
	}
}

func TestResultsAreCheckedBeforeTheyCount(t *testing.T) {
	for _, status := range []string{"pass", "fail", "neutral", "tmpfail"} {
		r, err := ParseResult(fmt.Appendf(nil, `{"status": %q, "message": "m", "version": "1-2", "duration_seconds": 61, "exit": 3}`, status))
		if want := (Result{Status: status, Message: "m", Version: "1-2", DurationSeconds: ptr(int64(61))}); err != nil || cmp.Diff(want, r) != "" {
			t.Errorf("%s: %+v, %v", status, r, err)
		}
	}
	for _, report := range []string{
		"", "{}", "[]", `{"status": "PASS"}`, `{"status": "running"}`, `{"status": null}`, `{"status": "pass", "version": 5}`,
		`{"status": "pass", "duration_seconds": -1}`, `{"status": "pass", "duration_seconds": 1.5}`,
		`{"status": "pass", "version": "` + strings.Repeat("1", 256) + `"}`,
	} {
		if r, err := ParseResult([]byte(report)); err == nil {
			t.Errorf("%s is taken as %+v", report, r)
		}
	}
}

func TestATestThatNoWorkerFinishedIsATemporaryFailure(t *testing.T) {
	for _, tc := range []struct {
		rejected bool
		report   string
		want     Result
	}{
		{false, `{"status": "pass", "version": "1"}`, Result{Status: Pass, Version: "1"}},
		{false, `{"status": "fail"}`, Result{Status: Fail, Version: NoVersion}},
		{false, ``, Result{Status: TmpFail, Version: NoVersion}},
		{false, `{"exit": 1}`, Result{Status: TmpFail, Version: NoVersion}},
		{true, ``, Result{Status: Fail, Message: "The package is in the reject list."}},
	} {
		if got := Outcome(tc.rejected, []byte(tc.report)); cmp.Diff(tc.want, got) != "" {
			t.Errorf("rejected %v, report %q: %+v, want %+v", tc.rejected, tc.report, got, tc.want)
		}
	}
}

const rejectList = `
# Breaks the machine.
# See #1234.
bash
dash unstable

# not a reason for what follows a blank line

lib*-perl unstable arm64
zsh * amd64
vim * * 2:9*
`

func TestRejectListIsAboutPackageSuiteAndArchitecture(t *testing.T) {
	l, err := ReadRejectList(strings.NewReader(rejectList))
	if err != nil {
		t.Fatal(err)
	}
	for test, want := range map[string]bool{
		"bash testing arm64": true, "dash unstable amd64": true, "dash testing amd64": false, "libx-perl unstable arm64": true,
		"libx-perl unstable amd64": false, "libx-python unstable arm64": false, "zsh testing amd64": true, "zsh testing arm64": false,
		"vim testing amd64": false, "bash2 testing amd64": false,
	} {
		words := strings.Fields(test)
		if got := l.Contains(words[0], words[1], words[2]); got != want {
			t.Errorf("%s: %v, want %v", test, got, want)
		}
	}
	type m = map[string]string
	want := map[string]map[string]map[string]m{
		"bash": {"*": {"*": m{"*": "Breaks the machine.\nSee #1234."}}}, "dash": {"unstable": {"*": m{"*": ""}}},
		"lib*-perl": {"unstable": {"arm64": m{"*": ""}}}, "zsh": {"*": {"amd64": m{"*": ""}}}, "vim": {"*": {"*": m{"2:9*": ""}}},
	}
	if diff := cmp.Diff(want, l.Tree()); diff != "" {
		t.Error(diff)
	}
}

func TestRejectListWithAMistakeIsRefused(t *testing.T) {
	for _, text := range []string{"a b c d e", "[a"} {
		if _, err := ReadRejectList(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRejectFileIsReadAgainWhenItChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reject_list")
	file := NewRejectFile(path)
	if _, err := file.List(); err == nil {
		t.Error("a file that is not there gives a list")
	}
	for n, pkg := range []string{"bash", "dash"} {
		if err := os.WriteFile(path, []byte(pkg+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1e9+n), 0)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if l, err := file.List(); err != nil || !l.Contains(pkg, "x", "y") {
				t.Errorf("%s is not rejected: %v", pkg, err)
			}
		}
	}
	if l, err := NewRejectFile("").List(); err != nil || l.Contains("bash", "x", "y") {
		t.Errorf("without a file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"package": "bash", "trigger": "x/1", "pin-packages": [["src:a", "unstable"]], "is_private": true, "extra-apt-sources": ["open"]}]`))
	f.Add([]byte(`[{"suite": "unstable", "arch": ["amd64"], "tests": [{"package": "bash"}]}]`))
	f.Add([]byte("[{\"package\": \"ba\xffsh\"}]"))
	f.Add([]byte(`[{"package": "bash", "trigger": "\ud800"}, 5, null]`))
	f.Fuzz(func(t *testing.T, document []byte) {
		tests, err := ParseTests(document, rules(), "joe", "unstable", "amd64", 50)
		checkParsed(t, tests, err)
		batch, err := ParseBatch(document, rules(), "joe", 50)
		checkParsed(t, batch, err)
	})
}

// checkParsed wants what was accepted to be storable, and every refusal to be the asker's.
func checkParsed(t *testing.T, requests []Request, err error) {
	t.Helper()
	syntax, invalid := (*SyntaxError)(nil), (*InvalidError)(nil)
	if err != nil && !errors.As(err, &syntax) && !errors.As(err, &invalid) || err != nil && requests != nil {
		t.Fatalf("%v with %d requests", err, len(requests))
	}
	for _, r := range requests {
		document, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ReadRequest(document)
		if diff := cmp.Diff(r, back, cmpopts.EquateEmpty()); err != nil || diff != "" || BadPackage(r.Package) != "" || rules().CheckTarget(r.Suite, r.Arch) != "" {
			t.Fatalf("request %+v does not survive being stored: %v\n%s", r, err, diff)
		}
	}
}
