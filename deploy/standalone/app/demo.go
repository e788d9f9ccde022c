package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"

	"github.com/millrace/millrace/deploy/standalone/demo"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/runs"
)

// demoName is the recorded history's machine and its owner.
const demoName = "demo"

// loadDemo loads the recorded history into an installation that has no machine yet, by the doors that everybody uses. A
// load that was cut off is continued.
func (p *process) loadDemo(ctx context.Context) {
	if err := errors.Join(p.registry.CatchUp(ctx), p.runs.CatchUp(ctx)); err != nil {
		p.logger.Warn("the recorded history is not loaded", "error", err)
		return
	}
	var fresh, begun bool
	p.registry.View(func(s *registry.State) {
		fresh = len(s.Machines) == 0
		begun = len(s.Machines) == 1 && s.Machines[0].Alias == demoName
	})
	p.runs.View(func(s *runs.State) { begun = begun && s.Runs < demo.Runs })
	if !fresh && !begun {
		return
	}
	summary, err := p.uploadDemo(ctx, begun)
	if err != nil {
		if ctx.Err() == nil {
			p.logger.Warn("the recorded history is not loaded whole", "runs", summary.Stored, "error", err)
		}
		return
	}
	p.logger.Info("loaded the recorded history", "runs", summary.Stored+summary.Present, "pages", "http://"+Reachable(p.listener.Addr().String())+"/ui")
}

func (p *process) uploadDemo(ctx context.Context, begun bool) (demo.Summary, error) {
	socket := filepath.Join(p.options.Config.Data, SocketName)
	operator := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer operator.CloseIdleConnections()
	machine, err := demoMachine(ctx, operator, begun)
	if err != nil {
		return demo.Summary{}, err
	}
	base := "http://" + Reachable(p.listener.Addr().String())
	return demo.Load(ctx, &http.Client{}, base, machine.Secret, func(done demo.Progress) {
		p.logger.Debug("loaded a recorded run", "document", done.Document, "number", done.Number)
	})
}

// demoMachine registers the history's machine, or gives it another secret, since the first was only shown once.
func demoMachine(ctx context.Context, operator *http.Client, begun bool) (answer struct{ Secret string }, err error) {
	const admin = "/millrace/v1/admin/pgperffarm/"
	if begun {
		return command(ctx, operator, admin+"machines/rotate", map[string]any{"alias": demoName})
	}
	if _, err := command(ctx, operator, admin+"users", map[string]any{"name": demoName}); err != nil {
		return answer, err
	}
	return command(ctx, operator, admin+"machines", map[string]any{
		"alias": demoName, "owner": demoName, "approved": true,
		"description": "recorded history: real pgbench runs, five server settings as commits",
	})
}

func command(ctx context.Context, client *http.Client, path string, body any) (answer struct{ Secret string }, err error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return answer, fmt.Errorf("encode %s: %w", path, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://millrace"+path, bytes.NewReader(encoded))
	if err != nil {
		return answer, fmt.Errorf("prepare %s: %w", path, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return answer, fmt.Errorf("send %s: %w", path, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil || response.StatusCode >= http.StatusBadRequest {
		return answer, fmt.Errorf("%s answers %d: %s", path, response.StatusCode, text)
	}
	return answer, json.Unmarshal(text, &answer)
}
