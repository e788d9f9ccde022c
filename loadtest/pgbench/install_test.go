package pgbench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install makes a folder with the named programs and returns it.
func install(t *testing.T, folder string, programs ...string) string {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(folder, program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestNewestCompleteInstallationIsTaken(t *testing.T) {
	root := t.TempDir()
	folders := []string{
		install(t, filepath.Join(root, "15", "bin"), "initdb", "postgres", "pgbench"),
		install(t, filepath.Join(root, "9.6", "bin"), "initdb", "postgres", "pgbench"),
		install(t, filepath.Join(root, "17", "bin"), "pgbench"), // the client package alone
		install(t, filepath.Join(root, "16", "bin"), "initdb", "postgres", "pgbench"),
	}
	found, ok := newestIn(folders)
	if want := filepath.Join(root, "16", "bin", "postgres"); !ok || found.postgres != want {
		t.Errorf("newestIn = %+v, %v; want %s", found, ok, want)
	}
	if found, ok := newestIn(folders[2:3]); ok {
		t.Errorf("an installation without a server was taken: %+v", found)
	}
}

func TestInstallationOnThePathWins(t *testing.T) {
	own := install(t, filepath.Join(t.TempDir(), "own"), "initdb", "postgres", "pgbench")
	t.Setenv("PATH", own)
	found, err := findInstallation()
	if err != nil {
		t.Fatal(err)
	}
	if found.pgbench != filepath.Join(own, "pgbench") {
		t.Errorf("findInstallation = %+v, want the one in %s", found, own)
	}
}

func TestMissingInstallationIsRefusedWithTheCommandThatInstallsIt(t *testing.T) {
	if !strings.Contains(errNotInstalled.Error(), "apt-get install postgresql") {
		t.Errorf("%q does not say how to install", errNotInstalled)
	}
	if _, err := os.Stat("/usr/lib/postgresql"); err == nil {
		t.Skip("PostgreSQL is installed in Debian's place, so it is found whatever the PATH")
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := findInstallation(); err != errNotInstalled {
		t.Errorf("findInstallation: %v, want %v", err, errNotInstalled)
	}
}
