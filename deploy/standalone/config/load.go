package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"

	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/processor/webhook"
	"github.com/millrace/millrace/schemas/eventlog"
)

const (
	// FileVariable names the settings file.
	FileVariable = "MILLRACE_CONFIG"
	// TokenVariable holds the token for a Millrace elsewhere.
	TokenVariable = "MILLRACE_TOKEN"
	// testVariables are the tests' own.
	testVariables = "MILLRACE_TEST_"
)

// others are the variables that Millrace's programs, docker-compose.yml and the tests read and that are no settings.
// MILLRACE_PORT, which docker-compose.yml reads, is not among them: there it is not passed on.
var others = []string{
	FileVariable, TokenVariable, "MILLRACE_JOB_ID", "MILLRACE_JOB_QUEUE", "MILLRACE_MACHINE_SECRET", "MILLRACE_IMAGE", "MILLRACE_E2E_DRAIN",
}

// Load reads the settings and checks them. Its error names every mistake.
func Load(environment []string) (Config, error) {
	config := Default()
	inFile, variables := koanf.New("."), koanf.New(".")
	if path := lookup(environment, FileVariable); path != "" {
		if err := inFile.Load(file.Provider(path), yaml.Parser()); err != nil {
			return config, fmt.Errorf("read settings from %s: %w", path, err)
		}
	}
	if err := variables.Load(confmap.Provider(fromEnvironment(environment), "."), nil); err != nil {
		return config, fmt.Errorf("read settings from the environment: %w", err)
	}
	mistakes := decode(inFile.Raw(), &config, func(key string) string { return key })
	mistakes = append(mistakes, decode(variables.Raw(), &config, variable)...)
	mistakes = append(mistakes, config.mistakes()...)
	if err := errors.Join(mistakes...); err != nil {
		return config, fmt.Errorf("settings (millrace config settings lists them all; in a file, each part of a key has a line of its own):\n%w", err)
	}
	return config, nil
}

// fromEnvironment gives the settings among the environment's variables; an empty one sets nothing.
func fromEnvironment(environment []string) map[string]any {
	values := map[string]any{}
	for _, setting := range Settings() {
		if value := lookup(environment, setting.Variable); value != "" {
			values[setting.Key] = value
		}
	}
	return values
}

// Unknown lists the variables that begin with MILLRACE_ and that nothing of Millrace's reads. They may be somebody else's:
// Kubernetes gives a service named millrace MILLRACE_PORT and the like.
func Unknown(environment []string) []string {
	known := slices.Clone(others)
	for _, setting := range Settings() {
		known = append(known, setting.Variable)
	}
	var unknown []string
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "MILLRACE_") && !strings.HasPrefix(name, testVariables) && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return slices.Compact(unknown)
}

// Setting is one key of the file with its environment variable, default and documentation.
type Setting struct{ Key, Variable, Default, Doc string }

// Settings lists every setting in the order of the file.
func Settings() []Setting {
	return settingsOf(reflect.ValueOf(Default()), "")
}

func settingsOf(v reflect.Value, prefix string) []Setting {
	var settings []Setting
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := prefix + field.Tag.Get("koanf")
		if v.Field(i).Kind() == reflect.Struct {
			settings = append(settings, settingsOf(v.Field(i), key+".")...)
			continue
		}
		settings = append(settings, Setting{Key: key, Variable: variable(key), Default: text(v.Field(i)), Doc: field.Tag.Get("doc")})
	}
	return settings
}

// text writes a default as one writes it in a file or a variable.
func text(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case bool:
		if value {
			return "on"
		}
		return "off"
	case []string:
		return strings.Join(value, ",")
	case time.Duration:
		return timeText(value)
	}
	if v.Kind() == reflect.Map {
		return "" // none has a default
	}
	return fmt.Sprint(v.Interface())
}

// timeText leaves out the zeros that a time's own text ends with.
func timeText(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	text := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if short, found := strings.CutSuffix(text, zero); found && strings.HasSuffix(short, map[string]string{"0s": "m", "0m": "h"}[zero]) {
			text = short
		}
	}
	return text
}

func variable(key string) string {
	return "MILLRACE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func lookup(environment []string, name string) string {
	for _, entry := range slices.Backward(environment) {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}

// mistakes are everything that cannot work.
func (c Config) mistakes() []error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen)
	bad(err != nil, "listen: %q is not host:port", c.Listen)
	bad(c.Data == "", "data: name a folder")
	bad(!slices.Contains([]string{"text", "json"}, c.Log.Format), "log.format: %q is neither text nor json", c.Log.Format)
	bad(!slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level), "log.level: %q is not debug, info, warn or error", c.Log.Level)
	bad(c.Trace.Ratio < 0 || c.Trace.Ratio > 1, "trace.ratio: %g is not between 0 and 1", c.Trace.Ratio)
	for _, proxy := range c.TrustedProxies {
		bad(!isAddress(proxy), "trusted_proxies: %q is neither an address nor a network", proxy)
	}
	bad(c.Ingest.UploadResults < 1 || c.Ingest.UploadResults > 1023, "ingest.upload_results: %d is not between 1 and 1023", c.Ingest.UploadResults)
	bad(c.Ingest.UploadRows < 1 || c.Ingest.UploadRows >= 1<<20, "ingest.upload_rows: %d is not between 1 and 1048575", c.Ingest.UploadRows)
	bad(c.Ingest.UploadDepth < 8, "ingest.upload_depth: %d is less than 8, which documents need", c.Ingest.UploadDepth)
	bad(c.Ingest.IdempotencyWindow < time.Second, "ingest.idempotency_window: %s is less than a second", c.Ingest.IdempotencyWindow)
	bad(c.Ingest.BodyPatience < time.Second, "ingest.body_patience: %s is less than a second: honest senders pause for longer", c.Ingest.BodyPatience)
	bad(c.Engines.ClickHouseNice < 0 || c.Engines.ClickHouseNice > 19, "engines.clickhouse_nice: %d is not between 0 and 19", c.Engines.ClickHouseNice)
	bad(c.Engines.MaxLogBytes < 16<<20, "engines.max_log_bytes: %d bytes are less than 16777216, which the log takes at rest", c.Engines.MaxLogBytes)
	bad(c.Engines.TrimInterval <= 0, "engines.trim_interval: %s is not a time to wait", c.Engines.TrimInterval)
	bad(c.Jobs.Requeues < 0 || c.Jobs.Requeues > 1000, "jobs.requeues: %d is not between 0 and 1000", c.Jobs.Requeues)
	bad(c.Jobs.MaxWaiting < 1, "jobs.max_waiting: %d lets no claim in: allow at least 1", c.Jobs.MaxWaiting)
	bad(c.Jobs.KeptBytes < 1<<20, "jobs.kept_bytes: %d is less than 1048576", c.Jobs.KeptBytes)
	for topic := range c.Engines.Retention {
		known := func(t eventlog.Topic) bool { return t.Name == topic }
		bad(!slices.ContainsFunc(eventlog.Topics(1), known), "engines.retention: there is no topic %q", topic)
	}
	bad(c.Files.MaxBytes < 1, "files.max_bytes: %d lets no file in: allow at least 1", c.Files.MaxBytes)
	bad(c.Files.Timeout < time.Second, "files.timeout: %s is less than a second", c.Files.Timeout)
	bad(c.Files.AtOnce < 1, "files.at_once: %d lets no file in or out: allow at least 1", c.Files.AtOnce)
	bad(c.Files.Keep != 0 && c.Files.Keep < time.Minute, "files.keep: %s is neither 0 nor at least a minute", c.Files.Keep)
	errs = append(errs, c.Webhooks.validate()...)
	errs = append(errs, c.PgPerfFarm.validate()...)
	errs = append(errs, c.Testflinger.validate()...)
	return append(errs, c.Debci.validate()...)
}

func isAddress(text string) bool {
	if _, err := netip.ParsePrefix(text); err == nil {
		return true
	}
	_, err := netip.ParseAddr(text)
	return err == nil
}

func (c Webhooks) validate() []error {
	var errs []error
	if _, err := webhook.ParseAllowed(c.AllowPrivate); err != nil {
		errs = append(errs, fmt.Errorf("webhooks.allow_private: %w", err))
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("webhooks.timeout: %s is not between 100ms and 1m", c.Timeout))
	}
	if c.MaxPause < time.Second || c.Window < c.MaxPause {
		errs = append(errs, fmt.Errorf("webhooks.max_pause: %s is not between a second and webhooks.window, %s", c.MaxPause, c.Window))
	}
	if c.AtOnce < 1 || c.AtOnce > 64 {
		errs = append(errs, fmt.Errorf("webhooks.at_once: %d is not between 1 and 64", c.AtOnce))
	}
	if c.MaxSubscriptions < 0 || c.MaxSubscriptions > 1000 {
		errs = append(errs, fmt.Errorf("webhooks.max_subscriptions: %d is not between 0 and 1000", c.MaxSubscriptions))
	}
	return errs
}

func (c PgPerfFarm) validate() []error {
	var errs []error
	if c.AuthVersion < 2 || c.AuthVersion > 4 {
		errs = append(errs, fmt.Errorf("pgperffarm.auth_version: %d is not 2, 3 or 4", c.AuthVersion))
	}
	if _, err := base64.StdEncoding.DecodeString(c.AuthKey); err != nil {
		errs = append(errs, errors.New("pgperffarm.auth_key: not standard base64"))
	}
	if (c.LoginURL == "") != (c.AuthKey == "") {
		errs = append(errs, errors.New("pgperffarm: login_url and auth_key are needed together"))
	}
	return errs
}

func (c Testflinger) validate() []error {
	var errs []error
	if _, err := testflinger.ParseGeneration(c.API); err != nil {
		errs = append(errs, err)
	}
	if c.JWTSigningKey != "" && len(c.JWTSigningKey) < 32 {
		errs = append(errs, errors.New("testflinger.jwt_signing_key: fewer than 32 characters can be guessed"))
	}
	if strings.ContainsFunc(c.WebhookSecret, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, errors.New("testflinger.webhook_secret: only printable ASCII without blanks goes into a header"))
	}
	if c.Lease != 0 && c.Lease < time.Second {
		errs = append(errs, fmt.Errorf("testflinger.lease: %s is less than a second", c.Lease))
	}
	if c.Requeues < 0 || c.Requeues > 1000 {
		errs = append(errs, fmt.Errorf("testflinger.requeues: %d is not between 0 and 1000", c.Requeues))
	}
	if c.RequestBytes < 1<<10 {
		errs = append(errs, fmt.Errorf("testflinger.request_bytes: %d is less than 1024", c.RequestBytes))
	}
	if c.Exclusions < 1 || c.Exclusions > 10_000 {
		errs = append(errs, fmt.Errorf("testflinger.exclusions: %d is not between 1 and 10000", c.Exclusions))
	}
	return errs
}

func (c Debci) validate() []error {
	var errs []error
	if c.MaxTests < 1 || c.MaxTests > 50_000 {
		errs = append(errs, fmt.Errorf("debci.max_tests: %d is not between 1 and 50000", c.MaxTests))
	}
	if c.RequestBytes < 1<<10 {
		errs = append(errs, fmt.Errorf("debci.request_bytes: %d is less than 1024", c.RequestBytes))
	}
	for name, values := range map[string][]string{"suites": c.Suites, "architectures": c.Architectures, "backends": c.Backends} {
		for _, value := range values {
			if value == "" || strings.ContainsAny(value, "/ \t") {
				errs = append(errs, fmt.Errorf("debci.%s: %q is no name", name, value))
			}
		}
	}
	for name, source := range c.AptSources {
		if source.Entry == "" {
			errs = append(errs, fmt.Errorf("debci.apt_sources: %s has no entry", name))
		}
	}
	if _, err := debci.NewRejectFile(c.RejectList).List(); err != nil {
		errs = append(errs, fmt.Errorf("debci.reject_list: %w", err))
	}
	return errs
}

// Environment is the process's environment.
func Environment() []string { return os.Environ() }

// Markdown documents every setting.
func Markdown() string {
	var page strings.Builder
	page.WriteString("# Settings\n\nEvery key of the YAML file named by `" + FileVariable + "` can also be set by its environment variable, " +
		"which goes first.\nLists take commas, times a unit (`250ms`, `5s`, `168h`), switches `on` and `off`. A dot stands for a level of the file: " +
		"`log.format` and `log.level` are\n\n```yaml\nlog:\n  format: json\n  level: debug\n```\n\n" +
		"| key | variable | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, s := range Settings() {
		fmt.Fprintf(&page, "| `%s` | `%s` | %s | %s |\n", s.Key, s.Variable, s.Default, s.Doc)
	}
	return page.String()
}
