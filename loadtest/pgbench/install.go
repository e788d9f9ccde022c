package pgbench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// installation holds the paths of the programs of one PostgreSQL.
type installation struct {
	initdb, postgres, pgbench string
}

// debianPrograms matches the folders in which Debian and Ubuntu keep each major version's programs, off the PATH.
const debianPrograms = "/usr/lib/postgresql/*/bin"

// errNotInstalled tells how to get what is missing.
var errNotInstalled = errors.New("PostgreSQL's server programs (initdb, postgres, pgbench) are neither on the PATH nor in " +
	debianPrograms + "; install them with: sudo apt-get install postgresql postgresql-contrib")

// findInstallation looks on the PATH first, so that a PostgreSQL of the user's own wins, then for Debian's newest.
func findInstallation() (installation, error) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if found, ok := installationIn(filepath.Dir(initdb)); ok {
			return found, nil
		}
	}
	folders, err := filepath.Glob(debianPrograms)
	if err != nil {
		return installation{}, fmt.Errorf("look for PostgreSQL in %s: %w", debianPrograms, err)
	}
	if found, ok := newestIn(folders); ok {
		return found, nil
	}
	return installation{}, errNotInstalled
}

// newestIn takes folders named .../MAJOR/bin and picks the complete installation with the highest major version.
func newestIn(folders []string) (best installation, ok bool) {
	bestMajor := -1
	for _, folder := range folders {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
		if err != nil || major <= bestMajor {
			continue
		}
		if found, complete := installationIn(folder); complete {
			best, bestMajor, ok = found, major, true
		}
	}
	return best, ok
}

func installationIn(folder string) (installation, bool) {
	found := installation{
		initdb:   filepath.Join(folder, "initdb"),
		postgres: filepath.Join(folder, "postgres"),
		pgbench:  filepath.Join(folder, "pgbench"),
	}
	for _, program := range []string{found.initdb, found.postgres, found.pgbench} {
		info, err := os.Stat(program)
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return installation{}, false
		}
	}
	return found, true
}
