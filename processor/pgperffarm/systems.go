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
	bytes int // of what is known
}

// Bounds of what is remembered, in bytes: a system's text, and all systems.
const (
	maxSystemText = 64 << 10
	maxSystems    = 8 << 20
	// settingHeader is what a Setting takes beside its texts: three strings of two words.
	settingHeader = 48
)

// size estimates the bytes that a system takes: its values are about as long as the text, each setting has a header.
func (s *System) size(text string) int { return 2*len(text) + settingHeader*len(s.Settings) }

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
	kept := string(text)
	known := *system
	known.Hardware = Hardware{Sysctl: system.Hardware.Sysctl}
	known.Settings = slices.Clip(known.Settings)
	if _, again := s.known[kept]; again {
		return
	}
	s.bytes += known.size(kept)
	for other, forgotten := range s.known {
		if s.bytes <= maxSystems {
			break
		}
		delete(s.known, other)
		s.bytes -= forgotten.size(other)
	}
	if s.known == nil {
		s.known = map[string]System{}
	}
	s.known[kept] = known
}
