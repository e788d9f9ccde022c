package app

import (
	"context"
	"encoding/hex"
	"strings"

	ingestdebci "github.com/millrace/millrace/ingest/debci"
	"github.com/millrace/millrace/processor/debci"
	"github.com/millrace/millrace/processor/projection"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/eventlog"
)

func (p *process) debciRules() debci.Rules {
	c := p.options.Config.Debci
	sources := make(map[string]debci.AllowedSource, len(c.AptSources))
	for name, source := range c.AptSources {
		sources[name] = debci.AllowedSource{Entry: source.Entry, AllowedUsers: source.AllowedUsers}
	}
	return debci.Rules{Suites: c.Suites, Architectures: c.Architectures, Backends: c.Backends, AptSources: sources}
}

func (p *process) debciConfig() ingestdebci.Config {
	c := p.options.Config
	return ingestdebci.Config{
		Rules: p.debciRules(), MaxTests: c.Debci.MaxTests, MaxBody: c.Debci.RequestBytes, KeepKeys: c.Ingest.IdempotencyWindow,
	}
}

// debciTest finds a test of debci's.
func (l lookups) debciTest(ctx context.Context, run uint64) (*ingestdebci.Test, error) {
	database, err := l.current(ctx, eventlog.Jobs)
	if err != nil {
		return nil, outOfReach(err)
	}
	rows, err := l.db.Query(ctx, strings.ReplaceAll(`SELECT owner, sealed_submitter, document, blob, blob_size, encoding, size,
			private AND (SELECT count() = 0 FROM {db}.job_publications WHERE seq = ?)
		FROM {db}.jobs WHERE seq = ? AND family = 'debci' LIMIT 1`, "{db}", "`"+database+"`"), run, run)
	if err != nil {
		return nil, outOfReach(err)
	}
	var owner, sealed string
	var stored projection.StoredDocument
	var found ingestdebci.Test
	ok, err := scanOne(rows, &owner, &sealed, &stored.Inline, &stored.Blob, &stored.BlobSize, &stored.Encoding, &stored.Size, &found.Private)
	if err != nil || !ok {
		return nil, err
	}
	found.Owner, found.SealedOwner = []byte(owner), []byte(sealed)
	found.Document, err = l.packer.Unpack(ctx, stored.Document())
	return &found, err
}

// debciPrivate gives those among some runs that are private tests of an owner.
func (l lookups) debciPrivate(ctx context.Context, owner registry.Hash, runs []uint64) ([]uint64, error) {
	database, err := l.current(ctx, eventlog.Jobs)
	if err != nil {
		return nil, outOfReach(err)
	}
	rows, err := l.db.Query(ctx, strings.ReplaceAll(`SELECT DISTINCT seq FROM {db}.jobs
		WHERE seq IN (?) AND owner = unhex(?) AND private AND family = 'debci'
			AND seq NOT IN (SELECT seq FROM {db}.job_publications WHERE seq IN (?))
		ORDER BY seq`, "{db}", "`"+database+"`"), runs, hex.EncodeToString(owner[:]), runs)
	if err != nil {
		return nil, outOfReach(err)
	}
	defer func() { _ = rows.Close() }()
	var own []uint64
	for rows.Next() {
		var run uint64
		if err := rows.Scan(&run); err != nil {
			return nil, err
		}
		own = append(own, run)
	}
	if err := rows.Err(); err != nil {
		return nil, outOfReach(err)
	}
	return own, nil
}
