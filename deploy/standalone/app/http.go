package app

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/ingest"
	ingestdebci "github.com/millrace/millrace/ingest/debci"
	ingestfarm "github.com/millrace/millrace/ingest/pgperffarm"
	"github.com/millrace/millrace/ingest/pgweb"
	ingesttestflinger "github.com/millrace/millrace/ingest/testflinger"
	"github.com/millrace/millrace/processor/access"
	farm "github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/query/ui"
	"github.com/millrace/millrace/schemas/route"
	"github.com/millrace/millrace/schemas/telemetry"
)

// composeRoutes makes the tables that this process serves.
func (p *process) composeRoutes() error {
	tokens, err := p.tokensConfig()
	if err != nil {
		return err
	}
	if p.tokens, err = p.testflingerTokens(); err != nil {
		return err
	}
	settings, err := p.ingestConfig(tokens)
	if err != nil {
		return err
	}
	operations := &operations{process: p}
	p.own = operations.routes()
	p.routes = append(p.health.Routes(), p.metricsRoute())
	p.routes = append(p.routes, p.own...)
	if err := p.openCache(); err != nil {
		return err
	}
	if p.has(Ingest) {
		if err := p.composeIngest(settings); err != nil {
			return err
		}
	} else {
		p.apis = ingest.Authorizers(settings, p.registry, p.keys, p.tokens, time.Now, nil)
	}
	if !p.has(Query) {
		return nil
	}
	return p.composeQuery(tokens)
}

func (p *process) tokensConfig() (access.TokensConfig, error) {
	proxies, err := access.ParseProxies(p.options.Config.TrustedProxies)
	if err != nil {
		return access.TokensConfig{}, err
	}
	return access.TokensConfig{Loopback: isLoopback(p.listener.Addr()), PublicReads: p.options.Config.PublicReads, Proxies: proxies}, nil
}

func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func (p *process) ingestConfig(tokens access.TokensConfig) (ingest.Config, error) {
	c := p.options.Config
	key, err := base64.StdEncoding.DecodeString(c.PgPerfFarm.AuthKey)
	if err != nil {
		return ingest.Config{}, fmt.Errorf("pgperffarm.auth_key: %w", err)
	}
	webhooks, err := webhooksConfig(c)
	if err != nil {
		return ingest.Config{}, err
	}
	farmConfig := ingestfarm.Config{
		AfterLogin: c.PgPerfFarm.AfterLogin, Staff: c.PgPerfFarm.Staff, MaxBody: c.Ingest.UploadBytes,
		Hold: c.Ingest.UploadPatience, KeepKeys: c.Ingest.IdempotencyWindow, Proxies: tokens.Proxies,
		Limits: farm.Limits{MaxDepth: c.Ingest.UploadDepth, MaxResults: c.Ingest.UploadResults, MaxRows: c.Ingest.UploadRows},
	}
	if c.PgPerfFarm.LoginURL != "" {
		farmConfig.Login = pgweb.Config{LoginURL: c.PgPerfFarm.LoginURL, Key: key, Version: c.PgPerfFarm.AuthVersion}
	}
	return ingest.Config{
		Farm: farmConfig, Debci: p.debciConfig(), Testflinger: p.testflingerConfig(), Jobs: jobsConfig(c),
		Files: filesConfig(c), Webhooks: webhooks,
		SubmissionBytes: c.Jobs.KeptBytes, Tokens: tokens, KeepKeys: c.Ingest.IdempotencyWindow,
	}, nil
}

// composeIngest adds the write endpoints to the tables.
func (p *process) composeIngest(settings ingest.Config) error {
	look := lookups{process: p, newest: &atomic.Pointer[projectedRun]{}}
	var err error
	p.ingest, err = ingest.New(settings, ingest.Dependencies{
		Client: p.log, Appender: p.appender, Registry: p.registry, Runs: p.runs, Jobs: p.jobs, Keyring: p.keys, Packer: p.packer,
		Blobs: p.blobs, StoredRun: look.storedRun, StoredKey: storedKeysOf(look), Run: look.run, DeadLetter: look.deadLetter,
		FindSubmissions: look.submissions, TestflingerTokens: p.tokens, Agents: look.agents, FindJob: look.jobWithID, Pieces: look.pieces,
		Rejected: p.rejected, DebciTest: look.debciTest, DebciPrivate: look.debciPrivate,
		Now: time.Now, Metrics: p.metrics, Logger: p.logger,
	})
	if err != nil {
		return err
	}
	p.apis = p.ingest.APIs()
	p.routes = append(p.routes, p.space.guard(p.ingest.Routes())...)
	return nil
}

func (p *process) metricsRoute() route.Route {
	handler := telemetry.MetricsHandler(p.metrics, p.logger)
	return route.Route{
		Method: http.MethodGet, Path: "/metrics", Side: route.Each, API: "millrace", Access: route.Loopback | route.TokenOperator,
		Summary: "Measurements of this process, for Prometheus",
		Answers: []route.Answer{{Status: 200, Body: "", ContentType: "text/plain", Description: "The measurements."}},
		Handler: gin.WrapH(handler),
	}
}

// bodyBytes bounds the bodies that reads and claims hold between them, in bytes; files are not held.
const bodyBytes = 64 << 20

// mountOptions are those of the public listener.
func (p *process) mountOptions() route.Options {
	c := p.options.Config
	apis := map[string]route.API{"operations": {}}
	for name, api := range p.apis {
		apis[name] = api
	}
	if p.pages != nil {
		apis[ui.API] = p.pages.API()
	}
	return route.Options{
		APIs:      apis,
		Ingest:    p.writes,
		Query:     route.NewAdmission(c.Query.MaxRequests, bodyBytes),
		Waiting:   route.NewAdmission(c.Jobs.MaxWaiting, bodyBytes),
		Watching:  route.NewAdmission(c.Jobs.MaxWaiting, bodyBytes),
		Uploads:   route.NewAdmission(c.Files.AtOnce, bodyBytes),
		Downloads: route.NewAdmission(c.Files.AtOnce, bodyBytes),
		Timeout:   c.Ingest.RequestTimeout, Patience: c.Ingest.BodyPatience, Metrics: p.metrics, Tracer: p.tracing.Tracer("millrace"), Log: p.logger,
	}
}

func (p *process) newEngine(routes []route.Route, options route.Options) (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	if err := engine.SetTrustedProxies(p.options.Config.TrustedProxies); err != nil {
		return nil, fmt.Errorf("trusted_proxies: %w", err)
	}
	if err := route.Mount(engine, routes, options); err != nil {
		return nil, err
	}
	return engine, nil
}

// serve answers on the public listener and the operator's socket until ctx ends and the last request has been answered.
func (p *process) serve(ctx context.Context) error {
	public, err := p.newEngine(p.routes, p.mountOptions())
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if p.has(Ingest) {
		if err := p.serveSocket(ctx, group); err != nil {
			return err
		}
	}
	server := &route.Server{Handler: public, Health: p.health, Log: p.logger, Drain: drainTime}
	group.Go(func() error { return server.Serve(ctx, p.listener) })
	address := "http://" + Reachable(p.listener.Addr().String())
	logger := p.logger
	if p.pages != nil {
		logger = logger.With("pages", address+"/ui")
	}
	logger.Info("serving", "role", string(p.options.Role), "address", address, "log", p.log.LogID, "epoch", p.epoch)
	if p.options.Started != nil {
		p.options.Started(p.listener.Addr().String())
	}
	if p.options.Config.Demo && p.has(Ingest) {
		group.Go(func() error { p.loadDemo(ctx); return nil })
	}
	return group.Wait()
}

// serveSocket answers the operator on this machine: whoever may open the socket, by its mode the data folder's owner.
func (p *process) serveSocket(ctx context.Context, group *errgroup.Group) error {
	path, err := filepath.Abs(filepath.Join(p.options.Config.Data, SocketName))
	if err != nil {
		return fmt.Errorf("find the operator's socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace the operator's socket: %w", err)
	}
	listener, err := listenPrivately(path)
	if err != nil {
		return err
	}
	routes := append(p.ingest.OperatorRoutes(), p.own...)
	routes = append(routes, p.socketReads...)
	engine, err := p.newEngine(routes, route.Options{
		APIs: map[string]route.API{"millrace": {Authorize: access.Socket}}, Timeout: p.options.Config.Ingest.RequestTimeout, Log: p.logger,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &route.Server{Handler: engine, Health: p.health, Log: p.logger, Drain: drainTime}
	group.Go(func() error { return server.Serve(ctx, listener) })
	return nil
}

// listenPrivately makes a socket that is never open to others, not even for a moment.
func listenPrivately(path string) (net.Listener, error) {
	part := path + ".new"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace the operator's socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: part, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the operator's socket %s (its path may be too long: keep the data folder's under 90 characters): %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(part, 0o600), os.Rename(part, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the operator's socket: %w", err), listener.Close())
	}
	return listener, nil
}

// listen opens the address to serve on.
func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another process listens on %s: end it, or set MILLRACE_LISTEN (listen in the settings file) to another address: %w", address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("MILLRACE_LISTEN (listen in the settings file): listen on %s: %w", address, err)
	}
	return listener, nil
}

// Reachable turns an address to listen on into one to connect to: a process that listens on every address of the
// machine is found on loopback.
func Reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// runProxy puts the services on one origin: each request goes where the tables say.
func runProxy(ctx context.Context, o Options) error {
	upstreams, err := parseUpstreams(o)
	if err != nil {
		return err
	}
	listener, err := listen(o.Config.Listen)
	if err != nil {
		return err
	}
	routes, err := Tables(o.Config)
	if err != nil {
		return err
	}
	health := route.NewHealth(o.Logger, upstreams.Checks())
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	apis := map[string]route.API{"operations": {}}
	for i := range routes {
		apis[routes[i].API] = route.API{}
	}
	apis[ingestdebci.API] = route.API{Refuse: access.RefuseDebci}
	apis[ingesttestflinger.API] = access.TestflingerForm()
	forwarded := append(health.Routes(), route.Forward(routes, upstreams, o.Logger)...)
	if err := route.Mount(engine, forwarded, route.Options{APIs: apis, Patience: o.Config.Ingest.BodyPatience, Log: o.Logger}); err != nil {
		return err
	}
	server := &route.Server{Handler: engine, Health: health, Log: o.Logger, Drain: drainTime}
	o.Logger.Info("serving", "role", string(o.Role), "address", "http://"+Reachable(listener.Addr().String()))
	return server.Serve(ctx, listener)
}

func parseUpstreams(o Options) (route.Upstreams, error) {
	ingestURL, ingestErr := url.Parse(o.Config.Proxy.Ingest)
	queryURL, queryErr := url.Parse(o.Config.Proxy.Query)
	if err := errors.Join(ingestErr, queryErr); err != nil {
		return route.Upstreams{}, fmt.Errorf("proxy.ingest and proxy.query: %w", err)
	}
	return route.Upstreams{Ingest: ingestURL, Query: queryURL}, nil
}
