package config

import (
	"os"
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
