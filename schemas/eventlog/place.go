package eventlog

import "fmt"

// Place is a spot in one partition over all logs of an installation: logs follow each other in epochs, from 1.
type Place struct {
	Epoch  uint32
	Offset int64
}

// Before says whether p comes earlier than other.
func (p Place) Before(other Place) bool {
	return p.Epoch < other.Epoch || p.Epoch == other.Epoch && p.Offset < other.Offset
}

func (p Place) String() string { return fmt.Sprintf("%d:%d", p.Epoch, p.Offset) }
