package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/ingest/door"
	ingesttestflinger "github.com/millrace/millrace/ingest/testflinger"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/query/gate"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/route"
)

// testflingerTokens gives what makes and checks the tokens of Testflinger's clients: the same in every process.
func (p *process) testflingerTokens() (*testflinger.Tokens, error) {
	generation, err := testflinger.ParseGeneration(p.options.Config.Testflinger.API)
	if err != nil {
		return nil, err
	}
	key := []byte(p.options.Config.Testflinger.JWTSigningKey)
	if len(key) == 0 {
		key = access.TestflingerTokenKey(p.keys)
	}
	return testflinger.NewTokens(generation, key, time.Now), nil
}

func (p *process) testflingerConfig() ingesttestflinger.Config {
	c := p.options.Config
	return ingesttestflinger.Config{
		Generation: p.tokens.Generation(), Lease: c.Testflinger.Lease, Requeues: uint32(c.Testflinger.Requeues),
		MaxBody: c.Testflinger.RequestBytes, MaxExclusions: c.Testflinger.Exclusions, KeepKeys: c.Ingest.IdempotencyWindow,
	}
}

// heard gives reads that keep the leases of the jobs that they name: a process that reads appends nothing but that.
func (p *process) heard(routes []route.Route) []route.Route {
	pulse := ingesttestflinger.NewPulse(p.tokens.Generation(), p.options.Config.Testflinger.Lease, ingesttestflinger.PulseDependencies{
		Log: door.Connect(p.log, p.appender), Jobs: door.Bind(eventlog.Jobs, p.jobs, p.appender, nil), Now: time.Now, Logger: p.logger,
	})
	return pulse.Around(routes)
}

// agents gives the agents that spoke lately, with the queues that they serve.
func (l lookups) agents(ctx context.Context) (map[string][]string, error) {
	database, err := l.current(ctx, eventlog.Results)
	if err != nil {
		return nil, outOfReach(err)
	}
	rows, err := l.db.Query(ch.Context(ctx, ch.WithSettings(gate.Settings())), "SELECT name, argMaxIf(value, version, field = ?) FROM `"+database+"`.testflinger_agents "+
		"WHERE field IN (?, ?) GROUP BY name HAVING max(at) > now() - ?", projection.AgentQueues, projection.AgentQueues,
		projection.AgentUpdated, int64(testflinger.RememberedFor/time.Second))
	if err != nil {
		return nil, outOfReach(err)
	}
	defer func() { _ = rows.Close() }()
	agents := map[string][]string{}
	for rows.Next() {
		var name, list string
		if err := rows.Scan(&name, &list); err != nil {
			return nil, fmt.Errorf("read agents: %w", err)
		}
		queues := []string{}
		if list != "" { // it said which
			if err := json.Unmarshal([]byte(list), &queues); err != nil {
				return nil, fmt.Errorf("read the queues of agent %s: %w", name, err)
			}
		}
		agents[name] = queues
	}
	if err := rows.Err(); err != nil {
		return nil, outOfReach(err)
	}
	return agents, nil
}

// jobWithID gives the number of the newest job with an id; 0 when there is none.
func (l lookups) jobWithID(ctx context.Context, id string) (uint64, error) {
	database, err := l.current(ctx, eventlog.Jobs)
	if err != nil {
		return 0, outOfReach(err)
	}
	var seq uint64
	if err := l.db.QueryRow(ctx, "SELECT max(seq) FROM `"+database+"`.jobs WHERE job_id = ?", id).Scan(&seq); err != nil {
		return 0, outOfReach(err)
	}
	return seq, nil
}

// maxPieces bounds the pieces of output that are given out at a time.
const maxPieces = 10_000

// pieces is ingesttestflinger.Dependencies.Pieces. Of a piece that stands in the log twice the first one counts.
func (l lookups) pieces(ctx context.Context, jobID string, kind event.JobOutputKind, after uint64, known bool, limit int64,
) (*ingesttestflinger.Pieces, error) {
	topics := []string{eventlog.JobOutput}
	if !known {
		topics = append(topics, eventlog.Jobs)
	}
	database, err := l.current(ctx, topics...)
	if err != nil {
		return nil, outOfReach(err)
	}
	database = "`" + database + "`"
	found, name := &ingesttestflinger.Pieces{After: after}, projection.OutputKind(kind)
	if !known {
		row := l.db.QueryRow(ctx, "SELECT max(through) FROM "+database+".job_output_taken WHERE job_id = ? AND kind = ?", jobID, name)
		if err := row.Scan(&found.After); err != nil {
			return nil, outOfReach(err)
		}
	}
	rows, err := l.db.Query(ctx, strings.ReplaceAll(`SELECT version, document, blob, blob_size, encoding, size FROM {db}.job_output
		WHERE job_id = ? AND kind = ? AND version > ? AND version IN
			(SELECT min(version) FROM {db}.job_output WHERE job_id = ? AND kind = ? GROUP BY event_id)
		ORDER BY version LIMIT 1 BY version LIMIT ?`, "{db}", database), jobID, name, found.After, jobID, name, maxPieces)
	if err != nil {
		return nil, outOfReach(err)
	}
	defer func() { _ = rows.Close() }()
	for left := limit; left > 0 && rows.Next(); {
		var d projection.StoredDocument
		if err := rows.Scan(&found.Through, &d.Inline, &d.Blob, &d.BlobSize, &d.Encoding, &d.Size); err != nil {
			return nil, fmt.Errorf("read output: %w", err)
		}
		found.Documents = append(found.Documents, d.Document())
		left -= int64(d.Size) + 1
	}
	if err := rows.Err(); err != nil {
		return nil, outOfReach(err)
	}
	return found, nil
}
