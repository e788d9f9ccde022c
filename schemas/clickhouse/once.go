package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Block is rows that are to be in a table once, however often they are sent.
type Block struct {
	Database, Table string
	// Columns are those of the rows, with ", " between.
	Columns string
	// Token is the block's alone, the same whenever it is sent.
	Token string
	// Fill adds the rows to a batch.
	Fill func(driver.Batch) error
	// Witnesses gives rows by which InsertOnce tells whether the block is there, as a whole or not at all: all of them, or so
	// many that they are in no other block together.
	Witnesses func() [][]any
}

// sendings bounds the tokens that a block is sent under.
const sendings = 8

// InsertOnce sends a block. again says that it may have been sent before.
//
// ClickHouse drops a block whose token it knows. But it notes a token before the rows: when it is killed between the two,
// it takes the block, sent again, for one that is there. So a block that may have been sent before is looked for, and sent
// under another token when it is missing. Rows may also be gone because their time was over, in tables where they have one.
func (db *DB) InsertOnce(ctx context.Context, b Block, again bool) error {
	if err := db.InsertBlock(ctx, b); err != nil || !again {
		return err
	}
	id, err := db.identity(ctx, b.Database, b.Table)
	if err != nil {
		return err
	}
	next := b
	for n := 2; ; n++ {
		missing, err := db.missing(ctx, b, id)
		switch {
		case err != nil || !missing:
			return err
		case n > sendings && id.expires:
			return nil
		case n > sendings:
			return fmt.Errorf("%s lacks rows that were sent to it under %d tokens: look into ClickHouse's log", b.Table, sendings)
		}
		next.Token = b.Token + "/" + strconv.Itoa(n)
		if err := db.InsertBlock(ctx, next); err != nil {
			return err
		}
	}
}

func (b *Block) qualified() string { return "`" + b.Database + "`." + b.Table }

// InsertBlock sends a block, unless ClickHouse knows its token.
func (db *DB) InsertBlock(ctx context.Context, b Block) error {
	batch, err := db.Insert(ctx, b.qualified(), b.Columns, b.Token)
	if err != nil {
		return err
	}
	defer func() { _ = batch.Close() }()
	if err := b.Fill(batch); err != nil {
		return fmt.Errorf("fill a batch for %s: %w", b.Table, err)
	}
	rows := batch.Rows()
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert %d rows into %s: %w", rows, b.Table, err)
	}
	return nil
}

// identity is what tells the rows of a table apart: columns with their types. version is the one of which the greatest value
// stays of rows that are equal otherwise; empty when there is none.
type identity struct {
	names   []string
	types   map[string]column.Type
	version string
	// expires says that rows have a time after which they are gone.
	expires bool
}

func (db *DB) identity(ctx context.Context, database, table string) (id identity, err error) {
	rows, err := db.Query(ctx, `WITH (SELECT engine_full FROM system.tables WHERE database = ? AND name = ?) AS engine
		SELECT name, type, is_in_sorting_key, name = extract(engine, '^ReplacingMergeTree\\((\\w+)\\)') AS is_version, position(engine, ' TTL ') > 0
		FROM system.columns WHERE database = ? AND table = ? AND (is_in_sorting_key OR is_version)`, database, table, database, table)
	if err != nil {
		return id, fmt.Errorf("read the key of %s: %w", table, err)
	}
	defer func() { _ = rows.Close() }()
	id.types = map[string]column.Type{}
	for rows.Next() {
		var name, kind string
		var inKey, isVersion, expires uint8
		if err := rows.Scan(&name, &kind, &inKey, &isVersion, &expires); err != nil {
			return id, fmt.Errorf("read the key of %s: %w", table, err)
		}
		if plain, ok := strings.CutPrefix(kind, "LowCardinality("); ok {
			kind = strings.TrimSuffix(plain, ")")
		}
		id.types[name] = column.Type(kind)
		if inKey == 1 {
			id.names = append(id.names, name)
		}
		if isVersion == 1 {
			id.version = name
		}
		id.expires = expires == 1
	}
	return id, rows.Err()
}

// missing says whether one of a block's witnesses is in the table neither as it is nor in a newer version.
func (db *DB) missing(ctx context.Context, b Block, id identity) (bool, error) {
	wanted, err := id.tableOf(b)
	if err != nil {
		return false, fmt.Errorf("look for a block in %s: %w", b.Table, err)
	}
	key, version := strings.Join(id.names, ", "), id.version
	if version == "" {
		version = "1"
	}
	var count uint64
	err = db.QueryRow(ch.Context(ctx, ch.WithExternalTable(wanted)), fmt.Sprintf(`SELECT count() FROM wanted
		LEFT JOIN (SELECT %[1]s, max(%[2]s) AS newest, 1 AS there FROM %[3]s WHERE (%[1]s) IN (SELECT %[1]s FROM wanted) GROUP BY %[1]s) AS found
		USING (%[1]s) WHERE there = 0 OR newest < %[2]s SETTINGS join_use_nulls = 0`, key, version, b.qualified())).Scan(&count)
	if err != nil {
		return false, fmt.Errorf("look for a block in %s: %w", b.Table, err)
	}
	return count > 0, nil
}

// tableOf puts the identifying columns of a block's witnesses into a table that goes with a query.
func (id identity) tableOf(b Block) (*ext.Table, error) {
	names := id.names
	if id.version != "" && !slices.Contains(names, id.version) {
		names = append(slices.Clone(names), id.version)
	}
	columns, places := make([]func(*ext.Table) error, len(names)), make([]int, len(names))
	all := strings.Split(b.Columns, ", ")
	for i, name := range names {
		columns[i] = ext.Column(name, id.types[name])
		if places[i] = slices.Index(all, name); places[i] < 0 {
			return nil, fmt.Errorf("its rows have no %s", name)
		}
	}
	wanted, err := ext.NewTable("wanted", columns...)
	if err != nil {
		return nil, err
	}
	for _, row := range b.Witnesses() {
		values := make([]any, len(places))
		for i, place := range places {
			values[i] = row[place]
		}
		if err := wanted.Append(values...); err != nil {
			return nil, err
		}
	}
	return wanted, nil
}
