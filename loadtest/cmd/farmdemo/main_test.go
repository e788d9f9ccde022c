package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/loadtest/pgbench"
)

func TestChangesAreFiveDifferentCommits(t *testing.T) {
	titles := map[string]string{}
	for _, change := range changes() {
		commit := pgbench.SettingsCommit(change.settings)
		if other, there := titles[commit]; there {
			t.Errorf("%q and %q have the same settings", other, change.title)
		}
		titles[commit] = change.title
	}
	if len(titles) != 5 {
		t.Errorf("%d commits, want 5", len(titles))
	}
}

func TestTestsAreSixConfigurations(t *testing.T) {
	type configuration struct {
		clients, scale int
		readOnly       bool
	}
	seen := map[configuration]bool{}
	for _, test := range tests(3) {
		for _, clients := range test.Clients {
			seen[configuration{clients, test.Scale, test.ReadOnly}] = true
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d configurations, want 6: %v", len(seen), seen)
	}
}

func TestWrongUseIsRefusedSayingWhatIsMissing(t *testing.T) {
	t.Setenv(secretVariable, "")
	for arguments, want := range map[string]string{
		"":                                     "-server URL or -record FOLDER",
		"-server http://x -record y":           "-server URL or -record FOLDER",
		"-server http://x":                     secretVariable,
		"-server http://x -secret s -rounds 0": "-rounds 0",
	} {
		err := run(t.Context(), strings.Fields(arguments), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("farmdemo %s: error %v, want one with %q", arguments, err, want)
		}
	}
}

func TestRecordingGoesOnWhereTheLastEndedAndOverwritesNothing(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "history")
	for _, document := range []string{"first", "second"} {
		deliver, err := recorder(folder)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := deliver(t.Context(), []byte(document)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"001.json": "first", "002.json": "second"} {
		got, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
}
