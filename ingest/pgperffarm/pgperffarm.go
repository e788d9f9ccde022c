// Package pgperffarm is the write side of the PostgreSQL Performance Farm's API: uploads, machines, and the community
// login. Section numbers in comments are those of the API's wire contract.
package pgperffarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/ingest/pgweb"
	"github.com/millrace/millrace/processor/access"
	farm "github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
	"github.com/millrace/millrace/schemas/document"
	"github.com/millrace/millrace/schemas/keyring"
)

// API is the name of the Performance Farm's route table.
const API = "pgperffarm"

// source names this door in events.
const source = "/pgperffarm"

// Config is what an operator can set.
type Config struct {
	// Login is the site's registration at pgweb. The zero value: nobody can sign in.
	Login pgweb.Config
	// AfterLogin is the page after a login that had no target, a path or an address.
	AfterLogin string
	// Staff are the community user names that become staff when they sign in.
	Staff []string
	// MaxBody is the largest upload in bytes, as sent and after decoding gzip.
	MaxBody int64
	// Hold is how long an upload waits for a missing engine before it is refused, because its sender never repeats.
	Hold time.Duration
	// KeepKeys is how long an Idempotency-Key is remembered, in log time.
	KeepKeys time.Duration
	// Limits bound a document.
	Limits farm.Limits
	// Proxies are trusted to say that a client came by HTTPS.
	Proxies access.Proxies
}

// DefaultConfig is the configuration of a farm that nobody can sign in to.
func DefaultConfig() Config {
	return Config{
		AfterLogin: "/", MaxBody: 100 << 20, Hold: time.Minute, KeepKeys: door.DefaultKeep, Limits: farm.DefaultLimits(),
	}
}

// Validate reports all mistakes at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if c.hasLogin() {
		errs = append(errs, c.Login.Validate())
	}
	bad(!validPage(c.AfterLogin), "pgperffarm.after_login %q: want a path of this site or an http or https address", c.AfterLogin)
	bad(slices.Contains(c.Staff, ""), "pgperffarm.staff holds an empty user name")
	bad(c.MaxBody < 1<<10, "the largest upload is %d bytes: allow at least 1024", c.MaxBody)
	bad(c.Hold < time.Second, "uploads are held for %s: want at least 1s", c.Hold)
	bad(c.KeepKeys < time.Second, "idempotency keys are kept for %s: want at least 1s", c.KeepKeys)
	return errors.Join(errs...)
}

func (c *Config) hasLogin() bool { return c.Login.LoginURL != "" || len(c.Login.Key) > 0 }

func validPage(page string) bool {
	u, err := url.Parse(page)
	if err != nil {
		return false
	}
	if strings.HasPrefix(page, "/") {
		return !strings.HasPrefix(page, "//")
	}
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// Dependencies are what the endpoints work with. All are required but StoredRun.
type Dependencies struct {
	Log      door.Log
	Registry door.Fold[*registry.State, registry.Outcome]
	Runs     door.Fold[*runs.State, runs.Outcome]
	Keyring  *keyring.Keyring
	Packer   *document.Packer
	// StoredRun looks up in the projections which run of a machine has a start time (Unix microseconds), 0 for none. It
	// is asked once the fold has forgotten the natural keys of runs up to through, which its answer must contain.
	StoredRun func(ctx context.Context, machine uint64, start int64, through uint64) (uint64, error)
	Now       func() time.Time
	Metrics   prometheus.Registerer
	Logger    *slog.Logger
}

// Farm answers the write endpoints.
type Farm struct {
	Dependencies
	config   Config
	login    *pgweb.Login
	bodies   bodies
	systems  farm.Systems
	refusals *refusals
}

// New checks the configuration.
func New(config Config, d Dependencies) (*Farm, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	f := &Farm{Dependencies: d, config: config}
	if config.hasLogin() {
		login, err := pgweb.New(config.Login, d.Keyring.Derive("pgweb-target"))
		if err != nil {
			return nil, err
		}
		f.login = login
	}
	refused, err := newRefusals(d)
	if err != nil {
		return nil, err
	}
	f.refusals = refused
	return f, nil
}
