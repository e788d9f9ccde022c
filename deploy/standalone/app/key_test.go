package app

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/deploy/standalone/backup"
	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
)

func TestAnInstallationsEnginesOpenOnlyWithItsKey(t *testing.T) {
	folder := t.TempDir()
	startPipeline(t, folder).stop()
	c := config.Default()
	c.Data = folder
	options := Options{Role: Standalone, Config: c, Progress: io.Discard, Logger: slog.New(slog.DiscardHandler)}
	wantMistake := func(t *testing.T, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "MILLRACE_KEY_FILE") {
			t.Errorf("error is %v, want one that names MILLRACE_KEY_FILE", err)
		}
	}
	open := func(o Options) error {
		k, err := openCore(t.Context(), o, prometheus.NewRegistry(), keyMayBeNew)
		if err == nil {
			k.close()
		}
		return err
	}

	missing := options
	missing.Config.KeyFile = filepath.Join(t.TempDir(), "key")
	wantMistake(t, open(missing))
	wantMistake(t, Backup(t.Context(), missing, io.Discard))
	if _, err := os.Stat(missing.Config.KeyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made for an installation that has one: %v", err)
	}

	other := missing
	if _, err := keyring.Open(other.Config.KeyFile); err != nil {
		t.Fatal(err)
	}
	wantMistake(t, open(other))
	wantMistake(t, Backup(t.Context(), other, io.Discard))

	if err := Backup(t.Context(), options, &bytes.Buffer{}); err != nil {
		t.Errorf("with its own key: %v", err)
	}
}

func TestAQueryServiceMakesNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := checkKeyFile(path, "", keyPolicyOf(Query)); err == nil || !strings.Contains(err.Error(), "MILLRACE_KEY_FILE") {
		t.Errorf("error is %v, want one that names MILLRACE_KEY_FILE", err)
	}
	for _, first := range []Role{Standalone, Ingest, Processor} {
		if err := checkKeyFile(path, "", keyPolicyOf(first)); err != nil {
			t.Errorf("the first start as %s: %v", first, err)
		}
	}
}

func TestAServiceOfAClusterNeedsItsEnginesAndItsBlobStore(t *testing.T) {
	err := Run(t.Context(), Options{Role: Ingest, Config: config.Default(), Logger: slog.New(slog.DiscardHandler)})
	for _, variable := range []string{"MILLRACE_KAFKA", "MILLRACE_CLICKHOUSE", "MILLRACE_BLOB"} {
		if err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("error is %v, want one that names %s", err, variable)
		}
	}
}

func TestAWrongRedisAddressIsNotQuoted(t *testing.T) {
	c := config.Default()
	c.Redis = "redis://:hunter2@127.0.0.1:port/0"
	if err := (&engines{}).openRedis(c, Query); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v, want one without the password", err)
	}
	c.Redis = ""
	e := &engines{}
	if err := e.openRedis(c, Query); err != nil || e.redis != nil || e.redisd != nil {
		t.Errorf("a query service without an address has Redis %v, %v", e.redis, err)
	}
}

func TestABackupWithoutABlobThatARecordRefersToFailsUnlessItsFileHasExpired(t *testing.T) {
	folder := t.TempDir()
	l := startPipeline(t, folder)
	e, err := eventlog.NewEvent("/test", &event.FarmMachineApproveRequested{Alias: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	e.DataRef = strings.Repeat("ab", 32)
	if _, _, err := l.registry.Decide(t.Context(), l.appender, e); err != nil {
		t.Fatal(err)
	}
	save := func() error {
		_, err := backup.Write(t.Context(), io.Discard, backup.Source{
			Log: l.log, Archive: l.archive, Epoch: l.epoch, Blobs: l.blobs, KeyFile: filepath.Join(folder, "key"), KeyID: l.keys.ID(),
		})
		return err
	}
	if err := save(); err == nil || !strings.Contains(err.Error(), e.DataRef) {
		t.Errorf("error is %v, want one that names the blob", err)
	}
	expired, err := eventlog.NewEvent("/test", &event.JobFileExpired{EventId: e.ID.String()})
	if err != nil {
		t.Fatal(err)
	}
	expired.DataRef, expired.Key = e.DataRef, []byte(e.ID.String())
	if _, err := l.appender.Append(t.Context(), eventlog.Partition{Topic: eventlog.Results}, expired); err != nil {
		t.Fatal(err)
	}
	if err := save(); err != nil {
		t.Errorf("once the file has expired: %v", err)
	}
}
