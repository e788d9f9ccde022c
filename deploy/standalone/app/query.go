package app

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/cache"
	querydebci "github.com/millrace/millrace/query/debci"
	"github.com/millrace/millrace/query/download"
	"github.com/millrace/millrace/query/native"
	"github.com/millrace/millrace/query/native/artifacts"
	"github.com/millrace/millrace/query/native/fresh"
	"github.com/millrace/millrace/query/native/lab"
	"github.com/millrace/millrace/query/native/subscriptions"
	"github.com/millrace/millrace/query/native/touched"
	queryfarm "github.com/millrace/millrace/query/pgperffarm"
	querytestflinger "github.com/millrace/millrace/query/testflinger"
	"github.com/millrace/millrace/query/ui"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

func (p *process) openCache() error {
	c := p.options.Config.Query
	var shared *redis.Client
	if c.CacheRedis {
		shared = p.redis
	}
	var err error
	p.cache, err = cache.New(cache.Config{
		Bytes: c.CacheBytes, Redis: shared, Prefix: cachePrefix(p.log.LogID, p.options.Version), Registry: p.metrics, Logger: p.logger,
	})
	return err
}

// composeQuery adds the read endpoints to the tables.
func (p *process) composeQuery(tokens access.TokensConfig) error {
	c := p.options.Config.Query
	farm := queryfarm.New(queryfarm.Config{
		DB: p.db, Generation: p.generation.Number, Registry: p.registry, Runs: p.runs, Gate: p.gate, Cache: p.cache,
		Access:  access.NewFarm(access.FarmConfig{}, p.registry, p.keys, access.NewAttempts(), time.Now),
		Keyring: p.keys, MaxRows: c.MaxListRows, Now: time.Now, Logger: p.logger,
	})
	p.touched = touched.New(p.log, eventlog.Metrics, touched.Series, p.logger)
	p.output = touched.New(p.log, eventlog.JobOutput, touched.Output, p.logger)
	answers := fresh.New(fresh.Config{
		Gate: p.gate, Cache: p.cache, Runs: p.runs, Jobs: p.jobs, Generation: p.generation.Number, LogID: p.log.LogID, Touched: p.touched,
	})
	reader := lab.NewReader(p.db, p.runs, p.jobs)
	p.reads = native.New(native.Config{
		Answers: answers, Reader: reader, Jobs: p.jobs, Output: p.output, Packer: p.packer, Keyring: p.keys, MaxWait: p.options.Config.Jobs.MaxWait,
		Now: time.Now, Describe: p.describe,
	})
	sender := &download.Sender{Blobs: p.blobs, Logger: p.logger}
	files := artifacts.New(artifacts.Config{DB: p.db, Gate: p.gate, Sender: sender})
	var err error
	if p.pages, err = ui.New(ui.Config{
		Answers: answers, Reader: reader, Packer: p.packer, Artifacts: files, Now: time.Now,
		Authorize: p.apis[native.API].Authorize, Secure: tokens.Proxies.Secure,
	}); err != nil {
		return err
	}
	p.socketReads = append(p.reads.Routes(), files.Routes()...)
	p.socketReads = append(p.socketReads, subscriptions.New(subscriptions.Config{Registry: p.registry, Keyring: p.keys, Client: p.log}).Routes()...)
	tests := querydebci.New(querydebci.Config{
		DB: p.db, Gate: p.gate, Packer: p.packer, Rejected: p.rejected,
		Rules: p.debciRules(), MaxRows: c.MaxListRows,
	})
	devices := querytestflinger.New(querytestflinger.Config{
		Generation: p.tokens.Generation(), DB: p.db, Gate: p.gate, Reader: reader, Jobs: p.jobs, Registry: p.registry, Keyring: p.keys,
		Packer: p.packer, Sender: sender, MaxRows: c.MaxListRows, Now: time.Now,
	})
	p.routes = append(p.routes, farm.Routes()...)
	p.routes = append(p.routes, tests.Routes()...)
	p.routes = append(p.routes, p.heard(devices.Routes())...)
	p.routes = append(p.routes, p.socketReads...)
	p.routes = append(p.routes, p.pages.Routes()...)
	return nil
}

// cachePrefix keeps installations apart, and versions: an upgrade must not serve what the former version computed.
func cachePrefix(logID, version string) string { return "millrace:" + logID + ":" + version + ":" }

// describe gives the OpenAPI document of every API, also of what another process serves.
func (p *process) describe() ([]byte, error) {
	routes, err := Tables(p.options.Config)
	if err != nil {
		return nil, err
	}
	return route.OpenAPI("Millrace", p.options.Version, routes)
}

// queryTables are the read endpoints without anything behind them.
func queryTables(c config.Config, generation testflinger.Generation) ([]route.Route, error) {
	pages, err := ui.New(ui.Config{})
	if err != nil {
		return nil, err
	}
	routes := append(queryfarm.New(queryfarm.Config{}).Routes(), native.New(native.Config{MaxWait: c.Jobs.MaxWait}).Routes()...)
	routes = append(routes, querydebci.New(querydebci.Config{}).Routes()...)
	routes = append(routes, querytestflinger.New(querytestflinger.Config{Generation: generation}).Routes()...)
	routes = append(routes, artifacts.New(artifacts.Config{}).Routes()...)
	routes = append(routes, subscriptions.New(subscriptions.Config{}).Routes()...)
	return append(routes, pages.Routes()...), nil
}
