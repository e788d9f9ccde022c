// Package farm plays machines of the PostgreSQL Performance Farm: it makes numbered upload documents, sends them as a
// careful or a careless client would, and reads the farm's lists back.
package farm

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/millrace/millrace/loadtest/ledger"
	"github.com/millrace/millrace/processor/pgperffarm/farmdoc"
)

// Size is how large a document is.
type Size string

// The sizes: about 2 KB with one result, and about 100 KB with four.
const (
	Small Size = "small"
	Large Size = "large"
)

// Results is how many pgbench results a document of this size has.
func (s Size) Results() int {
	if s == Large {
		return 4
	}
	return 1
}

// Validate refuses other words.
func (s Size) Validate() error {
	if s != Small && s != Large {
		return fmt.Errorf("document size %q is neither small (2 KB) nor large (100 KB)", s)
	}
	return nil
}

// Plan makes the documents of a load. The same plan makes the same documents.
type Plan struct {
	Seed uint64
	Size Size
	// RunsPerCommit is how many runs of a machine show one commit; 0 and 1 give each run its own, so that lists by commit
	// show every run by itself.
	RunsPerCommit int
}

// epoch is the start of every machine's first run, and spacing the time between two: as long as a run takes.
var epoch = time.Date(2010, 1, 4, 0, 0, 0, 0, time.UTC)

const spacing = 10 * time.Minute

// MaxNumber bounds the numbers of a machine: a later run would begin in the future.
const MaxNumber = 800_000

// Start is the run_start_time of a machine's upload.
func Start(number int) time.Time { return epoch.Add(time.Duration(number) * spacing) }

// Machines are some of the target's machines, which take turns. Their uploads are numbered from From on.
type Machines struct{ First, Count, From int }

// Upload is the i-th upload of these machines together.
func (m Machines) Upload(i int) ledger.Upload {
	return ledger.Upload{Machine: m.First + i%m.Count, Number: m.From + i/m.Count}
}

// Config is the pgbench configuration of a machine: its clients.
func Config(machine int) farmdoc.Config {
	return farmdoc.Config{Clients: 1 + machine%50, Scale: 20, Duration: 120, ReadOnly: true}
}

// Document makes an upload's body.
func (p Plan) Document(u ledger.Upload) []byte {
	options := farmdoc.Options{
		Seed:    p.Seed ^ uint64(u.Machine)<<32 ^ uint64(u.Number),
		Commit:  Commit(u.Machine, u.Number/max(1, p.RunsPerCommit)),
		Start:   Start(u.Number),
		Configs: []farmdoc.Config{Config(u.Machine)},
	}
	if p.Size == Large {
		return farmdoc.Synthetic(farmdoc.Large(options))
	}
	return farmdoc.Synthetic(farmdoc.Small(options))
}

// mark begins every commit of a load: no real hash does.
var mark = [8]byte{'l', 'o', 'a', 'd', 't', 'e', 's', 't'}

// Commit names a machine's commit as 40 hexadecimal digits that can be read back.
func Commit(machine, number int) string {
	var text [20]byte
	copy(text[:], mark[:])
	binary.BigEndian.PutUint32(text[8:], uint32(machine))
	binary.BigEndian.PutUint64(text[12:], uint64(number))
	return hex.EncodeToString(text[:])
}

// ParseCommit reads a commit of a load back.
func ParseCommit(commit string) (ledger.Upload, error) {
	text, err := hex.DecodeString(commit)
	if err != nil || len(text) != 20 || [8]byte(text[:8]) != mark {
		return ledger.Upload{}, fmt.Errorf("commit %q is not of this load", commit)
	}
	return ledger.Upload{
		Machine: int(binary.BigEndian.Uint32(text[8:])), Number: int(binary.BigEndian.Uint64(text[12:])),
	}, nil
}
