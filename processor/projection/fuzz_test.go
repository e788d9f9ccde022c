package projection

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/processor/pgperffarm"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
)

// FuzzAddRun looks for documents that the parser accepts and that leave a trace although they cannot be projected, or
// give what is no JSON.
func FuzzAddRun(f *testing.F) {
	paths, err := filepath.Glob("../pgperffarm/testdata/*.json")
	if err != nil || len(paths) == 0 {
		f.Fatalf("there are no example documents: %v", err)
	}
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add(farmdoc.Synthetic(farmdoc.Small(farmdoc.Options{})))
	f.Fuzz(func(t *testing.T, body []byte) {
		doc, err := pgperffarm.Parse(body, pgperffarm.DefaultLimits())
		if err != nil {
			return
		}
		l, b := newLab(t), NewBatch()
		if err := l.add(b, l.accept(doc)); err != nil {
			if b.Rows() != 0 || b.Bytes() != 0 {
				t.Errorf("%v, and there are %d rows of %d bytes", err, b.Rows(), b.Bytes())
			}
			return
		}
		for _, row := range b.tables[results].values {
			for _, text := range row[len(row)-4:] {
				if !json.Valid([]byte(text.(string))) {
					t.Errorf("no JSON: %s", text)
				}
			}
		}
	})
}
