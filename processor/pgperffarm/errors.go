package pgperffarm

import "fmt"

// FormatError says that the body is not an upload at all: not JSON, not an array of exactly one object, nested too
// deeply. It means status 400.
type FormatError struct {
	Offset int64  // bytes from the start of the body, -1 when no place can be named
	Member string // path of the member at that place, empty at the top
	Reason string
}

func (e *FormatError) Error() string {
	switch {
	case e.Member != "":
		return fmt.Sprintf("body at byte %d (%s): %s", e.Offset, e.Member, e.Reason)
	case e.Offset >= 0:
		return fmt.Sprintf("body at byte %d: %s", e.Offset, e.Reason)
	}
	return "body: " + e.Reason
}

// DocumentError says which member of a well-formed document is missing or invalid, and why. It means status 406.
type DocumentError struct {
	Member string // path, for example pgbench[0].iterations[2].tps
	Reason string // what is wrong, with the limit where one is involved
}

func (e *DocumentError) Error() string { return e.Member + ": " + e.Reason }
