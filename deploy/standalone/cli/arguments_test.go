package cli_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/deploy/standalone/cli"
)

// run runs a command and gives what it printed.
func run(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := cli.New("test", &out, &out).ExecuteContext(ctx, args)
	return out.String(), err
}

func TestWhatIsWrongInACommandIsNamed(t *testing.T) {
	t.Setenv("MILLRACE_DATA", t.TempDir())
	for args, want := range map[string]string{
		"amdin":                                      `unknown command "amdin" for "millrace": there are admin, completion, config, deadletters,`,
		"admin tokn":                                 `unknown command "tokn" for "millrace admin": there are backup, debci, pgperffarm, restore, testflinger, token, user`,
		"admin token lst":                            `unknown command "lst" for "millrace admin token": there are add, revoke`,
		"admin pgperffarm user x":                    `unknown command "x" for "millrace admin pgperffarm user": there are set`,
		"admin --json tokn":                          `unknown command "tokn"`,
		"deadletters lst":                            `unknown command "lst" for "millrace deadletters": there are list, requeue, show`,
		"config sett":                                `unknown command "sett" for "millrace config": there are check, settings`,
		"completion bsh":                             `unknown command "bsh" for "millrace completion"`,
		"admin token add":                            "NAME is missing: millrace admin token add NAME --role ROLE",
		"admin token revoke a b":                     `"b" is one argument too many: millrace admin token revoke NAME`,
		"deadletters show":                           "ID is missing: millrace deadletters show ID",
		"admin debci key revoke":                     "USER is missing",
		"standalone now":                             `"now" is one argument too many: millrace standalone`,
		"health a b":                                 `"b" is one argument too many: millrace health [URL]`,
		"worker --queue q":                           "COMMAND is missing: name the command to run for each job after --",
		"worker -- true":                             "name a queue with --queue",
		"admin restore f --server u":                 "without --server and --token",
		"admin restore f --token t":                  "without --server and --token",
		"deadletters list --server 127.0.0.1:8080":   `--server: "127.0.0.1:8080" is no URL of a Millrace: want one such as http://127.0.0.1:8080`,
		"admin user erase x --server localhost:8080": `want one such as http://localhost:8080`,
		"worker --queue q --server 127.0.0.1:8080 -- true": `--server: "127.0.0.1:8080" is no URL of a Millrace`,
		"health 127.0.0.1:8080":                            "want one such as http://127.0.0.1:8080",
		"worker --queue q -- /no/such/command":             `the command "/no/such/command" cannot be run: `,
		"worker --queue=a,../b -- true":                    `there is no queue "../b"`,
	} {
		out, err := run(t.Context(), strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("millrace %s: the error is %v, want %s", args, err, want)
		}
		if out != "" {
			t.Errorf("millrace %s prints %q besides its error", args, out)
		}
	}
}

func TestAGroupOfCommandsAloneShowsItsHelp(t *testing.T) {
	for _, args := range []string{"", "admin", "admin token", "deadletters", "config"} {
		out, err := run(t.Context(), strings.Fields(args)...)
		if err != nil || !strings.Contains(out, "Available Commands:") {
			t.Errorf("millrace %s: error %v, and it prints %q", args, err, out)
		}
	}
}

func TestHelpOffersOnlyWhatACommandTakes(t *testing.T) {
	out, err := run(t.Context(), "admin", "restore", "--help")
	if err != nil || strings.Contains(out, "--server") || strings.Contains(out, "--token") || !strings.Contains(out, "--json") {
		t.Errorf("error %v, the help of restore is %s", err, out)
	}
	out, err = run(t.Context(), "standalone", "--help")
	for _, want := range []string{"MILLRACE_LISTEN", "MILLRACE_DATA", "millrace config settings"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("error %v, the help of standalone does not name %s", err, want)
		}
	}
}

func TestABackupOverwritesNothing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("new")) }))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := run(t.Context(), "admin", "backup", path, "--server", server.URL)
	if err == nil || !strings.Contains(err.Error(), path+" is there already") {
		t.Errorf("the error is %v", err)
	}
	if kept, err := os.ReadFile(path); err != nil || string(kept) != "old" {
		t.Errorf("the file holds %q, error %v", kept, err)
	}
}

func TestAnEmptyListOfDeadLettersSaysSo(t *testing.T) {
	answer := `{"items":[],"next":null,"position":"1"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
	defer server.Close()
	list := []string{"deadletters", "list", "--server", server.URL}
	if out, err := run(t.Context(), list...); err != nil || out != "there are no dead letters\n" {
		t.Errorf("error %v, it prints %q", err, out)
	}
	if out, err := run(t.Context(), append(list, "--json")...); err != nil || strings.TrimSpace(out) != answer {
		t.Errorf("as JSON: error %v, it prints %q", err, out)
	}
	answer = `{"items":[{"id":"a"},{"id":"b"}],"next":"c1"}`
	want := "id             a\n\nid             b\n\nmore: --cursor c1\n"
	if out, err := run(t.Context(), list...); err != nil || out != want {
		t.Errorf("error %v, it prints %q, want %q", err, out, want)
	}
}

func TestConfigCheckNamesVariablesThatNothingReads(t *testing.T) {
	t.Setenv("MILLRACE_LISTNE", "x")
	t.Setenv("MILLRACE_DEMO", "on")
	out, err := run(t.Context(), "config", "check")
	if err != nil || !strings.Contains(out, "warning: the variable MILLRACE_LISTNE is ignored") || !strings.Contains(out, "the settings are sound") ||
		strings.Contains(out, "MILLRACE_DEMO") {
		t.Errorf("error %v, it prints %s", err, out)
	}
}

func TestAnAddressInUseIsNamedWithItsSettingAndLeavesNoDataFolder(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	data := filepath.Join(t.TempDir(), "data")
	t.Setenv("MILLRACE_LISTEN", taken.Addr().String())
	t.Setenv("MILLRACE_DATA", data)
	_, err = run(t.Context(), "standalone")
	if err == nil || !strings.Contains(err.Error(), "another process listens on "+taken.Addr().String()) || !strings.Contains(err.Error(), "MILLRACE_LISTEN") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the data folder is there: %v", err)
	}
}
