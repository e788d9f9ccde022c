package clickhouse

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// Migrate creates or updates the installation's own database.
func (db *DB) Migrate(ctx context.Context) error {
	return db.migrate(ctx, db.Name, "migrations/system")
}

// MigrateGeneration creates or updates the database of one generation of the projections.
func (db *DB) MigrateGeneration(ctx context.Context, generation uint32) error {
	return db.migrate(ctx, db.Generation(generation), "migrations/projections")
}

// migrate brings one database up to date. ClickHouse has neither transactions nor locks for this: every statement says
// IF NOT EXISTS, so that several processes may do it at the same time.
func (db *DB) migrate(ctx context.Context, database, folder string) error {
	if err := db.Exec(ctx, "CREATE DATABASE IF NOT EXISTS `"+database+"`"); err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return fmt.Errorf("open migrations: %w", err)
	}
	options := *db.options
	options.Auth.Database = database
	pool := ch.OpenDB(&options)
	provider, err := goose.NewProvider(goose.DialectClickHouse, pool, files, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return errors.Join(fmt.Errorf("prepare migrations of %s: %w", database, err), pool.Close())
	}
	if _, err := provider.Up(ctx); err != nil {
		return errors.Join(fmt.Errorf("migrate %s: %w", database, err), provider.Close())
	}
	return provider.Close()
}

// Current reads which generation of the projections readers use. It is 0 while there is none.
func (db *DB) Current(ctx context.Context) (uint32, error) {
	var generation uint32
	err := db.QueryRow(ctx, "SELECT max(generation) FROM `"+db.Name+"`.generations WHERE state = 'current'").Scan(&generation)
	if err != nil {
		return 0, fmt.Errorf("read the current generation: %w", err)
	}
	return generation, nil
}

// Serving reads which generation readers can use: the current one, or 0 while its database is gone.
func (db *DB) Serving(ctx context.Context) (uint32, error) {
	current, err := db.Current(ctx)
	if err != nil || current == 0 {
		return 0, err
	}
	exists, err := db.Exists(ctx, db.Generation(current))
	if err != nil || !exists {
		return 0, err
	}
	return current, nil
}

// MakeCurrent names a generation current. Readers follow within a second.
func (db *DB) MakeCurrent(ctx context.Context, generation uint32) error {
	err := db.Exec(ctx, "INSERT INTO `"+db.Name+"`.generations (generation, state) VALUES (?, 'current')", generation)
	if err != nil {
		return fmt.Errorf("make generation %d current: %w", generation, err)
	}
	return nil
}

// databaseExists is the engine's code for a database that is there already.
const databaseExists = 82

// Allocate takes the number of a new generation and makes its database, which is what takes the number: of several
// processes that try, the engine lets one.
func (db *DB) Allocate(ctx context.Context) (uint32, error) {
	var newest uint32
	if err := db.QueryRow(ctx, "SELECT max(generation) FROM `"+db.Name+"`.generations").Scan(&newest); err != nil {
		return 0, fmt.Errorf("read the newest generation: %w", err)
	}
	for number := newest + 1; ; number++ {
		err := db.Exec(ctx, "CREATE DATABASE `"+db.Generation(number)+"`")
		if exception := (*ch.Exception)(nil); errors.As(err, &exception) && exception.Code == databaseExists {
			continue
		}
		if err == nil {
			err = db.Exec(ctx, "INSERT INTO `"+db.Name+"`.generations (generation, state) VALUES (?, 'building')", number)
		}
		if err != nil {
			return 0, fmt.Errorf("begin generation %d: %w", number, err)
		}
		return number, nil
	}
}

// DropOlder removes the databases of all generations before one, but the one that readers may still be in.
func (db *DB) DropOlder(ctx context.Context, generation, keep uint32) error {
	for number := uint32(1); number < generation; number++ {
		if number == keep {
			continue
		}
		if err := db.Exec(ctx, "DROP DATABASE IF EXISTS `"+db.Generation(number)+"` SYNC"); err != nil {
			return fmt.Errorf("drop generation %d of the projections: %w", number, err)
		}
	}
	return nil
}

// Exists says whether a database is there.
func (db *DB) Exists(ctx context.Context, database string) (bool, error) {
	var count uint64
	if err := db.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = ?", database).Scan(&count); err != nil {
		return false, fmt.Errorf("look for database %s: %w", database, err)
	}
	return count > 0, nil
}
