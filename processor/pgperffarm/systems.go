package pgperffarm

import (
	"encoding/binary"
	"slices"
	"sync"
)

// Systems remembers what documents say of the systems that they come from, but for the hardware, whose frequency changes.
// A machine says the same in run after run, and it is costly to read: kernel parameters, settings as CSV. What is
// remembered is found by the bytes that it was read from, so that an answer never depends on it. The zero Systems and nil
// are ready; many may use one at once.
type Systems struct {
	mu    sync.Mutex
	known map[string]System
	bytes int // of the texts that are known
}

// Bounds of what is remembered, in bytes of the documents: a system's text, and all of them.
const (
	maxSystemText  = 64 << 10
	maxSystemTexts = 8 << 20
)

// steadyMembers are those that a System is read from, but for its hardware.
var steadyMembers = [...]string{"kernel", "os_information", "sysctl_log", "compiler", "postgres_settings"}

// text gives all that a system is read from, nil when nothing is to be remembered: the limits that it has to keep to, for one
// that is known is not checked again, and the members, which their lengths keep apart.
func (s *Systems) text(found *members, limits Limits) []byte {
	if s == nil {
		return nil
	}
	size := 0
	for _, name := range steadyMembers {
		size += len(found.get(name))
	}
	if size > maxSystemText {
		return nil
	}
	text := make([]byte, 0, size+binary.MaxVarintLen64*(len(steadyMembers)+2))
	text = binary.AppendUvarint(binary.AppendUvarint(text, uint64(limits.MaxDepth)), uint64(limits.MaxRows))
	for _, name := range steadyMembers {
		value := found.get(name)
		text = append(binary.AppendUvarint(text, uint64(len(value))), value...)
	}
	return text
}

func (s *Systems) find(text []byte, system *System) bool {
	if text == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.known[string(text)]
	if ok {
		*system = known
	}
	return ok
}

// keep remembers a system; any others are forgotten when there are too many.
func (s *Systems) keep(text []byte, system *System) {
	if text == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range s.known {
		if s.bytes+len(text) <= maxSystemTexts {
			break
		}
		delete(s.known, other)
		s.bytes -= len(other)
	}
	if s.known == nil {
		s.known = map[string]System{}
	}
	known := *system
	known.Hardware = Hardware{Sysctl: system.Hardware.Sysctl}
	known.Settings = slices.Clip(known.Settings)
	if _, again := s.known[string(text)]; !again {
		s.bytes += len(text)
	}
	s.known[string(text)] = known
}
