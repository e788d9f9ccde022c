package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestThePageOfSettingsIsUpToDate(t *testing.T) {
	page, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != Markdown() {
		t.Error("docs/configuration.md is not what the settings say: run millrace config settings >docs/configuration.md")
	}
}

func TestSettingsOfEveryKindComeFromTheEnvironment(t *testing.T) {
	c, err := Load([]string{
		"MILLRACE_DEMO=on", "MILLRACE_QUERY_WAIT=250ms", "MILLRACE_TRUSTED_PROXIES=10.0.0.0/8,127.0.0.1",
		"MILLRACE_ENGINES_RETENTION=runs=720h, results=24h", "MILLRACE_DEBCI_SUITES=sid",
		"MILLRACE_DEBCI_APT_SOURCES=backports=deb http://host/debian x main,other=deb [a=b] http://host y",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Demo || c.Query.Wait != 250*time.Millisecond || len(c.TrustedProxies) != 2 {
		t.Errorf("demo %v, wait %s, proxies %q", c.Demo, c.Query.Wait, c.TrustedProxies)
	}
	if r := c.Engines.Retention; len(r) != 2 || r["runs"] != 720*time.Hour || r["results"] != 24*time.Hour {
		t.Errorf("retention %v", r)
	}
	if len(c.Debci.Suites) != 1 || len(c.Debci.AptSources) != 2 || c.Debci.AptSources["other"].Entry != "deb [a=b] http://host y" {
		t.Errorf("debci %+v", c.Debci)
	}
	for value, reason := range map[string]string{"720h": "NAME=VALUE", "rnus=720h": "rnus"} {
		if _, err := Load([]string{"MILLRACE_ENGINES_RETENTION=" + value}); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: error is %v, want one that says %s", value, err, reason)
		}
	}
}

func TestSecretThatNoHeaderCanHaveIsRefused(t *testing.T) {
	for secret, good := range map[string]bool{"hidden-1": true, "two words": false, "line\nend": false, "Größe": false} {
		_, err := Load([]string{"MILLRACE_TESTFLINGER_WEBHOOK_SECRET=" + secret})
		if good && err != nil || !good && (err == nil || !strings.Contains(err.Error(), "webhook_secret") || strings.Contains(err.Error(), secret)) {
			t.Errorf("%q: error is %v", secret, err)
		}
	}
}

// settingsFile gives the environment that names a file with these settings.
func settingsFile(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{FileVariable + "=" + path}
}

func TestSettingsOfEveryKindComeFromAFile(t *testing.T) {
	c, err := Load(append(settingsFile(t, `
listen: 127.0.0.1:9000
demo: on
trusted_proxies: [10.0.0.0/8, 127.0.0.1]
log:
  # every key of this group is a comment
trace: {ratio: 0.5}
engines: {max_log_bytes: 1e9, retention: {runs: 720h, results: 24h}}
testflinger: {lease: 0}
debci:
  suites: sid, trixie
  apt_sources:
    backports: {entry: deb http://host x main, allowed_users: [jane]}
    other: deb http://host y main
`), "MILLRACE_LISTEN=127.0.0.1:9001"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:9001" || !c.Demo || len(c.TrustedProxies) != 2 || c.Log.Format != "text" || c.Trace.Ratio != 0.5 {
		t.Errorf("listen %q, demo %v, proxies %q, log %+v, ratio %v", c.Listen, c.Demo, c.TrustedProxies, c.Log, c.Trace.Ratio)
	}
	if c.Engines.MaxLogBytes != 1e9 || c.Engines.Retention["runs"] != 720*time.Hour || c.Testflinger.Lease != 0 {
		t.Errorf("log bytes %d, retention %v, lease %s", c.Engines.MaxLogBytes, c.Engines.Retention, c.Testflinger.Lease)
	}
	if !slices.Equal(c.Debci.Suites, []string{"sid", "trixie"}) || c.Debci.AptSources["other"].Entry != "deb http://host y main" ||
		!slices.Equal(c.Debci.AptSources["backports"].AllowedUsers, []string{"jane"}) {
		t.Errorf("debci %+v", c.Debci)
	}
}

func TestEveryMistakeIsReportedAtOnceWhereItIs(t *testing.T) {
	_, err := Load(append(settingsFile(t, `
lisen: 127.0.0.1:9000
log.format: json
log: {format: xml}
demo: perhaps
jobs: {lease: 5, requeues: some, max_waiting: 1.5}
trace: {ratio: half}
query: none
listen: [a, b]
debci: {suites: {a: b}, apt_sources: {x: {entyr: deb}}}
`), "MILLRACE_QUERY_WAIT=5", "MILLRACE_PUBLIC_READS=sometimes"))
	if err == nil {
		t.Fatal("the settings count as sound")
		return
	}
	for _, want := range []string{
		"has invalid keys: lisen, log.format", `log.format: "xml" is neither`,
		`demo: "perhaps" is neither on nor off`, `jobs.lease: "5" is not a time with its unit`, `jobs.requeues: "some" is not a whole number`,
		`jobs.max_waiting: "1.5" is not a whole number`, `trace.ratio: "half" is not a number`, "query: wants keys on lines below it",
		"listen: wants one value", "debci.suites: wants a list", "debci.apt_sources[x]: has invalid keys: entyr",
		`MILLRACE_QUERY_WAIT: "5" is not a time`, `MILLRACE_PUBLIC_READS: "sometimes" is neither on nor off`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %s", want)
		}
	}
	for _, internal := range []string{"strconv", "config.Config", "mapstructure", "reflect"} {
		if strings.Contains(err.Error(), internal) {
			t.Errorf("the error speaks of %s", internal)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestVariablesThatNothingReadsAreNamed(t *testing.T) {
	got := Unknown([]string{
		"HOME=/", "MILLRACE_LISTNE=x", "MILLRACE_LISTEN=x", "MILLRACE_PORT=tcp://10.0.0.1:80", "MILLRACE_DEMO=on", "MILLRACE_TOKEN=x",
		"MILLRACE_TEST_KAFKA=x", "MILLRACE_CONFIG=x", "MILLRACE_JOBS_LEASE=1m", "MILLRACE_LISTNE=y",
	})
	if want := []string{"MILLRACE_LISTNE", "MILLRACE_PORT"}; !slices.Equal(got, want) {
		t.Errorf("unknown are %q, want %q", got, want)
	}
}

func TestDefaultsAreShownAsOneWritesThem(t *testing.T) {
	want := map[string]string{
		"demo": "off", "query.cache_redis": "on", "debci.suites": "unstable,testing,stable", "debci.backends": "", "engines.retention": "",
		"jobs.lease": "1m", "ingest.idempotency_window": "168h", "query.wait": "5s", "processor.interval": "250ms", "testflinger.lease": "0",
		"files.timeout": "1h",
	}
	for _, s := range Settings() {
		if text, asked := want[s.Key]; asked && s.Default != text {
			t.Errorf("the default of %s is shown as %q, want %q", s.Key, s.Default, text)
		}
		delete(want, s.Key)
	}
	if len(want) > 0 {
		t.Errorf("there is nothing of %v", want)
	}
}
