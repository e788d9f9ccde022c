// Package scenarios holds the scenario files that come with the harness.
package scenarios

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml
var files embed.FS

// Files are the scenario files, each NAME.yaml.
func Files() fs.FS { return files }
